"""Registers model versions in Unity Catalog through MLflow and keeps the champion alias."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import mlflow
from mlflow.exceptions import MlflowException

from tidegate_mlops.errors import ModelUnavailableError
from tidegate_mlops.ports import RegisteredModel

__all__ = ["CHAMPION", "MlflowRegistry"]

CHAMPION: Final = "champion"
_REGISTRATION_S: Final = 120
_READY: Final = "READY"
_NOT_FOUND: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})


class MlflowRegistry:
    """A `ModelRegistry` on MLflow's client; which registry it is says MLFLOW_REGISTRY_URI or the platform."""

    def __init__(self) -> None:
        self._client = mlflow.MlflowClient()

    def register(self, model_uri: str, name: str, *, mlflow_run_id: str, tags: Mapping[str, str]) -> RegisteredModel:
        """Return the version made of exactly this model; registering again returns the same version.

        A run logs one model, so the version whose run is ours is ours, however many others train at the same time.
        One that is not ready may be what a killed run has left, to which no file will ever come.
        """
        for found in self._versions(name):
            if found.run_id == mlflow_run_id and found.status == _READY:
                return RegisteredModel(name=name, version=str(found.version), mlflow_run_id=mlflow_run_id)
        made = mlflow.register_model(model_uri, name, await_registration_for=_REGISTRATION_S, tags=dict(tags))
        return RegisteredModel(name=name, version=str(made.version), mlflow_run_id=mlflow_run_id)

    def version(self, name: str, version: str) -> RegisteredModel:
        """Return a version; raises ModelUnavailableError if there is none."""
        try:
            found = self._client.get_model_version(name, version)
        except MlflowException as error:
            if error.error_code in _NOT_FOUND:
                raise ModelUnavailableError(f"there is no version {version} of {name!r} in the registry") from error
            raise
        return RegisteredModel(name=name, version=str(found.version), mlflow_run_id=found.run_id or None)

    def champion(self, name: str) -> RegisteredModel | None:
        """Return the version that the champion alias points to, or None if there is none yet."""
        try:
            aliases = self._client.get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code in _NOT_FOUND:
                return None
            raise
        return self.version(name, str(aliases[CHAMPION])) if CHAMPION in aliases else None

    def crown(self, model: RegisteredModel) -> None:
        """Point the champion alias to this version."""
        self._client.set_registered_model_alias(model.name, CHAMPION, model.version)

    def tag(self, model: RegisteredModel, tags: Mapping[str, str]) -> None:
        """Set tags on a version."""
        for name, value in tags.items():
            self._client.set_model_version_tag(model.name, model.version, name, value)

    def download(self, model: RegisteredModel, folder: Path) -> Path:
        """Fetch a version's saved model and return the folder that `Model.save` wrote into."""
        # The part is enough: the code beside it is for those who have no release of this project.
        return _fetched(f"models:/{model.name}/{model.version}/data", folder, within="")

    def download_logged(self, model_uri: str, folder: Path) -> Path:
        """Fetch a model that is logged but perhaps not registered, likewise."""
        return _fetched(model_uri, folder, within="data")  # the URI of a logged model cannot name a part

    def _versions(self, name: str) -> list[mlflow.entities.model_registry.ModelVersion]:
        try:
            return list(self._client.search_model_versions(f"name='{name}'"))
        except MlflowException as error:
            if error.error_code in _NOT_FOUND:
                return []
            raise


def _fetched(uri: str, folder: Path, *, within: str) -> Path:
    from mlflow.artifacts import download_artifacts

    try:
        local = Path(download_artifacts(artifact_uri=uri, dst_path=str(folder))) / within
        [saved] = [path for path in local.iterdir() if path.is_dir()]  # MLflow keeps the saved folder's own name
    except (MlflowException, OSError, ValueError) as error:
        raise ModelUnavailableError(f"cannot load {uri}: {error}") from error
    return saved
