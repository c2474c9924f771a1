"""Names what a decision is made of: the situation, the input, and the run, the wait or the refusal that follows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from functions.core.ledger import Arrival, Cause
from functions.core.model import BlobVersion, PipelineKey, RunId, Stage
from functions.core.pipelines import Pipeline
from functions.core.reasons import HoldReason, SkipReason
from functions.core.routing import Routing
from functions.core.signal_records import SignalMark
from functions.core.turnstile import Refusal

__all__ = [
    "ArrivalsInput",
    "Decision",
    "Hold",
    "ListedInput",
    "NamedInput",
    "RunInput",
    "SignalState",
    "Situation",
    "Skip",
    "StartRun",
    "Wanted",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a decision depends on beside the event and the configuration."""

    environment: str
    account: str  # the one storage account that this environment watches
    model_version: str | None = None  # that the pipeline's alias names now; None: no model yet
    active_runs: int = 0  # of the pipeline, with those that wait to be sent
    refusal: Refusal | None = None  # why no run of the pipeline may start now
    known_versions: tuple[BlobVersion, ...] = ()  # of the event's path, as the ledger has them
    checkpoints: frozenset[Stage] = frozenset()  # stages whose output earlier attempts on the same files left
    signal: "SignalState | None" = None  # of the rule that listens to the event; None: not asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalState:
    """When the rule that listens to a signal last started a run."""

    now: datetime
    mark: SignalMark | None  # None: never


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalsInput:
    """The run reads these arrivals, frozen."""

    arrivals: tuple[Arrival, ...]
    kept: tuple[BlobVersion, ...] = ()  # and these files of the version that it replaces


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedInput:
    """The run reads these blobs, in the version they have when the batch is frozen."""

    blobs: tuple[tuple[str, str], ...]  # container and path


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedInput:
    """The run reads what is under these places when the batch is frozen: container, prefix, glob, suffix."""

    places: tuple[tuple[str, str, str, str], ...]


RunInput = ArrivalsInput | NamedInput | ListedInput


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRun:
    """The decision to start exactly one run; its token follows when its files are frozen."""

    run_id: RunId
    pipeline: Pipeline
    cause: Cause
    stages: Mapping[Stage, bool]
    parameters: Mapping[str, str]
    model_version: str | None
    input: RunInput
    config_version: str
    traceparent: str | None
    must_cancel_active: bool = False  # policy supersede: the active run is cancelled and waited for first
    consignment: str = ""  # whose files it reads
    replaces: RunId | None = None  # the run over the consignment's version before


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """The decision to keep what was accepted and to look again later."""

    pipeline: PipelineKey
    reason: HoldReason
    wait_s: float  # until looking again is worth it; 0: now
    route: str = ""
    routing: Routing | None = None
    consignment: str = ""  # whose other files it waits for
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """The decision to start nothing."""

    reason: SkipReason
    detail: str = ""
    pipeline: PipelineKey | None = None
    routing: Routing | None = None
    consignment: str = ""  # which a seal speaks of

    def __str__(self) -> str:
        return f"{self.reason.sentence}: {self.detail}" if self.detail else self.reason.sentence


Decision = StartRun | Hold | Skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a cause asks of its pipeline, before the rules have looked at it."""

    run_id: RunId
    cause: Cause
    input: RunInput
    traceparent: str | None
    stages: Mapping[Stage, bool] = field(default_factory=dict[Stage, bool])  # overrides of the pipeline's
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])  # likewise
