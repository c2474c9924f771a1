"""Translates between MLflow's artifact URIs and the roots of the Files API."""

import re

from local.databricks.workspace.tracking.upstream import MlflowServer
from local.databricks.workspace.transport.errors import InvalidParameterError

__all__ = ["ArtifactLocations", "model_root", "rewritten"]

_LOGGED_MODEL = re.compile(rb"(dbfs:/databricks/mlflow-tracking/[^/\"]+)/models/(m-[^/\"]+)")
_TRACE = re.compile(rb"(dbfs:/databricks/mlflow-tracking/[^/\"]+)/traces/(tr-[^/\"]+)")
_RUN_SOURCE = re.compile(r"dbfs:/databricks/mlflow-tracking/([^/]+)/([^/]+)/artifacts(/.*)?")
_MODEL_SOURCE = re.compile(r"dbfs:/databricks/mlflow-tracking/([^/]+)/logged_models/([^/]+)(/.*)?")
_ROOT = "/WorkspaceInternal/Mlflow/Artifacts"


def rewritten(body: bytes) -> bytes:
    """Return an answer of the MLflow server with the artifact URIs that Databricks would give."""
    return _TRACE.sub(rb"\1/\2", _LOGGED_MODEL.sub(rb"\1/logged_models/\2", body))


def model_root(name: str, version: str) -> str:
    """Return where the Files API keeps the files of a registered model's version."""
    return f"/Models/{name.replace('.', '/')}/{version}"


class ArtifactLocations:
    """Finds the Files API path of what belongs to a run, a logged model or a trace."""

    def __init__(self, upstream: MlflowServer) -> None:
        self._upstream = upstream
        self._experiment_by_id: dict[str, str] = {}

    async def of_run(self, run_id: str) -> str:
        """Return the root of a run's artifacts."""
        if run_id not in self._experiment_by_id:
            answer = await self._upstream.call("GET", "runs/get", {"run_id": run_id})
            self._experiment_by_id[run_id] = str(answer["run"]["info"]["experiment_id"])
        return f"{_ROOT}/{self._experiment_by_id[run_id]}/Runs/{run_id}/artifacts"

    async def of_logged_model(self, model_id: str) -> str:
        """Return the root of a logged model's files."""
        if model_id not in self._experiment_by_id:
            answer = await self._upstream.call("GET", f"logged-models/{model_id}", {})
            self._experiment_by_id[model_id] = str(answer["model"]["info"]["experiment_id"])
        return f"{_ROOT}/{self._experiment_by_id[model_id]}/LoggedModels/{model_id}/artifacts"

    @staticmethod
    def of_trace(trace_id: str) -> str:
        """Return the file of a trace's spans."""
        return f"{_ROOT}/Traces/{trace_id}/traces.json"

    async def of_source(self, source: str) -> str:
        """Return the root of what a model version was made from."""
        if source.startswith("models:/m-"):
            return await self.of_logged_model(source.removeprefix("models:/"))
        if model := _MODEL_SOURCE.fullmatch(source):
            return f"{_ROOT}/{model[1]}/LoggedModels/{model[2]}{model[3] or ''}"
        if run := _RUN_SOURCE.fullmatch(source):
            return f"{_ROOT}/{run[1]}/Runs/{run[2]}/artifacts{run[3] or ''}"
        raise InvalidParameterError(f"The source {source} of the model version is not kept by this workspace")
