"""Gathers the configuration and the ports that every service needs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from functions.core.model import PipelineKey
from functions.core.pipelines import Pipelines
from functions.core.turnstile import Refusal, Turnstile
from functions.ports import (
    Clock,
    CompletionPublisher,
    Entry,
    InputStore,
    ManifestStore,
    ModelRegistry,
    OperationLog,
    Quarantine,
    RunLedger,
    RunSubmitter,
    SignalLedger,
    Telemetry,
    WorkQueue,
)
from functions.services.together import Together

__all__ = ["SLOWEST_WRITER", "ControlPlane", "Done", "Progress", "TurnstileChange", "Wait", "the_only_look"]

TurnstileChange = Callable[[Turnstile], Turnstile | Refusal]

SLOWEST_WRITER: Final = timedelta(minutes=5)  # host.json's functionTimeout: whoever began longer ago is dead


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """Everything that a service may touch."""

    environment: str
    account: str  # the storage account that is watched and that keeps the manifests
    pipelines: Pipelines
    ledger: RunLedger
    operations: OperationLog
    signals: SignalLedger
    submitter: RunSubmitter
    models: ModelRegistry
    inputs: InputStore
    manifests: ManifestStore
    queue: WorkQueue
    publisher: CompletionPublisher
    quarantine: Quarantine
    telemetry: Telemetry
    clock: Clock
    are_roles_required: bool = False  # whether callers over HTTP need an app role, as App Service says who they are
    retention: timedelta | None = None  # after which what is settled is removed from the ledger; None: never
    # When this process last asked for each pipeline to be looked at: a hint that saves messages, never an authority.
    wake_ups: dict[tuple[PipelineKey, str], datetime] = field(default_factory=dict[tuple[PipelineKey, str], datetime])
    looks: set[PipelineKey] = field(default_factory=set[PipelineKey])  # at whose held arrivals someone here looks now
    # The last turn that this process has given to someone who waits for starts to be spread, under the key "".
    turns: dict[str, datetime] = field(default_factory=dict[str, datetime])
    lock: threading.Lock = field(default_factory=threading.Lock)  # of the three above; never held during a call
    # How the turnstile looked when this process last saw it, and when that was: likewise a hint, under the key "".
    turnstile: dict[str, tuple[datetime, Entry[Turnstile]]] = field(
        default_factory=dict[str, tuple[datetime, Entry[Turnstile]]]
    )
    # Gathers the changes of this process's threads; None where they are no threads that could wait for each other.
    changes: Together[TurnstileChange, Turnstile | Refusal] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """There is nothing left to do for now; `what` says what was found or done."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """There is something left to do, and looking again is worth it after a while."""

    why: str
    seconds: float


Progress = Done | Wait


@contextmanager
def the_only_look(plane: ControlPlane, pipeline: PipelineKey) -> Iterator[bool]:
    """Say whether nobody else in this process looks at the pipeline's held arrivals; then nobody does meanwhile.

    Two who look read the same arrivals twice and take claims from each other. That is a waste, not a mistake: other
    processes may look at the same time.
    """
    with plane.lock:
        is_only = pipeline not in plane.looks
        if is_only:
            plane.looks.add(pipeline)
    try:
        yield is_only
    finally:
        if is_only:
            with plane.lock:
                plane.looks.discard(pipeline)
