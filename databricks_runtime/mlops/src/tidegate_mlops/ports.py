"""Declares what a run needs from outside: storage, model code, experiment tracking, registry, announcements."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from tidegate_mlops.urls import BlobUrl

__all__ = [
    "Announcer",
    "Blob",
    "BlobFacts",
    "BlobStore",
    "ExperimentRun",
    "Model",
    "ModelCode",
    "ModelRegistry",
    "PreparedData",
    "RegisteredModel",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobFacts:
    """What a listing says about a blob; the ETag is without quotes."""

    url: BlobUrl
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A blob's whole content and the version it is."""

    data: bytes
    etag: str


class BlobStore(Protocol):
    """Reads and writes blobs; every write is a compare-and-set except `put`."""

    def facts(self, url: BlobUrl) -> BlobFacts | None:
        """Return the blob's present version, or None if there is none."""

    def read(self, url: BlobUrl) -> Blob | None:
        """Return the blob's content, or None if there is none."""

    def read_range(self, url: BlobUrl, *, offset: int, length: int, etag: str) -> bytes:
        """Return some bytes of exactly this version; raises SupersededError if it is no longer there."""

    def create(self, url: BlobUrl, data: bytes) -> str | None:
        """Write a blob that must not exist, and return its ETag; None if one exists."""

    def replace(self, url: BlobUrl, data: bytes, *, etag: str) -> str | None:
        """Overwrite exactly this version, and return the new ETag; None if the blob has changed."""

    def put(self, url: BlobUrl, data: bytes) -> None:
        """Write a blob whatever was there."""

    def list_folder(self, folder: BlobUrl) -> Sequence[BlobFacts]:
        """Return all blobs below the folder by name; folder markers are left out."""

    def delete_folder(self, folder: BlobUrl) -> None:
        """Delete all blobs below the folder, and its markers; harmless if there is nothing."""

    def lock(self, url: BlobUrl) -> AbstractContextManager[None]:
        """Keep other runs that lock the same blob waiting; the lock of a dead holder ends by itself."""


class PreparedData(Protocol):
    """A training set with its features, split into a part to learn from and a held-out part."""

    def to_parts(self) -> tuple[dict[str, pd.DataFrame], dict[str, object]]:
        """Return the tables and the JSON document that make it up."""

    def facts(self) -> dict[str, float]:
        """Return numbers worth keeping about it."""


class Model(Protocol):
    """A fitted model that makes its own features; pickles, so that Spark can send it to its workers."""

    def features(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the features of valid rows, same index and order, one float column each."""

    def predict_features(self, features: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return one score per row of features."""

    def predict(self, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return one score per valid row."""

    def feature_names(self) -> Sequence[str]:
        """Return the features' names in their order."""

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder."""


class ModelCode[P: PreparedData, M: Model](Protocol):
    """What a team writes to bring its own model: the ML wheel's one object."""

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The input columns that identify a row; they travel to the scores."""

    @property
    def score_column(self) -> str:
        """What the score is called."""

    @property
    def loader_module(self) -> str:
        """The module with `_load_pyfunc`, for MLflow."""

    @property
    def requirements(self) -> tuple[str, ...]:
        """What the model needs to be loaded, as pip requirements."""

    def input_types(self, *, training: bool) -> dict[str, str]:
        """Return the columns to read and the Spark type of a good row's values."""

    def column_problems(self, columns: Mapping[str, str], *, training: bool) -> tuple[str, ...]:
        """Return why a file with these columns is refused."""

    def row_problems(self, rows: pd.DataFrame) -> "pd.Series[str]":
        """Return for each row why it cannot be used, or the empty string."""

    def prepare(self, rows: pd.DataFrame) -> P:
        """Return the training set of valid rows; raises ValueError if there is nothing to learn."""

    def prepared_from_parts(self, tables: Mapping[str, pd.DataFrame], state: Mapping[str, object]) -> P:
        """Return the training set that `to_parts` took apart."""

    def settings(self, knobs: Mapping[str, float]) -> dict[str, object]:
        """Return every setting `fit` uses for these knobs; raises ValueError if one is out of range."""

    def fit(self, prepared: P, knobs: Mapping[str, float]) -> M:
        """Return the model fitted to the part of `prepared` that may be learnt from."""

    def evaluate(self, model: M, prepared: P) -> dict[str, float]:
        """Return the metrics on the held-out part."""

    def gate_loss(self, model: M, prepared: P) -> float:
        """Return the loss on the held-out part by which champion and challenger are compared; lower is better."""

    def draw(self, model: M, prepared: P, folder: Path, *, title: str) -> Sequence[Path]:
        """Write figures as PNG files into `folder` and return them, the most telling one first."""

    def load(self, folder: Path) -> M:
        """Return the model that `save` wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModel:
    """One version in the registry and the experiment run that made it."""

    name: str
    version: str
    mlflow_run_id: str | None


class ExperimentRun(Protocol):
    """One MLflow run: what this run of the job learnt and was told."""

    @property
    def run_id(self) -> str:
        """MLflow's id of the run."""

    def log(
        self,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Keep parameters, metrics and tags, in one request."""

    def log_files(self, folder: Path, *, under: str) -> None:
        """Keep the files of a local folder as artifacts."""

    def log_model[P: PreparedData, M: Model](
        self, folder: Path, code: ModelCode[P, M], example: pd.DataFrame, scores: pd.DataFrame
    ) -> str:
        """Keep a saved model with its signature, and return its MLflow URI."""

    def end(self, *, is_success: bool) -> None:
        """Close the run as FINISHED or FAILED; harmless the second time."""


class ModelRegistry(Protocol):
    """Holds model versions and the champion alias."""

    def register(self, model_uri: str, name: str, *, mlflow_run_id: str, tags: Mapping[str, str]) -> RegisteredModel:
        """Return the version made of exactly this model; registering again returns the same version."""

    def version(self, name: str, version: str) -> RegisteredModel:
        """Return a version; raises ModelUnavailableError if there is none."""

    def champion(self, name: str) -> RegisteredModel | None:
        """Return the version that the champion alias points to, or None if there is none yet."""

    def crown(self, model: RegisteredModel) -> None:
        """Point the champion alias to this version."""

    def tag(self, model: RegisteredModel, tags: Mapping[str, str]) -> None:
        """Set tags on a version."""

    def download(self, model: RegisteredModel, folder: Path) -> Path:
        """Fetch a version's saved model and return the folder that `Model.save` wrote into."""

    def download_logged(self, model_uri: str, folder: Path) -> Path:
        """Fetch a model that is logged but perhaps not registered, likewise."""


class Announcer(Protocol):
    """Publishes the completion event."""

    def announce(self, event: Mapping[str, object]) -> bool:
        """Publish the event with retries; False if it could not be delivered, which is logged."""
