"""Holds decisions about slots and requests to their rules: once a slot and a key, always with a reason."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.decided import (
    ListedInput,
    NamedInput,
    Skip,
    StartRun,
)
from functions.core.decisions import decide
from functions.core.errors import IllegalPlanError
from functions.core.model import (
    PipelineKey,
    RunKind,
    RunRequested,
    SlotDue,
    Stage,
)
from functions.core.parameters import STAGES_OF_KIND
from functions.core.reasons import SkipReason
from functions.core.stages import missing_prerequisites, plan_stages
from tests.support.decisions import HERE, PIPELINES, SCORE, TRAIN, make_request, make_slot, reason_of, started

ROOT = Path(__file__).parents[2]


def test_slot_starts_training_on_the_training_data() -> None:
    start = started(decide(make_slot(traceparent="t"), PIPELINES, HERE))

    assert start.run_id.startswith("train-20260101T030000Z-")
    assert start.input == ListedInput(places=(("input", "history/", "**", ""),))
    assert (start.model_version, start.traceparent, start.pipeline.job) == (None, "t", "training")
    assert start.parameters == {"learning_rate": "0.05", "num_leaves": "15", "n_estimators": "150", "seed": "13"}


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (make_slot(pipeline=PipelineKey("gone")), SkipReason.UNKNOWN_PIPELINE),
        (make_slot(schedule="gone"), SkipReason.UNKNOWN_SCHEDULE),
        (make_slot(is_past_due=True), SkipReason.MISSED_SLOT),
        (make_request(pipeline=PipelineKey("gone")), SkipReason.UNKNOWN_PIPELINE),
        (make_request(stages={Stage.TRAINING: False}), SkipReason.ILLEGAL_PLAN),
        (make_request(stages={Stage.BATCH_SCORING: True}), SkipReason.ILLEGAL_PLAN),
        (make_request(files=(("scores", "history/a"),)), SkipReason.FILES_OF_FOREIGN_PLACE),
    ],
)
def test_what_cannot_run_is_skipped_with_the_reason(event: SlotDue | RunRequested, reason: SkipReason) -> None:
    assert reason_of(decide(event, PIPELINES, HERE)) is reason


def test_request_may_choose_stages_parameters_and_files() -> None:
    event = make_request(
        stages={Stage.PUBLISH: False}, parameters={"seed": "99"}, files=(("input", "history/2013-01.parquet"),)
    )

    start = started(decide(event, PIPELINES, HERE))

    assert start.stages[Stage.PUBLISH] is False
    assert start.stages[Stage.TRAINING] is True
    assert start.parameters["seed"] == "99"
    assert start.input == NamedInput(blobs=(("input", "history/2013-01.parquet"),))


def test_scoring_without_files_takes_what_its_routes_want() -> None:
    start = started(decide(make_request(pipeline=SCORE), PIPELINES, HERE))

    assert start.input == ListedInput(
        places=(("input", "new/", "*.csv", ""), ("input", "new/", "*", ".parquet")),
    )
    assert start.model_version == "3"


def test_scoring_without_a_model_is_refused_by_name() -> None:
    """R17: having no model yet is a value, never version 1 by guess."""
    decision = decide(make_request(pipeline=SCORE), PIPELINES, replace(HERE, model_version=None))

    assert str(decision) == "no model version has the pipeline's alias yet; train one first: main.tidegate.m@champion"


def test_checkpoint_stands_in_for_a_stage() -> None:
    event = make_request(pipeline=SCORE, stages={Stage.VALIDATION: False})

    refused = decide(event, PIPELINES, HERE)
    allowed = decide(event, PIPELINES, replace(HERE, checkpoints=frozenset({Stage.VALIDATION})))

    assert isinstance(refused, Skip)
    assert refused.detail == ("feature_engineering needs validation; batch_scoring needs validation")
    assert isinstance(allowed, StartRun)


NEEDS = {
    RunKind.TRAINING: {
        Stage.TRAINING: {Stage.FEATURE_ENGINEERING},
        Stage.EVALUATION: {Stage.FEATURE_ENGINEERING, Stage.TRAINING},
        Stage.PUBLISH: {Stage.FEATURE_ENGINEERING, Stage.TRAINING},
    },
    RunKind.SCORING: {
        Stage.FEATURE_ENGINEERING: {Stage.VALIDATION},
        Stage.BATCH_SCORING: {Stage.VALIDATION, Stage.FEATURE_ENGINEERING},
        Stage.PUBLISH: {Stage.BATCH_SCORING},
    },
}


@given(
    kind=st.sampled_from(RunKind),
    on=st.sets(st.sampled_from(Stage), min_size=1),
    checkpoints=st.sets(st.sampled_from(Stage)),
)
def test_plan_is_accepted_exactly_if_it_can_work(kind: RunKind, on: set[Stage], checkpoints: set[Stage]) -> None:
    """R17: walking the stages in order, everything that one needs is there."""
    stages = {stage: stage in on for stage in STAGES_OF_KIND[kind]}
    there = set(checkpoints)
    can_work = any(stages.values())
    for stage in STAGES_OF_KIND[kind]:
        if stages[stage]:
            can_work = can_work and NEEDS[kind].get(stage, set()) <= there
            there.add(stage)

    missing = missing_prerequisites(kind, stages, checkpoints=checkpoints)

    assert (missing == ()) == can_work


def test_notebooks_need_the_same_stages() -> None:
    """A plan that one side accepts and the other refuses would be a run that cannot work."""
    source = (ROOT / "databricks_runtime/mlops/src/tidegate_mlops/plan.py").read_text()
    (needs,) = (
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "NEEDS"
    )
    theirs = eval(ast.unparse(needs or ast.Dict()), {"Stage": Stage})

    assert {
        kind: {stage: set(needed) for stage, needed in stages.items() if needed} for kind, stages in theirs.items()
    } == NEEDS


def test_illegal_plan_names_what_is_missing() -> None:
    train = PIPELINES.get(TRAIN)

    with pytest.raises(IllegalPlanError, match="evaluation needs training; publish needs training"):
        plan_stages(TRAIN, RunKind.TRAINING, train.stages, {Stage.TRAINING: False})


def test_plan_without_a_stage_is_refused() -> None:
    off = dict.fromkeys(PIPELINES.get(SCORE).stages, False)

    assert missing_prerequisites(RunKind.SCORING, off, checkpoints=()) == ("at least one stage must be on",)
