"""Names the things the control plane decides about: events, decisions, arrivals and runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NewType
from urllib.parse import quote

ArrivalId = NewType("ArrivalId", str)  # sha256 in hex over account, container, path and ETag
PipelineKey = NewType("PipelineKey", str)  # a name in pipelines.toml
JobKey = NewType("JobKey", str)  # names a template in job_templates/
RunId = NewType("RunId", str)  # "<pipeline>-<yyyymmddThhmmssZ of the cause>-<12 hex>", ours, stable over attempts
DatabricksRunId = NewType("DatabricksRunId", int)
DatabricksJobId = NewType("DatabricksJobId", int)
IdempotencyToken = NewType("IdempotencyToken", str)  # sha256 in hex: 64 characters, the Jobs API's limit
BatchId = NewType("BatchId", str)  # 16 hex over the sorted arrival ids: the same files give the same batch

MODEL_NAME: Final = r"\w+\.\w+\.\w+"  # the pattern of catalog.schema.model


class RunKind(StrEnum):
    """What a pipeline's runs produce."""

    TRAINING = "training"
    SCORING = "scoring"


class Stage(StrEnum):
    """A part of a job that can be switched on; the value is its parameter name."""

    VALIDATION = "validation"
    FEATURE_ENGINEERING = "feature_engineering"
    TRAINING = "training"
    EVALUATION = "evaluation"
    BATCH_SCORING = "batch_scoring"
    PUBLISH = "publish"


class StageOutcome(StrEnum):
    """How a stage of an attempt went."""

    RAN = "ran"
    SKIPPED_BY_FLAG = "skipped_by_flag"
    SKIPPED_BY_UPSTREAM = "skipped_by_upstream"
    FAILED = "failed"


class Outcome(StrEnum):
    """How an attempt of a run ended, as its completion event says it."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"


class ArrivalState(StrEnum):
    """Where an arrival stands."""

    HELD = "held"  # accepted, waiting for its pipeline's batch to close
    ASSIGNED = "assigned"  # frozen into exactly one run's batch
    IGNORED = "ignored"  # nothing wants it; the reason says why
    SUPERSEDED = "superseded"  # a newer version of the same path arrived first
    SCORED = "scored"  # its run completed and the output manifest was verified
    FAILED = "failed"  # its run ended without scores; can be retried by an explicit next attempt
    SEAL = "seal"  # says that the files beside it are complete; never a file of a batch


class ArrivalSource(StrEnum):
    """How an arrival became known."""

    EVENT = "event"  # Event Grid said that its content was committed
    RENAME = "rename"  # Event Grid said that it was renamed; size and ETag are what storage had then
    SWEEP = "sweep"  # no event came: a listing found it
    BACKFILL = "backfill"  # a person had it handed over, which was there before


class RunState(StrEnum):
    """Where a run stands between its decision and its end."""

    DECIDED = "decided"  # batch frozen, manifest written, nothing sent
    SUBMITTING = "submitting"  # token persisted; the call may or may not have reached Databricks
    SUBMITTED = "submitted"  # Databricks answered with its run id
    REPORTED = "reported"  # the notebook announced its end; Databricks has not confirmed yet
    ENDED = "ended"  # outcome is set and proven


def require_utc(value: datetime, name: str) -> datetime:
    """Return `value` if it is an aware UTC datetime, else raise ValueError naming the field."""
    if value.tzinfo is None or value.utcoffset() != UTC.utcoffset(None):
        raise ValueError(f"{name} must be an aware UTC datetime, got {value!r}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobVersion:
    """One immutable content of one blob: what the identity of an arrival is made of."""

    account: str
    container: str
    path: str  # decoded, as the blob is named: spaces, '#', '%' and Unicode are themselves
    etag: str  # without quotes
    size_bytes: int
    sequencer: str | None = None  # orders versions of one path only; None when the source has none

    @property
    def url(self) -> str:
        """The https URL on Azure's public endpoint, percent-encoded; the same locally, where settings map the host."""
        return f"https://{self.account}.blob.core.windows.net/{self.container}/{quote(self.path, safe='/~')}"

    @property
    def is_readable(self) -> bool:
        """Whether Spark reads this very path: of an empty, `.` or `..` segment it makes another one."""
        return not any(segment in {"", ".", ".."} for segment in self.path.split("/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobCreated:
    """A blob's content was committed (Microsoft.Storage.BlobCreated, either schema), or is there all the same."""

    event_id: str
    event_time: datetime
    api: str
    blob: BlobVersion
    content_type: str
    traceparent: str | None = None
    source: ArrivalSource = ArrivalSource.EVENT

    def __post_init__(self) -> None:
        require_utc(self.event_time, "event_time")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobRenamed:
    """A file of a hierarchical account got another name (Microsoft.Storage.BlobRenamed); nothing says its content."""

    event_id: str
    event_time: datetime
    api: str
    account: str
    container: str
    path: str  # the new name
    sequencer: str | None  # of the new name
    traceparent: str | None = None

    def __post_init__(self) -> None:
        require_utc(self.event_time, "event_time")


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherBlobEvent:
    """Something else happened to a blob, such as its deletion: recorded, never acted on."""

    event_id: str
    event_time: datetime
    event_type: str  # as Event Grid spells it
    api: str
    blob: BlobVersion  # the ETag is "event:<id>" where the event has none, so that each event is an arrival of its own
    traceparent: str | None = None

    def __post_init__(self) -> None:
        require_utc(self.event_time, "event_time")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotDue:
    """A schedule's slot came due."""

    pipeline: PipelineKey
    schedule: str
    slot: datetime
    is_past_due: bool
    traceparent: str | None = None

    def __post_init__(self) -> None:
        require_utc(self.slot, "slot")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequested:
    """A person or a system asked for a run over HTTP."""

    pipeline: PipelineKey
    request_id: str  # the Idempotency-Key, or one made at the edge
    requested_at: datetime
    stages: Mapping[Stage, bool] = field(default_factory=dict[Stage, bool])  # overrides of the pipeline's defaults
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    files: tuple[tuple[str, str], ...] = ()  # container and path; empty: the pipeline's own input
    traceparent: str | None = None

    def __post_init__(self) -> None:
        require_utc(self.requested_at, "requested_at")


class SignalType(StrEnum):
    """What a monitor found out about a model; the value is the CloudEvents type."""

    DRIFT_DETECTED = "tidegate.model.drift_detected.v1"  # what is scored differs from what was trained on
    DECAY_DETECTED = "tidegate.model.decay_detected.v1"  # the scores are worse than they were


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSignal:
    """A monitor found drift or decay of a model in a window of time."""

    event_id: str
    source: str  # with the id, the identity of the event
    type: SignalType
    time: datetime
    environment: str
    model_name: str
    model_version: str | None
    window_start: datetime
    window_end: datetime
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    reason: str | None = None
    traceparent: str | None = None

    def __post_init__(self) -> None:
        for name in ("time", "window_start", "window_end"):
            require_utc(getattr(self, name), name)


TriggerEvent = BlobCreated | OtherBlobEvent | SlotDue | RunRequested | ModelSignal
