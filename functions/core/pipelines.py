"""Names what `pipelines.toml` says: which events start which job, with which stages, and where results go."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Final
from zoneinfo import ZoneInfo

from functions.core.cron import Cron
from functions.core.errors import UnknownPipelineError
from functions.core.globs import Glob
from functions.core.limits import Limits
from functions.core.model import JobKey, PipelineKey, RunKind, SignalType, Stage
from functions.core.timetable import UTC_ZONE, Timetable

__all__ = [
    "CONTROL_CONTAINER",
    "CONTROL_CONTAINERS",
    "DEFAULT_STALLED_AFTER_MINUTES",
    "Batching",
    "Concurrency",
    "ConcurrencyPolicy",
    "LateFiles",
    "MissedSlots",
    "OnTimeout",
    "Output",
    "Pipeline",
    "Pipelines",
    "Readiness",
    "ReadinessKind",
    "Route",
    "Schedule",
    "SignalRule",
    "Threshold",
    "TrainingData",
]


CONTROL_CONTAINER: Final = "tidegate"  # our own manifests
# What Tidegate and the Functions host keep for themselves; never an input, never an output.
CONTROL_CONTAINERS: Final = frozenset({CONTROL_CONTAINER, "deadletter", "azure-webjobs-hosts", "azure-webjobs-secrets"})
DEFAULT_STALLED_AFTER_MINUTES: Final = 24 * 60


class MissedSlots(StrEnum):
    """What becomes of slots that came due while nothing could run."""

    RUN = "run"  # each of them
    SKIP = "skip"  # none of them
    LATEST = "latest"  # the last one


class ConcurrencyPolicy(StrEnum):
    """What happens to new work while the pipeline's runs are active."""

    PARALLEL = "parallel"  # up to max_active at once, the rest waits
    QUEUE = "queue"  # one after the other
    SUPERSEDE = "supersede"  # cancel the active run, wait for its end, then start
    DROP = "drop"  # record and forget


class ReadinessKind(StrEnum):
    """What else must be there before a batch may close; all but the first make a consignment of each folder."""

    NONE = "none"
    MARKER = "marker"  # a blob such as _SUCCESS in the folder
    MANIFEST = "manifest"  # a blob in the folder that lists the files
    COUNT = "count"  # so many files in the folder


class OnTimeout(StrEnum):
    """What becomes of a consignment that is not complete when its longest wait is over."""

    HOLD = "hold"  # it goes on waiting, and says so
    START = "start"  # it starts with what is there; what comes after is late


class LateFiles(StrEnum):
    """What becomes of a file whose consignment was frozen without it."""

    NEW_VERSION = "new_version"  # another run, over the consignment's whole present set of files
    QUARANTINE = "quarantine"  # it is recorded with this reason, and can be replayed


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """When a folder of files is complete, and what follows if it never is, or gets more afterwards."""

    kind: ReadinessKind = ReadinessKind.NONE
    name: str = ""  # of the marker or the manifest, within the folder
    count: int = 0  # of files
    on_timeout: OnTimeout = OnTimeout.HOLD
    late: LateFiles = LateFiles.NEW_VERSION

    @property
    def has_consignments(self) -> bool:
        """Whether the files of one folder stay together."""
        return self.kind is not ReadinessKind.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Which blobs a pipeline wants."""

    name: str
    container: str
    prefix: str  # "" or ends with "/", so that "in/" never means "inbox/"
    glob: str  # of the name after the prefix
    suffix: str = ""
    min_size_bytes: int = 1
    max_size_bytes: int | None = None
    content_types: frozenset[str] = frozenset()  # empty: any

    @property
    def names(self) -> Glob:
        """The names that it wants."""
        return Glob(self.prefix, self.glob, self.suffix)

    def includes(self, other: "Route") -> bool:
        """Return whether every blob that the other route wants is wanted by this one too."""
        return (
            self.container == other.container
            and self.min_size_bytes <= other.min_size_bytes
            and (
                self.max_size_bytes is None
                or (other.max_size_bytes is not None and other.max_size_bytes <= self.max_size_bytes)
            )
            and (not self.content_types or (bool(other.content_types) and other.content_types <= self.content_types))
            and self.names.includes(other.names)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a pipeline runs by the clock: in UTC, or as the clocks of a time zone show."""

    name: str
    cron: Cron
    missed: MissedSlots
    timezone: str = UTC_ZONE  # an IANA name

    @property
    def timetable(self) -> Timetable:
        """The slots, as instants in UTC."""
        return Timetable(self.cron, ZoneInfo(self.timezone))

    @property
    def has_timer(self) -> bool:
        """Whether a timer fires it; timers of the host know UTC only, so the reconciler fires the others."""
        return self.timezone == UTC_ZONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """What a metric of a signal must reach; exactly one of the two bounds is set."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRule:
    """Which signals about a model ask for a retraining, and how often at most."""

    name: str
    event_type: SignalType
    model_name: str
    cooldown_hours: int  # after the rule has started a run, it starts no other for so long
    threshold: Threshold | None = None  # None: any


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """When held arrivals become one run; all zero: at once."""

    quiet_seconds: int = 0  # nothing new for so long
    max_wait_seconds: int = 0  # but never longer than this after the first
    max_files: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """How many runs of the pipeline may be active."""

    policy: ConcurrencyPolicy = ConcurrencyPolicy.PARALLEL
    max_active: int = 4

    @property
    def capacity(self) -> int:
        """How many runs may be active before new work waits."""
        return self.max_active if self.policy is ConcurrencyPolicy.PARALLEL else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """Which blobs a training run reads when it is not given any."""

    container: str
    prefix: str
    glob: str

    @property
    def names(self) -> Glob:
        """The names that are meant."""
        return Glob(self.prefix, self.glob)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where a scoring pipeline's scores go; never an input."""

    container: str
    prefix: str  # ends with "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """One pipeline, complete: no default is left open."""

    key: PipelineKey
    kind: RunKind
    job: JobKey
    model_name: str  # catalog.schema.model
    alias: str
    stages: Mapping[Stage, bool]  # every stage of the kind
    parameters: Mapping[str, str]  # every tunable parameter of the kind
    callers_may_set: frozenset[str] = frozenset()  # which of them a request may choose
    routes: tuple[Route, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    signals: tuple[SignalRule, ...] = ()  # of a training pipeline
    training_data: TrainingData | None = None  # of a training pipeline
    output: Output | None = None  # of a scoring pipeline
    batching: Batching = field(default_factory=Batching)
    readiness: Readiness = field(default_factory=Readiness)
    concurrency: Concurrency = field(default_factory=Concurrency)
    max_attempts: int = 1
    stalled_after_minutes: int = DEFAULT_STALLED_AFTER_MINUTES  # an attempt that is open for longer is announced
    max_runs_per_day: int | None = None  # by UTC day; None: no budget of its own

    def input_places(self) -> tuple[str, ...]:
        """Return where the pipeline reads, as container/prefix."""
        data = () if self.training_data is None else (f"{self.training_data.container}/{self.training_data.prefix}",)
        return (*(f"{route.container}/{route.prefix}" for route in self.routes), *data)

    def reads(self, container: str, path: str) -> bool:
        """Return whether a blob lies where the pipeline reads: a request chooses files, never places."""
        return any(f"{container}/{path}".startswith(place) for place in self.input_places())

    def schedule(self, name: str) -> Schedule | None:
        """Return the schedule of this name, or None."""
        return next((schedule for schedule in self.schedules if schedule.name == name), None)


@dataclass(frozen=True, kw_only=True)
class Pipelines:
    """All pipelines in the file's order, which is the order in which their routes are tried."""

    pipelines: tuple[Pipeline, ...]
    version: str  # 16 hex over the content: comments and layout do not count
    limits: Limits = field(default_factory=Limits)  # of all of them together

    @cached_property
    def by_key(self) -> Mapping[PipelineKey, Pipeline]:
        """The pipelines by name."""
        return {pipeline.key: pipeline for pipeline in self.pipelines}

    def get(self, key: PipelineKey) -> Pipeline:
        """Return the pipeline of this name; raises UnknownPipelineError."""
        if (pipeline := self.by_key.get(key)) is None:
            raise UnknownPipelineError(key, tuple(self.by_key))
        return pipeline

    def is_written_by_runs(self, container: str, path: str) -> bool:
        """Return whether a blob is what a run wrote: scores, or what Spark leaves beside them."""
        outputs = [pipeline.output for pipeline in self.pipelines if pipeline.output is not None]
        if any(container == output.container and path.startswith(output.prefix) for output in outputs):
            return True
        read = {place.partition("/")[0] for pipeline in self.pipelines for place in pipeline.input_places()}
        return container in {output.container for output in outputs} - read

    @property
    def jobs(self) -> frozenset[JobKey]:
        """Every job that some pipeline starts."""
        return frozenset(pipeline.job for pipeline in self.pipelines)
