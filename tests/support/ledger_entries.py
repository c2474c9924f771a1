"""Makes arrivals, runs and events for the tests of their transitions and rows."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.core.completion import CompletionEvent
from functions.core.errors import IllegalTransitionError
from functions.core.ledger import (
    Arrival,
    Cause,
    CauseKind,
    Run,
)
from functions.core.lineage import OutputsRef
from functions.core.manifest import ManifestPointer
from functions.core.model import (
    ArrivalState,
    BatchId,
    BlobVersion,
    DatabricksRunId,
    IdempotencyToken,
    JobKey,
    Outcome,
    PipelineKey,
    RunId,
    RunKind,
    RunState,
    Stage,
)
from functions.core.run_transitions import (
    end_run,
    persist_token,
    record_submitted,
)
from functions.core.tokens import arrival_id_of

__all__ = [
    "BASE",
    "DATABRICKS_RUN",
    "LATER",
    "OTHER_RUN_ID",
    "OUTPUTS",
    "POINTER",
    "RUN_ID",
    "T0",
    "TOKEN",
    "ended",
    "make_arrival",
    "make_event",
    "make_run",
    "refusal_of",
    "submitted",
    "submitting",
]

T0 = datetime(2026, 1, 1, tzinfo=UTC)
LATER = T0 + timedelta(minutes=1)
BASE = "https://acct.blob.core.windows.net"
RUN_ID = RunId("scoring-20260101T000000Z-0123456789ab")
OTHER_RUN_ID = RunId("scoring-20260101T000000Z-ffffffffffff")
TOKEN = IdempotencyToken("a" * 64)
DATABRICKS_RUN = DatabricksRunId(2**40)
POINTER = ManifestPointer(url=f"{BASE}/tidegate/manifests/scoring/x.json", sha256="b" * 64)
OUTPUTS = OutputsRef(
    scores_url=f"{BASE}/scores/x",
    manifest_url=f"{BASE}/scores/x/_manifest.json",
    manifest_sha256="c" * 64,
    rows_in=2,
    rows_scored=2,
    rows_quarantined=0,
)


def make_arrival(state: ArrivalState = ArrivalState.HELD, **changes: Any) -> Arrival:
    """Return an arrival in a state, changed as told."""
    blob = BlobVersion(account="acct", container="input", path="in/a.parquet", etag="0x8D", size_bytes=9)
    fields: dict[str, Any] = {
        "id": arrival_id_of(blob),
        "blob": blob,
        "state": state,
        "event_id": "e",
        "event_time": T0,
        "api": "PutBlob",
        "content_type": "",
        "recorded_at": T0,
        "updated_at": T0,
        "pipeline": PipelineKey("scoring"),
        "run_id": None if state in {ArrivalState.HELD, ArrivalState.IGNORED, ArrivalState.SUPERSEDED} else RUN_ID,
    }
    return Arrival(**(fields | changes))


def make_run(kind: RunKind = RunKind.SCORING, **changes: Any) -> Run:
    """Return a decided run, changed as told."""
    fields: dict[str, Any] = {
        "id": RUN_ID,
        "pipeline": PipelineKey("scoring"),
        "kind": kind,
        "job": JobKey("scoring"),
        "environment": "local",
        "state": RunState.DECIDED,
        "cause": Cause(kind=CauseKind.ARRIVALS, name="b", at=T0),
        "stages": {Stage.PUBLISH: True},
        "parameters": {},
        "model_name": "main.tidegate.model",
        "model_version": "3" if kind is RunKind.SCORING else None,
        "batch_id": BatchId("0123456789abcdef"),
        "output_url": f"{BASE}/scores/x" if kind is RunKind.SCORING else "",
        "created_at": T0,
        "updated_at": T0,
        "manifest": POINTER,
    }
    return Run(**(fields | changes))


def make_event(run: Run, outcome: Outcome = Outcome.COMPLETED, **changes: Any) -> CompletionEvent:
    """Return the event of a run's end, changed as told."""
    fields: dict[str, Any] = {
        "run_id": run.id,
        "attempt": run.attempt,
        "outcome": outcome,
        "reason": None if outcome is Outcome.COMPLETED else "it broke",
        "pipeline": run.pipeline,
        "kind": run.kind,
        "environment": run.environment,
        "token": run.token or TOKEN,
        "databricks_run_id": DATABRICKS_RUN,
        "time": LATER,
        "announced_by": "control_plane",
        "outputs": OUTPUTS if outcome is Outcome.COMPLETED else None,
    }
    return CompletionEvent(**(fields | changes))


def submitting(**changes: Any) -> Run:
    """Return a run whose token is persisted."""
    return persist_token(make_run(**changes), TOKEN, T0)


def submitted(**changes: Any) -> Run:
    """Return a run that Databricks has."""
    return record_submitted(submitting(**changes), DATABRICKS_RUN, T0, run_page_url="http://x/run/1")


def ended(outcome: Outcome = Outcome.FAILED, **changes: Any) -> Run:
    """Return a run that has ended."""
    run = submitted(**changes)
    return end_run(run, make_event(run, outcome), LATER)


def refusal_of(act: Callable[[], object]) -> str:
    """Return the rule by which a transition is refused."""
    with pytest.raises(IllegalTransitionError) as refused:
        act()
    return refused.value.rule
