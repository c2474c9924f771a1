"""Tests that the strings of a run become typed values, or are refused all at once."""

import pytest

from tidegate_mlops.errors import InvalidParametersError
from tidegate_mlops.parameters import TrainingParameters, parse_parameters


def test_parameters_become_typed_values(training: dict[str, str]) -> None:
    """Strings at the border, values inside."""
    parameters = parse_parameters("training", training | {"evaluation": "false"})

    assert isinstance(parameters, TrainingParameters)
    assert parameters.attempt == 1
    assert (parameters.training, parameters.evaluation) == (True, False)
    assert parameters.knobs() == {"learning_rate": 0.1, "num_leaves": 4, "n_estimators": 5, "seed": 13}


def test_every_wrong_parameter_is_named_at_once(scoring: dict[str, str]) -> None:
    """Nothing is silently false, and nobody has to try again for the next mistake."""
    del scoring["batch_id"]
    wrong = {"publish": "yes", "manifest_url": "https://evil.example/x", "model_version": "latest", "extra": "1"}

    with pytest.raises(InvalidParametersError) as refused:
        parse_parameters("scoring", scoring | wrong)

    named = [problem.split("'")[1] for problem in refused.value.problems]
    assert named == ["batch_id", "extra", "manifest_url", "model_version", "publish"]
