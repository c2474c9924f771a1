"""Keeps a run's parameters, metrics, figures and model in MLflow."""

import importlib
import math
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import mlflow
import pandas as pd
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from tidegate_mlops.ports import Model, ModelCode, PreparedData

__all__ = ["MlflowRun"]

_MODEL_NAME: Final = "model"


class MlflowRun:
    """An `ExperimentRun` in MLflow, made when constructed; the tracking server is the environment's own."""

    def __init__(self, experiment: str, *, name: str, tags: Mapping[str, str]) -> None:
        self._client = mlflow.MlflowClient()
        self._experiment_id = _experiment_id(self._client, experiment)
        run = self._client.create_run(self._experiment_id, run_name=name, tags=dict(tags))
        self._run_id: str = run.info.run_id
        self._is_open = True

    @property
    def run_id(self) -> str:
        """MLflow's id of the run."""
        return self._run_id

    def log(
        self,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Keep parameters, metrics and tags, in one request."""
        now_ms = int(time.time() * 1000)
        self._client.log_batch(
            self._run_id,
            params=[Param(name, str(value)) for name, value in (params or {}).items()],
            metrics=[Metric(name, value, now_ms, 0) for name, value in (metrics or {}).items() if math.isfinite(value)],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )

    def log_files(self, folder: Path, *, under: str) -> None:
        """Keep the files of a local folder as artifacts."""
        self._client.log_artifacts(self._run_id, str(folder), artifact_path=under)

    def log_model[P: PreparedData, M: Model](
        self, folder: Path, code: ModelCode[P, M], example: pd.DataFrame, scores: pd.DataFrame
    ) -> str:
        """Keep a saved model with its signature and its code, and return its MLflow URI.

        The requirements are given, not inferred: inference starts a process that imports everything. The call is the
        one behind `mlflow.pyfunc.log_model`, which cannot be told the run; making the run the active one would end it.
        """
        import mlflow.pyfunc
        from mlflow.models import Model as MlflowModel
        from mlflow.models import infer_signature

        mlflow.set_experiment(experiment_id=self._experiment_id)  # else the model lands in the default experiment
        with warnings.catch_warnings():
            # It warns that integers cannot be missing; the input contract says that they are not.
            warnings.filterwarnings("ignore", "Hint: Inferred schema", UserWarning)
            signature = infer_signature(example, scores)
        package = importlib.import_module(code.loader_module.partition(".")[0])
        info = MlflowModel.log(
            artifact_path=None,
            name=_MODEL_NAME,
            flavor=mlflow.pyfunc,
            run_id=self._run_id,
            loader_module=code.loader_module,
            data_path=str(folder),
            code_paths=[str(Path(str(package.__file__)).parent)],
            signature=signature,
            pip_requirements=list(code.requirements),
        )
        uri: str = info.model_uri
        return uri

    def end(self, *, is_success: bool) -> None:
        """Close the run as FINISHED or FAILED; harmless the second time."""
        if self._is_open:
            self._is_open = False
            self._client.set_terminated(self._run_id, status="FINISHED" if is_success else "FAILED")


def _experiment_id(client: mlflow.MlflowClient, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            made: str = client.create_experiment(name)
        except MlflowException:
            experiment = client.get_experiment_by_name(name)  # two first runs at once: the other one made it
            if experiment is None:
                raise
        else:
            return made
    found: str = experiment.experiment_id
    return found
