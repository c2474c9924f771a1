"""Tests that the model learns, measures itself honestly, and is the same wherever it goes."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flights import make_flights

from tidegate_ml import FLIGHT_DELAY
from tidegate_ml.baseline import CarrierHourRate
from tidegate_ml.flight_delay import TrainingSet
from tidegate_ml.metrics import calibration_error, log_loss_of, measure
from tidegate_ml.model import DelayModel, TrainingSettings

KNOBS = {"learning_rate": 0.1, "num_leaves": 4, "n_estimators": 20, "seed": 13}


@pytest.fixture(scope="module")
def prepared() -> TrainingSet:
    return FLIGHT_DELAY.prepare(make_flights(4000, months=(1, 2)))


@pytest.fixture(scope="module")
def model(prepared: TrainingSet) -> DelayModel:
    return FLIGHT_DELAY.fit(prepared, KNOBS)


def test_equal_input_and_seed_give_an_equal_model(prepared: TrainingSet, model: DelayModel) -> None:
    """A run can be repeated and explained."""
    assert FLIGHT_DELAY.fit(prepared, KNOBS).booster_text == model.booster_text


def test_the_model_ranks_better_than_chance(prepared: TrainingSet, model: DelayModel) -> None:
    """These flights are late more often in the evening, and the model finds it."""
    metrics = FLIGHT_DELAY.evaluate(model, prepared)

    assert metrics["roc_auc"] > 0.6
    assert metrics["log_loss"] < 0.69
    assert {"brier", "calibration_error", "base_rate", "average_precision", "baseline_roc_auc"} <= set(metrics)


def test_a_saved_or_pickled_model_is_the_same_model(model: DelayModel, tmp_path: Path) -> None:
    """Spark sends it to its workers, MLflow to the next run."""
    flights = make_flights(10)
    model.save(tmp_path)

    loaded, pickled = DelayModel.load(tmp_path), pickle.loads(pickle.dumps(model))

    assert loaded.predict(flights).tolist() == model.predict(flights).tolist() == pickled.predict(flights).tolist()


def test_a_training_set_survives_its_parts(prepared: TrainingSet) -> None:
    """A checkpoint keeps the parts."""
    tables, state = prepared.to_parts()

    again = FLIGHT_DELAY.prepared_from_parts(tables, state)

    assert again.profile == prepared.profile
    pd.testing.assert_frame_equal(again.held_out().features, prepared.held_out().features)


def test_every_setting_that_is_logged_is_one_that_was_fitted(model: DelayModel) -> None:
    """What MLflow shows is what LightGBM wrote into the model."""
    settings = FLIGHT_DELAY.settings(KNOBS)
    lines = [line.strip("[]") for line in model.booster_text.splitlines() if line.startswith("[")]
    fitted = dict(line.split(": ", 1) for line in lines if ": " in line)

    assert model.booster_text.count("\nTree=") == settings.pop("n_estimators") == 20
    assert {name: fitted[name] for name in settings} == {name: _written(value) for name, value in settings.items()}


def _written(value: object) -> str:
    """Return a setting as LightGBM writes it into the model."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)


@pytest.mark.parametrize(
    ("knob", "value"), [("learning_rate", 0.0), ("learning_rate", 1.5), ("num_leaves", 1), ("n_estimators", 0)]
)
def test_knobs_out_of_range_are_refused(knob: str, value: float) -> None:
    """LightGBM would take some of them and mean something else."""
    with pytest.raises(ValueError, match=knob):
        TrainingSettings(**(KNOBS | {knob: value}))  # type: ignore[arg-type]


def test_an_empty_frame_has_no_scores(model: DelayModel) -> None:
    """Spark may hand over an empty part."""
    assert model.predict(make_flights(3)[:0]).tolist() == []


def test_cancelled_flights_are_counted_and_not_learnt_from() -> None:
    """They have no arrival; the number is kept so that nobody wonders where they went."""
    flights = make_flights(400, months=(1, 2))
    flights.loc[:9, "arr_delay"] = float("nan")

    prepared = FLIGHT_DELAY.prepare(flights)

    assert prepared.facts() == {"rows_fit": 195.0, "rows_holdout": 195.0, "rows_without_outcome": 10.0}


def test_history_without_any_outcome_is_refused() -> None:
    """There is nothing to learn."""
    with pytest.raises(ValueError, match="no flight has a value in 'arr_delay'"):
        FLIGHT_DELAY.prepare(make_flights(20, months=(1, 2)).assign(arr_delay=float("nan")))


def test_history_with_one_outcome_is_refused() -> None:
    """A classifier needs both."""
    with pytest.raises(ValueError, match="have the same outcome"):
        FLIGHT_DELAY.prepare(make_flights(20, months=(1, 2)).assign(arr_delay=0.0))


def test_metrics_by_hand() -> None:
    """Two flights, one late: numbers that a pocket calculator gives."""
    happened, probability = np.array([0.0, 1.0]), np.array([0.25, 0.75])

    metrics = measure(happened, probability)

    assert metrics == pytest.approx(
        {
            "log_loss": 0.2876820724517809,
            "brier": 0.0625,
            "calibration_error": 0.25,
            "base_rate": 0.5,
            "roc_auc": 1.0,
            "average_precision": 1.0,
        }
    )


def test_a_sure_and_wrong_prediction_costs_much_but_not_infinity() -> None:
    """The loss is clipped, so that one flight cannot hide all others."""
    assert log_loss_of(np.array([1.0]), np.array([0.0])) == pytest.approx(34.538776394910684)
    assert calibration_error(np.array([1.0]), np.array([0.0])) == 1.0


def test_the_baseline_shrinks_rare_pairs() -> None:
    """One flight of a carrier in an hour says little about it."""
    flights = make_flights(200)
    late = pd.Series(np.r_[np.ones(100), np.zeros(100)])
    rare = flights[:1].assign(carrier="XX")

    all_flights = pd.concat([flights, rare], ignore_index=True)
    baseline = CarrierHourRate.of(all_flights, pd.concat([late, pd.Series([1.0])], ignore_index=True))

    assert 0.5 < baseline.predict(rare)[0] < 0.52
    assert baseline.predict(flights[:1].assign(carrier="YY"))[0] == baseline.overall


def test_figures_are_pictures_of_a_sensible_size(prepared: TrainingSet, model: DelayModel, tmp_path: Path) -> None:
    """One composed figure first, then one per panel; small enough to open anywhere."""
    paths = FLIGHT_DELAY.draw(model, prepared, tmp_path, title="A test")

    assert [path.stem for path in paths] == [
        "model_quality",
        "calibration",
        "roc",
        "precision_recall",
        "delay_by_hour",
        "importance",
        "carriers",
        "pca",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert all(5_000 < path.stat().st_size < 1_000_000 for path in paths)
