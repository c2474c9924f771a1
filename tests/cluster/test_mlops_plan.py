"""Tests which stages a run has, in which order, and what they need."""

import pytest
from typed_parameters import as_scoring

from tidegate_mlops.errors import InvalidParametersError, MissingPrerequisiteError, StageOrderError
from tidegate_mlops.parameters import parse_parameters
from tidegate_mlops.plan import Plan, Stage


def test_a_run_without_any_stage_is_refused(scoring: dict[str, str]) -> None:
    """It would succeed and have done nothing."""
    stages = dict.fromkeys(("validation", "feature_engineering", "batch_scoring", "publish"), "false")

    with pytest.raises(InvalidParametersError, match="at least one stage"):
        Plan.of(as_scoring(scoring | stages))


def test_missing_prerequisites_are_all_named(training: dict[str, str]) -> None:
    """Before any work, with what to do."""
    plan = Plan.of(parse_parameters("training", training | {"feature_engineering": "false", "training": "false"}))

    with pytest.raises(MissingPrerequisiteError) as missing:
        plan.check_prerequisites(lambda stage: stage is Stage.FEATURE_ENGINEERING)

    assert missing.value.missing == (("evaluation", "training"), ("publish", "training"))


def test_stages_run_once_and_in_order(scoring: dict[str, str]) -> None:
    """A notebook with its cells out of order is a mistake, not another plan."""
    plan = Plan.of(as_scoring(scoring))
    plan.check_next(Stage.VALIDATION, ())

    with pytest.raises(StageOrderError):
        plan.check_next(Stage.BATCH_SCORING, (Stage.VALIDATION,))
    with pytest.raises(StageOrderError):
        plan.check_next(Stage.VALIDATION, plan.stages)
