"""Tests the adapters against the real services' clients: Azurite, an Event Grid topic, a telemetry endpoint."""

import importlib.util
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from worlds import FolderStore

from tidegate_mlops.azure_storage import AzureBlobStore
from tidegate_mlops.errors import InvalidEnvironmentError, SupersededError
from tidegate_mlops.ports import BlobStore
from tidegate_mlops.urls import BlobUrl

ROOT = Path(__file__).parents[2]
FOLDER = BlobUrl(account="tidegatelocal", container="scores", path="p/batch=1")
EVENT = {
    "specversion": "1.0",
    "id": "p-20130701T030000Z-000000000001.1.completed",
    "source": "/tidegate/local",
    "type": "tidegate.scoring.completed",
    "subject": "pipelines/p/runs/p-20130701T030000Z-000000000001",
    "time": "2013-07-01T03:00:00Z",
    "datacontenttype": "application/json",
    "dataschema": "urn:tidegate:schema:completion-event:1",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "data": {"schema_version": 1},
}


def _support() -> ModuleType:
    spec = importlib.util.spec_from_file_location("azurite_support", ROOT / "tests/support/azurite.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def azure_store() -> Iterator[AzureBlobStore]:
    """The real adapter on a real Azurite."""
    from azure.storage.blob import BlobServiceClient

    with _support().azurite_running() as azurite:
        credential = {"account_name": azurite.account, "account_key": azurite.key}
        BlobServiceClient(azurite.blob_endpoint, credential=credential).create_container("scores")
        yield AzureBlobStore({azurite.account: azurite.blob_endpoint}, lambda account: credential)


@pytest.fixture(params=["folder", "azurite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """Every store that a run may meet: one set of promises."""
    made: BlobStore = FolderStore(tmp_path) if request.param == "folder" else request.getfixturevalue("azure_store")
    made.delete_folder(FOLDER)
    return made


def test_a_blob_is_created_once(store: BlobStore) -> None:
    """The second writer is told, and the first content stays."""
    url = FOLDER.child("_manifest.json")

    etag, again = store.create(url, b"first"), store.create(url, b"second")

    assert again is None
    blob = store.read(url)
    assert blob is not None
    assert (blob.data, blob.etag) == (b"first", etag)


def test_only_the_version_that_was_seen_is_replaced(store: BlobStore) -> None:
    """A compare-and-set: whoever looked at an older version is told."""
    url = FOLDER.child("a b#%[1].json")
    seen = store.create(url, b"first")
    assert seen is not None

    assert store.replace(url, b"second", etag=seen) is not None
    assert store.replace(url, b"third", etag=seen) is None
    assert store.replace(FOLDER.child("absent"), b"x", etag=seen) is None
    blob = store.read(url)
    assert blob is not None
    assert blob.data == b"second"


def test_what_is_not_there_is_none(store: BlobStore) -> None:
    """Absence is a value, not an error."""
    assert store.read(FOLDER.child("absent")) is None
    assert store.facts(FOLDER.child("absent")) is None
    assert list(store.list_folder(FOLDER.child("nothing"))) == []


def test_a_range_is_read_of_one_version_only(store: BlobStore) -> None:
    """A file that changes while it is read is noticed at the next read."""
    url = FOLDER.child("x.parquet")
    etag = store.create(url, b"0123456789")
    assert etag is not None

    assert store.read_range(url, offset=2, length=3, etag=etag) == b"234"

    store.put(url, b"abcdefghij")
    with pytest.raises(SupersededError):
        store.read_range(url, offset=2, length=3, etag=etag)


def test_a_folder_is_listed_and_deleted_alone(store: BlobStore) -> None:
    """`data/1` is not `data/10`, and deleting twice is harmless."""
    for name in ("data/1/b", "data/1/a", "data/10/c"):
        store.put(FOLDER.child(name), b"x")

    listed = [facts.url.path.removeprefix(FOLDER.path) for facts in store.list_folder(FOLDER.child("data/1"))]
    store.delete_folder(FOLDER.child("data/1"))
    store.delete_folder(FOLDER.child("data/1"))

    assert listed == ["/data/1/a", "/data/1/b"]
    assert [facts.url.name for facts in store.list_folder(FOLDER)] == ["c"]


def test_a_lock_keeps_others_waiting(store: BlobStore) -> None:
    """Two trainers that move the same alias do it one after the other."""
    order: list[str] = []
    is_held = threading.Event()

    def second() -> None:
        is_held.wait(10)
        with store.lock(FOLDER.child("lock")):
            order.append("second")

    waiting = threading.Thread(target=second)
    waiting.start()
    with store.lock(FOLDER.child("lock")):
        is_held.set()
        waiting.join(0.3)
        order.append("first")
    waiting.join(20)

    assert order == ["first", "second"]


def test_an_account_that_the_environment_does_not_know_is_refused() -> None:
    """A local run can never reach Azure."""
    store = AzureBlobStore({"tidegatelocal": "http://127.0.0.1:9/tidegatelocal"}, lambda account: None)

    with pytest.raises(InvalidEnvironmentError, match=r"'other' is not in environment\.json"):
        store.read(BlobUrl(account="other", container="c", path="p"))


class _Topic(BaseHTTPRequestHandler):
    """Answers as a topic does; each request takes the next status."""

    statuses: list[int]
    requests: list[tuple[dict[str, str], Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.statuses.pop(0) if self.statuses else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def topic(*statuses: int) -> Iterator[tuple[str, list[tuple[dict[str, str], Any]]]]:
    handler = type("Topic", (_Topic,), {"statuses": list(statuses), "requests": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/topics/t/api/events", handler.requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_event_reaches_the_topic_as_it_was_built() -> None:
    """CloudEvents 1.0 in JSON, signed with the key, trace context included."""
    pytest.importorskip("azure.eventgrid", reason="needs the release's packages: locks/cluster-release.txt")
    from azure.core.credentials import AzureKeyCredential

    from tidegate_mlops.event_grid import EventGridAnnouncer

    with topic(200) as (endpoint, requests):
        assert EventGridAnnouncer(endpoint, AzureKeyCredential("the-key")).announce(EVENT)

    [(headers, [sent])] = requests
    assert headers["aeg-sas-key"] == "the-key"
    assert headers["content-type"].startswith("application/cloudevents-batch+json")
    assert sent == EVENT | {"time": sent["time"]}
    assert sent["time"].startswith("2013-07-01T03:00:00")


def test_a_busy_topic_is_tried_again() -> None:
    """The same event with the same id, so that subscribers see it once."""
    pytest.importorskip("azure.eventgrid", reason="needs the release's packages: locks/cluster-release.txt")
    from azure.core.credentials import AzureKeyCredential

    from tidegate_mlops.event_grid import EventGridAnnouncer

    with topic(503, 200) as (endpoint, requests):
        assert EventGridAnnouncer(endpoint, AzureKeyCredential("the-key")).announce(EVENT)

    assert [body[0]["id"] for _, body in requests] == [EVENT["id"]] * 2


def test_an_unreachable_topic_is_given_up_soon() -> None:
    """The reconciler announces the end instead; the notebook must not wait for ever."""
    pytest.importorskip("azure.eventgrid", reason="needs the release's packages: locks/cluster-release.txt")
    from azure.core.credentials import AzureKeyCredential

    from tidegate_mlops.event_grid import EventGridAnnouncer

    started = time.monotonic()

    assert not EventGridAnnouncer("http://127.0.0.1:9/api/events", AzureKeyCredential("k")).announce(EVENT)

    assert time.monotonic() - started < 30


def test_a_silent_telemetry_endpoint_does_not_keep_the_process() -> None:
    """A host that accepts and never answers costs some seconds, not the HTTP client's minutes."""
    pytest.importorskip("azure.monitor.opentelemetry", reason="needs locks/cluster-release.txt")
    program = """
import sys
from tidegate_mlops.telemetry import Telemetry
telemetry = Telemetry({"run_id": "x"}, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
address = f"http://127.0.0.1:{sys.argv[1]}/"
key = "InstrumentationKey=00000000-0000-0000-0000-000000000000"
telemetry.configure(f"{key};IngestionEndpoint={address};LiveEndpoint={address}", environment="local", release="1")
telemetry.open("notebook")
with telemetry.span("stage"):
    pass
print(telemetry.traceparent())
telemetry.close(outcome="completed", reason=None)
"""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        command = [sys.executable, "-c", program, str(silent.getsockname()[1])]
        paths = {"PYTHONPATH": ":".join(sys.path)}

        started = time.monotonic()
        done = subprocess.run(command, env=paths, capture_output=True, text=True, timeout=90, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert time.monotonic() - started < 45


def test_log_lines_show_their_fields() -> None:
    """A line under a cell says what happened, with a constant text first."""
    from tidegate_mlops.report import NotebookFormatter

    record = logging.makeLogRecord({"msg": "stage ended", "levelname": "INFO", "stage": "publish", "token": "t"})

    assert NotebookFormatter("%(levelname)s %(message)s").format(record) == "INFO stage ended stage=publish"


def test_a_version_whose_registration_was_killed_is_not_taken_for_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unity Catalog has the version before it has the files; one that is still waiting for them stays without them."""
    import mlflow
    from mlflow.entities.model_registry import ModelVersion

    from tidegate_mlops.mlflow_registry import MlflowRegistry

    def version_of(number: str, status: str) -> ModelVersion:
        return ModelVersion(name="a.b.c", version=number, creation_timestamp=0, run_id="run", status=status)

    registered: list[str] = []

    def register(uri: str, name: str, **_: object) -> ModelVersion:
        registered.append(uri)
        return version_of("2", "READY")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tmp_path.as_uri())
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", tmp_path.as_uri())
    monkeypatch.setattr(mlflow, "register_model", register)
    registry = MlflowRegistry()
    versions = [version_of("1", "PENDING_REGISTRATION")]
    monkeypatch.setattr(registry._client, "search_model_versions", lambda _: versions)

    made = registry.register("models:/m-1", "a.b.c", mlflow_run_id="run", tags={})
    versions.append(version_of("2", "READY"))
    again = registry.register("models:/m-1", "a.b.c", mlflow_run_id="run", tags={})

    assert (made.version, again.version, registered) == ("2", "2", ["models:/m-1"])
