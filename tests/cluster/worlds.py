"""Stands in for the cloud around one run: blobs in a folder that Spark also sees, and events in a list."""

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from tidegate_mlops.environment import Environment
from tidegate_mlops.errors import SupersededError
from tidegate_mlops.mlflow_registry import MlflowRegistry
from tidegate_mlops.mlflow_tracking import MlflowRun
from tidegate_mlops.ports import Blob, BlobFacts
from tidegate_mlops.urls import BlobUrl
from tidegate_mlops.wiring import DbUtils, Services

ACCOUNT = "tidegatelocal"
RELEASE = "0.1.0+gabcdef1"
MODEL = "main.tidegate.flight_delay"
NOW = datetime(2013, 7, 1, 3, 0, tzinfo=UTC)


class FolderStore:
    """A `BlobStore` over a local folder; an ETag is a digest of the content."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.RLock()

    def place(self, url: BlobUrl) -> str:
        """Return where Spark finds the blob."""
        return str(self._path(url))

    def facts(self, url: BlobUrl) -> BlobFacts | None:
        path = self._path(url)
        return BlobFacts(url=url, etag=_etag(path), size_bytes=path.stat().st_size) if path.is_file() else None

    def read(self, url: BlobUrl) -> Blob | None:
        path = self._path(url)
        return Blob(data=path.read_bytes(), etag=_etag(path)) if path.is_file() else None

    def read_range(self, url: BlobUrl, *, offset: int, length: int, etag: str) -> bytes:
        blob = self.read(url)
        if blob is None or blob.etag != etag:
            raise SupersededError(str(url), etag, blob.etag if blob else None)
        return blob.data[offset : offset + length]

    def create(self, url: BlobUrl, data: bytes) -> str | None:
        with self._lock:
            if self._path(url).exists():
                return None
            self.put(url, data)
            return _etag(self._path(url))

    def replace(self, url: BlobUrl, data: bytes, *, etag: str) -> str | None:
        with self._lock:
            facts = self.facts(url)
            if facts is None or facts.etag != etag:
                return None
            self.put(url, data)
            return _etag(self._path(url))

    def put(self, url: BlobUrl, data: bytes) -> None:
        self._path(url).parent.mkdir(parents=True, exist_ok=True)
        self._path(url).write_bytes(data)

    def list_folder(self, folder: BlobUrl) -> Sequence[BlobFacts]:
        base = self.root / folder.account / folder.container
        files = sorted(path for path in self._path(folder).rglob("*") if path.is_file() and path.suffix != ".crc")
        found = [self.facts(folder.at(str(path.relative_to(base)))) for path in files]
        return [facts for facts in found if facts is not None]

    def delete_folder(self, folder: BlobUrl) -> None:
        shutil.rmtree(self._path(folder), ignore_errors=True)

    @contextmanager
    def lock(self, url: BlobUrl) -> Iterator[None]:
        with self._lock:
            yield

    def _path(self, url: BlobUrl) -> Path:
        return self.root / url.account / url.container / url.path


def _etag(path: Path) -> str:
    return "0x" + hashlib.sha256(path.read_bytes()).hexdigest()[:16].upper()


@dataclass
class Widgets:
    """The `dbutils.widgets` of one run."""

    values: Mapping[str, str]

    def get(self, name: str) -> str:
        return self.values[name]


@dataclass
class Announcements:
    """An `Announcer` that remembers; `is_reachable` False makes it fail as an unreachable topic does."""

    events: list[dict[str, Any]] = field(default_factory=list)
    is_reachable: bool = True

    def announce(self, event: Mapping[str, object]) -> bool:
        if self.is_reachable:
            self.events.append(json.loads(json.dumps(event)))
        return self.is_reachable


@dataclass
class Notebook:
    """What a notebook has: dbutils, and a Spark session; one per attempt."""

    widgets: Widgets
    secrets: Any = None
    credentials: Any = None


class World:
    """One environment with one account; makes inputs, manifests and parameters, and collects what a run leaves."""

    def __init__(self, folder: Path, experiment: str) -> None:
        self.store = FolderStore(folder / "blobs")
        self.announcements = Announcements()
        self.experiment = experiment
        self.mlflow_uri = (folder / "mlflow").as_uri()
        self.case = 0
        self.environment_file = folder / "environment.json"
        self.environment_file.write_text(
            json.dumps(
                {
                    "environment": "local",
                    "release": RELEASE,
                    "eventgrid_topic_endpoint": "http://127.0.0.1:9/api/events",
                    "eventgrid_key_secret": None,
                    "service_credential": None,
                    "experiment": experiment,
                    "app_insights_secret": None,
                }
            ),
            encoding="utf-8",
        )

    def open_case(self) -> "World":
        """Use this world for one more test: what earlier tests left has other names."""
        mlflow.set_tracking_uri(self.mlflow_uri)
        mlflow.set_registry_uri(self.mlflow_uri)
        self.case += 1
        self.announcements.events.clear()
        self.announcements.is_reachable = True
        return self

    def services(self, environment: Environment, dbutils: DbUtils) -> Services:
        """Return this world's services, as `start` asks for them."""
        return Services(
            store=self.store,
            announcer=self.announcements,
            registry=MlflowRegistry,
            start_experiment_run=lambda name, tags: MlflowRun(environment.experiment, name=name, tags=tags),
            spark_place=self.store.place,
            app_insights_connection_string=None,
            now=lambda: NOW,
        )

    def upload(self, name: str, content: pd.DataFrame | bytes) -> str:
        """Put a file into the input container and return its URL."""
        url = BlobUrl(account=ACCOUNT, container="input", path=f"flights/new/{self.case}/{name}")
        self.store.put(url, b"")
        if isinstance(content, bytes):
            self.store.put(url, content)
        else:
            content.to_parquet(self.store.place(url), index=False)
        return str(url)

    def parameters(
        self,
        kind: str,
        urls: Sequence[str],
        *,
        attempt: int = 1,
        run: int = 1,
        manifest_adds: Mapping[str, str | None] | None = None,
        **changed: str,
    ) -> dict[str, str]:
        """Return the strings for a run over the files as they are now, after writing its manifest."""
        files = []
        for url in urls:
            facts = self.store.facts(BlobUrl.parse(url))
            assert facts is not None
            files.append({"url": url, "account": ACCOUNT, "container": "input", "path": facts.url.path})
            files[-1] |= {"etag": facts.etag, "size_bytes": facts.size_bytes, "sequencer": None, "arrival_id": None}  # type: ignore[dict-item]
        batch_id = hashlib.sha256("|".join(f"{file['url']} {file['etag']}" for file in files).encode()).hexdigest()[:16]
        pipeline = f"flight_delay_{kind}"
        run_id = f"{pipeline}-20130701T030000Z-{self.case * 100 + run:012x}"
        document = {
            "schema_version": 1,
            "run_id": run_id,
            "pipeline": pipeline,
            "kind": kind,
            "batch_id": batch_id,
            "created_at": "2013-07-01T03:00:00Z",
            "files": files,
            **(manifest_adds or {}),
        }
        data = json.dumps(document).encode()
        manifest = BlobUrl(account=ACCOUNT, container="tidegate", path=f"manifests/{pipeline}/{run_id}.json")
        self.store.put(manifest, data)
        version = changed.get("model_version", "1") if kind == "scoring" else ""
        output = f"https://{ACCOUNT}.blob.core.windows.net/scores/{pipeline}/batch={batch_id}/model_version={version}"
        values = {
            "run_id": run_id,
            "attempt": str(attempt),
            "token": hashlib.sha256(f"{run_id}.{attempt}".encode()).hexdigest(),
            "pipeline": pipeline,
            "kind": kind,
            "environment": "local",
            "release": RELEASE,
            "manifest_url": str(manifest),
            "manifest_sha256": hashlib.sha256(data).hexdigest(),
            "batch_id": batch_id,
            "model_name": MODEL,
            "model_version": version,
            "output_url": output if kind == "scoring" else "",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        }
        if kind == "training":
            values |= dict.fromkeys(("feature_engineering", "training", "evaluation", "publish"), "true")
            values |= {"learning_rate": "0.1", "num_leaves": "4", "n_estimators": "5", "seed": "13"}
        else:
            values |= dict.fromkeys(("validation", "feature_engineering", "batch_scoring", "publish"), "true")
            values |= {"max_quarantined_fraction": "0.5"}
        return values | changed

    def scores_manifest(self, parameters: Mapping[str, str]) -> dict[str, Any] | None:
        """Return the published manifest of a scoring run, if there is one."""
        blob = self.store.read(BlobUrl.parse(parameters["output_url"]).child("_manifest.json"))
        return json.loads(blob.data) if blob else None
