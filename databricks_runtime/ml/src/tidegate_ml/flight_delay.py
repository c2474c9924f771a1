"""Offers the flight-delay model to an orchestrator: what to read, how to learn, measure, draw and load."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from tidegate_ml import contract
from tidegate_ml.features import ScheduleProfile, build_features, departure_date, is_delayed
from tidegate_ml.holdout import split_by_time
from tidegate_ml.model import DelayModel, TrainingSettings, train

__all__ = ["FlightDelay", "TrainingSet"]

_SPARK_TYPES: Final[Mapping[contract.ColumnKind, str]] = {
    contract.ColumnKind.INTEGER: "bigint",
    contract.ColumnKind.NUMBER: "double",
    contract.ColumnKind.TEXT: "string",
}


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """Flights that arrived, with their features and whether the model may learn from them.

    `flights` has the input columns, `delayed` (0 or 1) and `is_fit` (False: held out, later than all others);
    `features` has the same index. The profile was made from the `is_fit` rows alone.
    """

    flights: pd.DataFrame
    features: pd.DataFrame
    profile: ScheduleProfile
    rows_without_outcome: int
    holdout_first_day: str

    def to_parts(self) -> tuple[dict[str, pd.DataFrame], dict[str, object]]:
        """Return the tables and the JSON document that make up the set."""
        state: dict[str, object] = {
            "profile": self.profile.to_json(),
            "rows_without_outcome": self.rows_without_outcome,
            "holdout_first_day": self.holdout_first_day,
        }
        return {"flights": self.flights, "features": self.features}, state

    def facts(self) -> dict[str, float]:
        """Return how many rows are for what."""
        fitted = int(self.flights["is_fit"].sum())
        return {
            "rows_fit": float(fitted),
            "rows_holdout": float(len(self.flights) - fitted),
            "rows_without_outcome": float(self.rows_without_outcome),
        }

    def fitted(self) -> Self:
        """Return the part to learn from."""
        return self._part(self.flights["is_fit"].to_numpy(dtype=np.bool_))

    def held_out(self) -> Self:
        """Return the part to measure on."""
        return self._part(~self.flights["is_fit"].to_numpy(dtype=np.bool_))

    def _part(self, mask: npt.NDArray[np.bool_]) -> Self:
        return type(self)(
            flights=self.flights[mask],
            features=self.features[mask],
            profile=self.profile,
            rows_without_outcome=self.rows_without_outcome,
            holdout_first_day=self.holdout_first_day,
        )


@dataclass(frozen=True, kw_only=True)
class FlightDelay:
    """The model of this wheel; has the methods of `tidegate_mlops.ports.ModelCode`."""

    key_columns: tuple[str, ...] = contract.KEY_COLUMNS
    score_column: str = "score"
    loader_module: str = "tidegate_ml.serving"
    requirements: tuple[str, ...] = field(
        default=("lightgbm>=4.6,<5", "numpy>=2.1,<3", "pandas>=2.2,<3"),
    )

    def input_types(self, *, training: bool) -> dict[str, str]:
        """Return the columns to read and the Spark type that a good row's value has."""
        types = {rule.name: _SPARK_TYPES[rule.kind] for rule in contract.INPUT_COLUMNS}
        return types | ({contract.OUTCOME_COLUMN: "double"} if training else {})

    def column_problems(self, columns: Mapping[str, str], *, training: bool) -> tuple[str, ...]:
        """Return why a file with these columns is refused."""
        return contract.column_problems(columns, training=training)

    def row_problems(self, rows: pd.DataFrame) -> "pd.Series[str]":
        """Return for each row why it cannot be used, or the empty string."""
        return contract.row_problems(rows)

    def prepare(self, rows: pd.DataFrame) -> TrainingSet:
        """Return the training set of valid rows; cancelled and diverted flights have no outcome and are counted only.

        Raises:
            ValueError: The rows cannot be learnt from: one day only, or one outcome only.
        """
        delayed = is_delayed(rows)
        arrived = rows[delayed.notna()].reset_index(drop=True)
        label = delayed[delayed.notna()].reset_index(drop=True)
        if arrived.empty:
            raise ValueError(f"no flight has a value in {contract.OUTCOME_COLUMN!r}, so there is nothing to learn from")
        holdout = split_by_time(departure_date(arrived))
        for name, part in (("learn from", holdout.is_fit), ("measure on", ~holdout.is_fit)):
            if label[part].nunique() < 2:  # noqa: PLR2004 - on time and late
                raise ValueError(f"all {int(part.sum())} flights to {name} have the same outcome")
        profile = ScheduleProfile.of(arrived[holdout.is_fit])
        columns = list(self.input_types(training=False))
        return TrainingSet(
            flights=arrived[columns].assign(delayed=label, is_fit=holdout.is_fit),
            features=build_features(arrived, profile),
            profile=profile,
            rows_without_outcome=len(rows) - len(arrived),
            holdout_first_day=holdout.first_day.date().isoformat(),
        )

    def prepared_from_parts(self, tables: Mapping[str, pd.DataFrame], state: Mapping[str, object]) -> TrainingSet:
        """Return the training set whose parts `TrainingSet.to_parts` gave."""
        profile, without, first_day = state["profile"], state["rows_without_outcome"], state["holdout_first_day"]
        if not isinstance(profile, dict) or not isinstance(without, int):
            raise TypeError(f"expected a profile and a number of rows, got {profile!r} and {without!r}")
        return TrainingSet(
            flights=tables["flights"],
            features=tables["features"],
            profile=ScheduleProfile.from_json(profile),
            rows_without_outcome=without,
            holdout_first_day=str(first_day),
        )

    def settings(self, knobs: Mapping[str, float]) -> dict[str, object]:
        """Return every parameter that `fit` will use for these knobs; raises ValueError if one is out of range."""
        settings = _settings(knobs)
        return {**settings.booster_parameters(), "n_estimators": settings.n_estimators}

    def fit(self, prepared: TrainingSet, knobs: Mapping[str, float]) -> DelayModel:
        """Return the model fitted to the part of `prepared` that may be learnt from."""
        part = prepared.fitted()
        return train(part.features, part.flights["delayed"], prepared.profile, _settings(knobs))

    def evaluate(self, model: DelayModel, prepared: TrainingSet) -> dict[str, float]:
        """Return the metrics on the held-out part, those of the carrier-and-hour baseline beside them."""
        from tidegate_ml.baseline import CarrierHourRate
        from tidegate_ml.metrics import measure

        part, fitted = prepared.held_out(), prepared.fitted()
        happened = part.flights["delayed"].to_numpy(np.float64)
        baseline = CarrierHourRate.of(fitted.flights, fitted.flights["delayed"]).predict(part.flights)
        ours = measure(happened, model.predict_features(part.features, threads=2))
        theirs = measure(happened, baseline)
        return ours | {f"baseline_{name}": value for name, value in theirs.items() if name != "base_rate"}

    def gate_loss(self, model: DelayModel, prepared: TrainingSet) -> float:
        """Return the log-loss on the held-out part, with the features as this very model makes them."""
        from tidegate_ml.metrics import log_loss_of

        part = prepared.held_out()
        return log_loss_of(part.flights["delayed"].to_numpy(np.float64), model.predict(part.flights))

    def draw(self, model: DelayModel, prepared: TrainingSet, folder: Path, *, title: str) -> Sequence[Path]:
        """Write the figures of this model as PNG files into `folder`, the composed one first."""
        from tidegate_ml.figures import draw_figures

        return draw_figures(model, prepared, self.evaluate(model, prepared), folder, title=title)

    def load(self, folder: Path) -> DelayModel:
        """Return the model that `DelayModel.save` wrote into `folder`."""
        return DelayModel.load(folder)


def _settings(knobs: Mapping[str, float]) -> TrainingSettings:
    return TrainingSettings(
        learning_rate=float(knobs["learning_rate"]),
        num_leaves=int(knobs["num_leaves"]),
        n_estimators=int(knobs["n_estimators"]),
        seed=int(knobs["seed"]),
    )
