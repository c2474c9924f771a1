"""Makes what decisions are made about, for two pipelines: one that trains and one that scores."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from functions.core.batching import close_batch
from functions.core.decided import (
    Decision,
    Hold,
    Situation,
    Skip,
    StartRun,
)
from functions.core.freezing import Frozen, freeze
from functions.core.ledger import Arrival
from functions.core.model import (
    ArrivalState,
    BlobCreated,
    BlobVersion,
    JobKey,
    PipelineKey,
    RunRequested,
    SlotDue,
)
from functions.core.pipelines import Pipelines
from functions.core.pipelines_toml import parse_pipelines
from functions.core.reasons import HoldReason, SkipReason
from functions.core.tokens import arrival_id_of

__all__ = [
    "HERE",
    "PIPELINES",
    "SCORE",
    "T0",
    "TRAIN",
    "close",
    "frozen",
    "make_arrival",
    "make_blob",
    "make_created",
    "make_pipelines",
    "make_request",
    "make_slot",
    "reason_of",
    "started",
]

T0 = datetime(2026, 1, 1, 3, tzinfo=UTC)
_TOML = """
schema = 1
[pipelines.train]
kind = "training"
job = "training"
model = "main.tidegate.m"
callers_may_set = ["seed"]
[pipelines.train.training_data]
container = "input"
prefix = "history/"
[[pipelines.train.schedules]]
name = "monthly"
cron = "0 0 3 1 * *"
missed = "skip"
[pipelines.score]
kind = "scoring"
job = "scoring"
model = "main.tidegate.m"
[[pipelines.score.routes]]
name = "csv"
container = "input"
prefix = "new/"
glob = "*.csv"
min_size_bytes = 10
max_size_bytes = 1000
content_types = ["text/csv"]
[[pipelines.score.routes]]
name = "parquet"
container = "input"
prefix = "new/"
glob = "*"
suffix = ".parquet"
[pipelines.score.output]
container = "scores"
"""


def make_pipelines(extra: str = "") -> Pipelines:
    """Return the pipelines of these tests, with more of the file."""
    jobs = [JobKey("training"), JobKey("scoring")]
    return parse_pipelines((_TOML + extra).encode(), file="pipelines.toml", known_jobs=jobs)


PIPELINES = make_pipelines()
TRAIN, SCORE = PipelineKey("train"), PipelineKey("score")
HERE = Situation(environment="local", account="acct", model_version="3")


def make_blob(path: str = "new/a.parquet", **changes: Any) -> BlobVersion:
    """Return a blob that the pipeline wants."""
    fields: dict[str, Any] = {"account": "acct", "container": "input", "etag": "0x8D", "size_bytes": 100}
    return BlobVersion(path=path, **(fields | changes))


def make_created(
    path: str = "new/a.parquet", *, api: str = "PutBlob", content_type: str = "", **blob: Any
) -> BlobCreated:
    """Return the event of such a blob."""
    return BlobCreated(
        event_id="e", event_time=T0, api=api, blob=make_blob(path, **blob), content_type=content_type, traceparent=None
    )


def make_arrival(path: str = "new/a.parquet", *, after_s: float = 0, **changes: Any) -> Arrival:
    """Return its held arrival, so many seconds after the first."""
    blob = make_blob(path)
    at = T0 + timedelta(seconds=after_s)
    fields: dict[str, Any] = {
        "id": arrival_id_of(blob),
        "blob": blob,
        "state": ArrivalState.HELD,
        "event_id": "e",
        "event_time": at,
        "api": "PutBlob",
        "content_type": "",
        "recorded_at": at,
        "updated_at": at,
        "pipeline": SCORE,
    }
    return Arrival(**(fields | changes))


def make_slot(**changes: Any) -> SlotDue:
    """Return a slot of the training schedule."""
    fields: dict[str, Any] = {"pipeline": TRAIN, "schedule": "monthly", "slot": T0, "is_past_due": False}
    return SlotDue(**(fields | changes))


def make_request(**changes: Any) -> RunRequested:
    """Return a request for training."""
    fields: dict[str, Any] = {"pipeline": TRAIN, "request_id": "key-1", "requested_at": T0}
    return RunRequested(**(fields | changes))


def reason_of(decision: Decision) -> SkipReason | HoldReason:
    """Return why nothing starts."""
    assert isinstance(decision, Skip | Hold)
    return decision.reason


def started(decision: Decision) -> StartRun:
    """Return what starts."""
    assert isinstance(decision, StartRun)
    return decision


def frozen(start: StartRun, files: tuple[BlobVersion, ...] = (make_blob(),), **changes: Any) -> Frozen:
    """Return what a start is with its files."""
    result = freeze(start, files, replace(HERE, **changes), now=T0 + timedelta(hours=1))
    assert isinstance(result, Frozen)
    return result


def close(held: list[Arrival], *, extra: str = "", now_s: float = 0, **situation: Any) -> Decision:
    """Return what becomes of held arrivals."""
    pipelines = make_pipelines(extra)
    return close_batch(
        pipelines.get(SCORE), held, pipelines, replace(HERE, **situation), now=T0 + timedelta(seconds=now_s)
    )
