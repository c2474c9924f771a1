"""Holds the judgement of endings to proof: only verified work is success, and nothing unknown is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.completion import CompletionEvent
from functions.core.databricks_states import RunStatus, Verdict, status_of
from functions.core.endings import End, GoAgain, Judgement, KeepWaiting, announce, is_stalled, judge
from functions.core.ledger import Cause, CauseKind, Run
from functions.core.lineage import InputsRef, ModelRef
from functions.core.manifest import InputManifest, ManifestFile, ManifestPointer, manifest_of
from functions.core.model import (
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
from functions.core.run_transitions import end_run
from functions.core.scores import ScoreColumn, ScoreFile, ScoresManifest

T0 = datetime(2026, 1, 1, tzinfo=UTC)
NOW = T0 + timedelta(minutes=5)
RUN_ID = RunId("score-20260101T000000Z-0123456789ab")
BASE = "https://acct.blob.core.windows.net"
OUTPUT_URL = f"{BASE}/scores/score/batch=x/model_version=3"
MANIFEST: InputManifest = manifest_of(
    run_id=RUN_ID,
    pipeline=PipelineKey("score"),
    kind=RunKind.SCORING,
    created_at=T0,
    files=(
        ManifestFile(
            blob=BlobVersion(account="acct", container="input", path="new/a b", etag="0x8D", size_bytes=1),
            arrival_id=None,
        ),
    ),
)
POINTER = ManifestPointer(url=f"{BASE}/tidegate/manifests/score/x.json", sha256=MANIFEST.sha256())

SUCCEEDED = status_of("TERMINATED", "SUCCESS", "SUCCESS")
RAISED = status_of("TERMINATED", "FAILED", "RUN_EXECUTION_ERROR", message="ValueError: no rows")
CLUSTER_LOST = status_of("TERMINATED", "FAILED", "CLUSTER_ERROR")
NOT_RUN = status_of("SKIPPED", "", "MAX_CONCURRENT_RUNS_EXCEEDED")


def make_run(**changes: Any) -> Run:
    fields: dict[str, Any] = {
        "id": RUN_ID,
        "pipeline": PipelineKey("score"),
        "kind": RunKind.SCORING,
        "job": JobKey("scoring"),
        "environment": "local",
        "state": RunState.SUBMITTED,
        "cause": Cause(kind=CauseKind.ARRIVALS, name="b", at=T0),
        "stages": {Stage.PUBLISH: True},
        "parameters": {},
        "model_name": "main.tidegate.m",
        "model_version": "3",
        "batch_id": MANIFEST.batch_id,
        "output_url": OUTPUT_URL,
        "created_at": T0,
        "updated_at": T0,
        "max_attempts": 2,
        "file_count": 1,
        "manifest": POINTER,
        "token": IdempotencyToken("a" * 64),
        "databricks_run_id": DatabricksRunId(7),
        "submitted_at": T0,
    }
    return Run(**(fields | changes))


def make_training() -> Run:
    return make_run(kind=RunKind.TRAINING, model_version=None, output_url="")


def make_scores(**changes: Any) -> ScoresManifest:
    fields: dict[str, Any] = {
        "run_id": RUN_ID,
        "attempt": 1,
        "pipeline": PipelineKey("score"),
        "batch_id": MANIFEST.batch_id,
        "created_at": NOW,
        "model": ModelRef(name="main.tidegate.m", version="3"),
        "inputs": InputsRef(
            manifest_url=POINTER.url, manifest_sha256=POINTER.sha256, batch_id=MANIFEST.batch_id, file_count=1
        ),
        "columns": (ScoreColumn(name="score", type="double", nullable=False),),
        "score_column": "score",
        "rows_in": 10,
        "rows_scored": 9,
        "rows_quarantined": 1,
        "null_scores": 0,
        "files": (ScoreFile(url=f"{OUTPUT_URL}/part-0.parquet", etag="0x8D", size_bytes=5),),
        "quarantine_files": (),
        "sha256": "c" * 64,
    }
    return ScoresManifest(**(fields | changes))


def reported(run: Run, outcome: Outcome, **changes: Any) -> Run:
    event = replace(
        announce(run, outcome, None, now=NOW, outputs=make_scores().outputs(OUTPUT_URL)),
        announced_by="notebook",
        **changes,
    )
    return replace(run, state=RunState.REPORTED, completion=event)


def ended(judgement: Judgement) -> CompletionEvent:
    assert isinstance(judgement, End)
    return judgement.event


def test_verified_scores_are_a_completed_run() -> None:
    """R53: announced with the whole lineage, also if the notebook never spoke."""
    event = ended(judge(make_run(), SUCCEEDED, make_scores(), now=NOW, manifest=MANIFEST))

    assert (event.outcome, event.announced_by, event.id) == (
        Outcome.COMPLETED,
        "control_plane",
        f"{RUN_ID}.1.completed",
    )
    assert event.outputs == make_scores().outputs(OUTPUT_URL)
    assert event.model == ModelRef(name="main.tidegate.m", version="3")
    assert event.inputs is not None
    assert [file.url for file in event.inputs.files] == [f"{BASE}/input/new/a%20b"]
    assert event.reason is None


def test_what_the_notebook_said_is_what_counts_when_it_is_true() -> None:
    run = reported(make_run(), Outcome.COMPLETED)

    event = ended(judge(run, SUCCEEDED, make_scores(), now=NOW))

    assert event is run.completion


def test_success_without_scores_is_a_failure() -> None:
    """I4, R46: Databricks' word alone is no proof."""
    event = ended(judge(make_run(), SUCCEEDED, None, now=NOW))

    assert (event.outcome, event.outputs) == (Outcome.FAILED, None)
    assert event.reason == f"Databricks says that the run succeeded, but: there is no manifest at {OUTPUT_URL}"


def test_success_with_scores_that_do_not_add_up_is_a_failure() -> None:
    run = reported(make_run(), Outcome.COMPLETED)

    event = ended(judge(run, SUCCEEDED, make_scores(rows_in=99), now=NOW))

    assert event.outcome is Outcome.FAILED
    assert event.reason is not None
    assert "rows do not add up" in event.reason
    assert "other outputs than the manifest" in event.reason


def test_scores_that_a_twin_run_replaced_do_not_contradict_the_report() -> None:
    run = reported(make_run(), Outcome.COMPLETED)
    twins = make_scores(run_id=RunId("score-20260101T000000Z-ffffffffffff"), sha256="d" * 64)

    assert ended(judge(run, SUCCEEDED, twins, now=NOW)) is run.completion


def test_success_of_a_notebook_that_reported_failure_is_a_failure() -> None:
    run = reported(make_run(), Outcome.FAILED, reason="validation: no rows", outputs=None)

    event = ended(judge(run, SUCCEEDED, make_scores(), now=NOW))

    assert event is run.completion  # already announced under this id, with the notebook's own reason


def test_completed_notebook_whose_run_failed_is_a_failure() -> None:
    run = reported(make_run(), Outcome.COMPLETED)

    event = ended(judge(run, RAISED, make_scores(), now=NOW))

    assert (event.outcome, event.announced_by) == (Outcome.FAILED, "control_plane")


def test_training_completes_without_scores() -> None:
    event = ended(judge(make_training(), SUCCEEDED, None, now=NOW))

    assert (event.outcome, event.outputs, event.type) == (Outcome.COMPLETED, None, "tidegate.training.completed")


def test_scoring_that_was_not_to_publish_completes_without_scores() -> None:
    run = make_run(stages={Stage.PUBLISH: False})

    assert ended(judge(run, SUCCEEDED, None, now=NOW)).outcome is Outcome.COMPLETED


def test_degraded_run_says_so() -> None:
    status = status_of("TERMINATED", "SUCCESS_WITH_FAILURES", message="one leaf failed")

    event = ended(judge(make_run(), status, make_scores(), now=NOW))

    assert event.outcome is Outcome.COMPLETED
    assert event.reason == "Databricks says TERMINATED/SUCCESS_WITH_FAILURES: one leaf failed"


def test_open_run_is_waited_for() -> None:
    assert judge(make_run(), status_of("RUNNING"), None, now=NOW) == KeepWaiting()


@pytest.mark.parametrize("status", [CLUSTER_LOST, NOT_RUN], ids=lambda status: status.termination_code)
def test_attempt_that_can_go_again_goes_again_until_the_last(status: RunStatus) -> None:
    """R25: nothing is announced while a next attempt may still do the work."""
    again = judge(make_run(), status, None, now=NOW)
    last = ended(judge(make_run(attempt=2), status, None, now=NOW))

    assert isinstance(again, GoAgain)
    assert again.reason.endswith(status.termination_code)
    assert last.outcome is (Outcome.SKIPPED if status is NOT_RUN else Outcome.FAILED)


def test_failure_that_was_announced_is_not_tried_again_by_itself() -> None:
    """Subscribers were told that it failed: only a person starts the next attempt."""
    run = reported(make_run(), Outcome.FAILED, outputs=None)

    assert ended(judge(run, CLUSTER_LOST, None, now=NOW)) is run.completion


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (RAISED, Outcome.FAILED),
        (status_of("TERMINATED", "TIMEDOUT"), Outcome.TIMED_OUT),
        (status_of("TERMINATED", "CANCELED", "USER_CANCELED"), Outcome.CANCELLED),
        (status_of("TERMINATED", "DISABLED"), Outcome.SKIPPED),
        (status_of("EXPLODED"), Outcome.FAILED),
        (status_of(""), Outcome.FAILED),
    ],
)
def test_every_other_end_is_announced_as_what_it_is(status: RunStatus, outcome: Outcome) -> None:
    """R54."""
    event = ended(judge(make_run(), status, make_scores(), now=NOW))

    assert event.outcome is outcome
    assert event.reason is not None
    assert event.reason.startswith("Databricks says ")


def test_unknown_state_is_named_as_unknown() -> None:
    assert ended(judge(make_run(), status_of("EXPLODED"), None, now=NOW)).reason == (
        "Databricks says unknown state EXPLODED"
    )
    assert ended(judge(make_run(), status_of(""), None, now=NOW)).reason == "Databricks says unknown state nothing"


@given(
    verdict=st.sampled_from(Verdict),
    scores=st.none() | st.builds(make_scores, rows_in=st.sampled_from([10, 11]), attempt=st.integers(1, 3)),
    report=st.none() | st.sampled_from(Outcome),
    attempt=st.integers(1, 2),
)
def test_judgement_can_always_be_written_down(
    verdict: Verdict, scores: ScoresManifest | None, report: Outcome | None, attempt: int
) -> None:
    """I4, I7: whatever is known, the ledger takes the end; and completed means a claim and verified scores."""
    run = make_run(attempt=attempt)
    run = run if report is None else reported(run, report)
    judgement = judge(run, RunStatus(verdict=verdict, life_cycle_state="X"), scores, now=NOW, manifest=MANIFEST)

    if isinstance(judgement, End):
        assert end_run(run, judgement.event, NOW).outcome is judgement.event.outcome
        if judgement.event.outcome is Outcome.COMPLETED:
            assert verdict.is_claim
            assert scores is not None
            assert scores.rows_in == scores.rows_scored + scores.rows_quarantined
            assert scores.attempt <= attempt
    else:
        assert verdict.is_open or verdict.may_go_again


def test_announcement_before_the_manifest_has_no_inputs() -> None:
    event = announce(make_run(manifest=None), Outcome.CANCELLED, "by hand", now=NOW)

    assert (event.inputs, event.reason, event.traceparent) == (None, "by hand", "")


@pytest.mark.parametrize("state", [state for state in RunState if state is not RunState.ENDED])
def test_attempt_is_stalled_when_open_for_too_long_wherever_it_stands(state: RunState) -> None:
    run = make_run(state=state, updated_at=T0 + timedelta(minutes=59))

    assert is_stalled(run, now=T0 + timedelta(minutes=61), after_minutes=60)
    assert not is_stalled(run, now=T0 + timedelta(minutes=60), after_minutes=60)


def test_ended_run_is_never_stalled() -> None:
    run = make_run(state=RunState.ENDED, outcome=Outcome.FAILED)

    assert not is_stalled(run, now=T0 + timedelta(days=9), after_minutes=60)
