"""Tests which runs share a checkpoint (R38)."""

from typed_parameters import as_scoring

from tidegate_mlops.checkpoints import checkpoint_key
from tidegate_mlops.parameters import parse_parameters
from tidegate_mlops.plan import Stage


def test_checkpoints_depend_on_what_they_were_made_from(training: dict[str, str]) -> None:
    """R38: other knobs retrain but keep the features; another release keeps nothing; another attempt keeps all."""
    base, knobs, release, attempt = (
        parse_parameters("training", training | changed)
        for changed in ({}, {"seed": "14"}, {"release": "0.2.0+gabcdef1"}, {"attempt": "2", "token": "0" * 64})
    )
    features, model = Stage.FEATURE_ENGINEERING, Stage.TRAINING

    assert checkpoint_key(knobs, features) == checkpoint_key(base, features)
    assert checkpoint_key(knobs, model) != checkpoint_key(base, model)
    assert checkpoint_key(release, features) != checkpoint_key(base, features)
    assert checkpoint_key(attempt, model) == checkpoint_key(base, model)


def test_scoring_checkpoints_depend_on_the_pinned_model(scoring: dict[str, str]) -> None:
    """R38: checked rows serve every model; features and scores belong to one."""
    one, two = (as_scoring(scoring | {"model_version": version}) for version in ("1", "2"))

    assert checkpoint_key(one, Stage.VALIDATION) == checkpoint_key(two, Stage.VALIDATION)
    assert checkpoint_key(one, Stage.BATCH_SCORING) != checkpoint_key(two, Stage.BATCH_SCORING)
