"""Trains, keeps and applies the LightGBM classifier of late arrivals."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from tidegate_ml.features import CATEGORICAL_FEATURES, FEATURE_NAMES, ScheduleProfile, build_features

if TYPE_CHECKING:
    import lightgbm

__all__ = ["DelayModel", "TrainingSettings", "train"]

_BOOSTER_FILE: Final = "booster.txt"
_PROFILE_FILE: Final = "profile.json"

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """The knobs that a run may turn; everything else about the model is fixed here."""

    learning_rate: float
    num_leaves: int
    n_estimators: int
    seed: int

    def __post_init__(self) -> None:
        """Refuse what LightGBM would refuse later, or accept and not mean."""
        if not 0 < self.learning_rate <= 1:
            raise ValueError(f"learning_rate must be in (0, 1], got {self.learning_rate!r}")
        if self.num_leaves < 2:  # noqa: PLR2004 - a tree with one leaf decides nothing
            raise ValueError(f"num_leaves must be at least 2, got {self.num_leaves!r}")
        if self.n_estimators < 1:
            raise ValueError(f"n_estimators must be at least 1, got {self.n_estimators!r}")

    def booster_parameters(self) -> dict[str, object]:
        """Return LightGBM's own parameters, all of them explicit, so that a run can log what was fitted.

        Large leaves and few of them: delays of one month say little about the next month's weather.
        """
        return {
            "objective": "binary",
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": 300,
            "feature_fraction": 0.7,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "lambda_l2": 5.0,
            "cat_smooth": 50.0,
            "max_cat_threshold": 16,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 2,
            "verbosity": -1,
        }

    def as_dict(self) -> dict[str, float]:
        """Return the knobs by name."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class DelayModel:
    """A fitted classifier with everything it needs to make features: text and tables, so it travels to any process."""

    booster_text: str
    profile: ScheduleProfile

    @cached_property
    def _booster(self) -> "lightgbm.Booster":
        import lightgbm

        return lightgbm.Booster(model_str=self.booster_text)

    def __getstate__(self) -> dict[str, object]:
        return {
            "booster_text": self.booster_text,
            "profile": self.profile,
        }  # the booster itself is rebuilt where needed

    def feature_names(self) -> tuple[str, ...]:
        """Return the names of the features in the order the model sees them."""
        return FEATURE_NAMES

    def features(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return one row of `FEATURE_NAMES` per flight, same index and order."""
        return build_features(rows, self.profile)

    def predict(self, rows: pd.DataFrame) -> FloatArray:
        """Return each flight's probability of arriving 15 minutes late or more, in the order of `rows`."""
        return self.predict_features(self.features(rows))

    def predict_features(self, features: pd.DataFrame, *, threads: int = 1) -> FloatArray:
        """Return the probabilities for rows of `FEATURE_NAMES`; one thread, as Spark runs a task per core."""
        if features.empty:
            return np.empty(0)
        matrix = features[list(FEATURE_NAMES)].to_numpy(np.float32)
        return np.asarray(self._booster.predict(matrix, num_threads=threads), dtype=np.float64)

    def importance(self) -> "pd.Series[float]":
        """Return the total gain of each feature as a share of all gain, largest first."""
        gain = self._booster.feature_importance(importance_type="gain").astype(float)
        shares = pd.Series(gain / max(float(gain.sum()), 1e-12), index=list(FEATURE_NAMES))
        return shares.sort_values(ascending=False)

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder as two readable files."""
        (folder / _BOOSTER_FILE).write_text(self.booster_text, encoding="utf-8")
        document = json.dumps(self.profile.to_json(), sort_keys=True, indent=1)
        (folder / _PROFILE_FILE).write_text(document, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the model that `save` wrote."""
        profile = json.loads((folder / _PROFILE_FILE).read_text(encoding="utf-8"))
        return cls(
            booster_text=(folder / _BOOSTER_FILE).read_text(encoding="utf-8"),
            profile=ScheduleProfile.from_json(profile),
        )


def train(
    features: pd.DataFrame, delayed: "pd.Series[float]", profile: ScheduleProfile, settings: TrainingSettings
) -> DelayModel:
    """Return the model fitted to the given rows; equal input and settings give an equal model.

    Args:
        features: (n, features) rows of `FEATURE_NAMES`.
        delayed: (n,) 0 or 1, without NaN.
        profile: the profile that the features were made with.
        settings: the knobs.
    """
    import lightgbm

    parameters: Mapping[str, object] = settings.booster_parameters()
    rows = lightgbm.Dataset(
        features[list(FEATURE_NAMES)].to_numpy(np.float32),
        label=delayed.to_numpy(np.float64),
        feature_name=list(FEATURE_NAMES),
        categorical_feature=list(CATEGORICAL_FEATURES),
        params=dict(parameters),
    )
    booster = lightgbm.train(dict(parameters), rows, num_boost_round=settings.n_estimators)
    return DelayModel(booster_text=booster.model_to_string(), profile=profile)
