"""Loads the model for MLflow's pyfunc flavour, so that `mlflow.pyfunc.load_model` works anywhere this wheel is."""

from pathlib import Path

import pandas as pd

from tidegate_ml.model import DelayModel

__all__ = ["PyfuncDelayModel"]


class PyfuncDelayModel:
    """Adapts `DelayModel` to MLflow: a frame of scheduled flights in, a frame with one column `score` out."""

    def __init__(self, model: DelayModel) -> None:
        self._model = model

    def predict(self, model_input: pd.DataFrame, params: object = None) -> pd.DataFrame:  # noqa: ARG002 - MLflow passes it
        """Return the probability of arriving 15 minutes late or more, one row per flight."""
        return pd.DataFrame({"score": self._model.predict(model_input)}, index=model_input.index)


def _load_pyfunc(path: str) -> PyfuncDelayModel:
    """Return the model in `path`; the name is MLflow's."""
    return PyfuncDelayModel(DelayModel.load(Path(path)))
