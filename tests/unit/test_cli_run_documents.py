"""Tests what the command line says of a run."""

from dataclasses import replace
from datetime import UTC, datetime

from cli.run_documents import run_document
from functions.core.ledger import Cause, CauseKind, Run
from functions.core.model import (
    ArrivalId,
    BatchId,
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

_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_SCORES = "https://acct.blob.core.windows.net/scores/p/batch=0123456789abcdef/model_version=3"
_RUN = Run(
    id=RunId("p-20260102T030405Z-0123456789ab"),
    pipeline=PipelineKey("p"),
    kind=RunKind.SCORING,
    job=JobKey("scoring"),
    environment="local",
    state=RunState.SUBMITTED,
    cause=Cause(kind=CauseKind.ARRIVALS, name="0123456789abcdef", at=_AT),
    stages={Stage.BATCH_SCORING: True},
    parameters={},
    model_name="main.tidegate.m",
    model_version="3",
    batch_id=BatchId("0123456789abcdef"),
    output_url=_SCORES,
    created_at=_AT,
    updated_at=_AT,
    arrivals=(ArrivalId("a" * 64),),
    token=IdempotencyToken("b" * 64),
    databricks_run_id=DatabricksRunId(7),
)


def test_a_run_has_exactly_the_documented_keys() -> None:
    assert list(run_document(_RUN)) == [
        "id",
        "pipeline",
        "kind",
        "state",
        "outcome",
        "attempt",
        "token",
        "databricks_run_id",
        "model_version",
        "arrivals",
        "scores_url",
        "completion_event_id",
        "created_at",
        "finished_at",
    ]


def test_scores_are_named_only_once_they_are_proven() -> None:
    ended = replace(_RUN, state=RunState.ENDED, outcome=Outcome.COMPLETED, finished_at=_AT)
    failed = replace(ended, outcome=Outcome.FAILED)

    assert run_document(_RUN)["scores_url"] is None
    assert run_document(failed)["scores_url"] is None
    assert run_document(ended)["scores_url"] == _SCORES
    assert run_document(ended)["finished_at"] == "2026-01-02T03:04:05.000000Z"


def test_a_training_run_that_has_made_nothing_yet_has_no_model_version() -> None:
    training = replace(_RUN, kind=RunKind.TRAINING, model_version=None, output_url="")

    assert run_document(training)["model_version"] is None
    assert run_document(training)["scores_url"] is None
