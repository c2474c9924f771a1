"""Makes what the contract suites of the ledger write: arrivals and runs of one pipeline, at noon."""

from datetime import UTC, datetime

from functions.core.completion import CompletionEvent
from functions.core.endings import announce
from functions.core.ledger import Arrival, Cause, CauseKind, Run
from functions.core.manifest import ManifestPointer
from functions.core.model import (
    ArrivalState,
    BatchId,
    BlobVersion,
    JobKey,
    Outcome,
    PipelineKey,
    RunKind,
    RunState,
    Stage,
)
from functions.core.run_transitions import end_run
from functions.core.tokens import arrival_id_of, run_id_of
from tests.support.control_plane import make_blob

__all__ = ["NOON", "PIPELINE", "failed", "make_arrival", "make_run"]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PIPELINE = PipelineKey("flight_delay_scoring")


def make_arrival(
    blob: BlobVersion | None = None, *, state: ArrivalState = ArrivalState.HELD, at: datetime = NOON
) -> Arrival:
    """Return an arrival of the pipeline, or one that nobody wants."""
    blob = blob or make_blob()
    return Arrival(
        id=arrival_id_of(blob),
        blob=blob,
        state=state,
        event_id="e1",
        event_time=at,
        api="PutBlob",
        content_type="",
        recorded_at=at,
        updated_at=at,
        pipeline=PIPELINE if state is ArrivalState.HELD else None,
        reason=None if state is ArrivalState.HELD else "nobody wants it",
    )


def make_run(*, at: datetime = NOON, name: str = "a") -> Run:
    """Return a run of the pipeline that is decided and was never sent."""
    return Run(
        id=run_id_of(PIPELINE, at, "request", name),
        pipeline=PIPELINE,
        kind=RunKind.SCORING,
        job=JobKey("scoring"),
        environment="local",
        state=RunState.DECIDED,
        cause=Cause(kind=CauseKind.REQUEST, name=name, at=at),
        stages=dict.fromkeys((Stage.VALIDATION, Stage.FEATURE_ENGINEERING, Stage.BATCH_SCORING, Stage.PUBLISH), True),
        parameters={"max_quarantined_fraction": "0.05"},
        model_name="main.tidegate.flight_delay",
        model_version="7",
        batch_id=BatchId("0" * 16),
        output_url="https://tidegatelocal.blob.core.windows.net/scores/x",
        created_at=at,
        updated_at=at,
        max_attempts=3,
        manifest=ManifestPointer(
            url="https://tidegatelocal.blob.core.windows.net/tidegate/manifests/x.json", sha256="0" * 64
        ),
    )


def failed(run: Run) -> Run:
    """Return the run with its failure announced to nobody yet."""
    event: CompletionEvent = announce(run, Outcome.FAILED, "scripted", now=NOON)
    return end_run(run, event, NOON)
