"""Runs a control plane of which every process can be killed and started again, with a tripwire between all of them."""

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import psutil
from azure.core.exceptions import AzureError
from azure.data.tables import TableServiceClient
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient

from tests.support.azurite import ACCOUNT, Azurite, azurite_running
from tests.support.event_grid import TOPIC_KEY, EventGrid, make_config, running_event_grid
from tests.support.functions_host import FunctionsHost, functions_host_running, until
from tests.support.plane_cloud import TOPIC, deploy_stand_ins, script_registry, subscription
from tests.support.tripwire import Door, Tripwire
from tests.support.workspace import IDENTITY_HEADER, Workspace, free_port, is_alive

__all__ = ["FragileCloud", "Victim", "fragile_cloud"]

_APP: Final = Path(__file__).parents[2]
_QUEUES: Final = ("arrivals", "dispatch", "completions", "subscriber")
_CONTAINERS: Final = ("input", "scores", "tidegate", "deadletter")
_WORKER_KILLS_UNTIL_THE_HOST_GETS_SLOW: Final = 5
_WORKER_WITHIN_S: Final = 120.0
_EVENT_GRID_IS_FASTER: Final = 0.05  # a delivery that failed is tried again after half a second, not after ten


class Victim(StrEnum):
    """A process that can be killed."""

    WORKER = "worker"
    HOST = "host"
    AZURITE = "azurite"
    WORKSPACE = "workspace"
    EVENT_GRID = "event_grid"
    NOTEBOOK = "notebook"


class FragileCloud:
    """The running parts; every address that one knows of another is a door of the tripwire."""

    def __init__(self, folder: Path, pipelines: str) -> None:
        self._folder = folder
        self._pipelines = pipelines
        self._key = base64.b64encode(secrets.token_bytes(64)).decode()
        self._lives: dict[Victim, ExitStack] = {}
        self._worker_kills = 0
        self.tripwire = Tripwire()
        self.azurite: Azurite
        self.event_grid: EventGrid
        self.workspace = Workspace(folder / "workspace")
        self.host: FunctionsHost

    @property
    def connection(self) -> str:
        """The storage account behind its doors; blobs through the proxy that raises events."""
        doors = {"Blob": Door.BLOBS, "Queue": Door.QUEUES, "Table": Door.TABLES}
        endpoints = "".join(f"{name}Endpoint={self.tripwire.url(door)}/{ACCOUNT};" for name, door in doors.items())
        return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={self._key};{endpoints}"

    @property
    def topic(self) -> str:
        """Where completion events are published to."""
        return f"{self.tripwire.url(Door.TOPICS)}/topics/{TOPIC}/api/events"

    def start(self) -> None:
        """Start everything."""
        self._start_azurite()
        self._provision()
        self._start_event_grid()
        self._start_workspace()
        deploy_stand_ins(self.workspace, blob_connection=self.connection, topic=self.topic)
        self._start_host()

    def stop(self) -> None:
        """End everything, whatever is still alive."""
        with contextlib.ExitStack() as stack:
            for victim in (Victim.AZURITE, Victim.EVENT_GRID, Victim.WORKSPACE, Victim.HOST):  # ends in reverse
                if victim in self._lives:
                    stack.enter_context(self._lives.pop(victim))

    def kill(self, victim: Victim, *, pipeline: str = "") -> None:
        """Kill a process with SIGKILL and return once it is gone.

        Azure keeps what it has acknowledged, so Azurite's tables are on disk before it dies.
        """
        match victim:
            case Victim.WORKER:
                self._kill_worker()
            case Victim.HOST:
                worker = self._ready_worker()
                self.host.kill()
                _until_gone(worker)
            case Victim.AZURITE:
                with self.tripwire.shut(Door.TABLES, Door.QUEUES, Door.RAW_BLOBS):
                    self.azurite.save()
                    self.azurite.kill()
            case Victim.WORKSPACE:
                notebooks = self._notebooks()
                self.workspace.kill()
                for notebook in notebooks:
                    _until_gone(notebook)
            case Victim.EVENT_GRID:
                self.event_grid.kill()
            case Victim.NOTEBOOK:
                found = self._notebooks(pipeline)
                assert found, f"no notebook of {pipeline!r} is alive"
                for notebook in found:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(notebook, signal.SIGKILL)
                    _until_gone(notebook)

    def revive(self, victim: Victim) -> None:
        """Start what was killed; return once it works."""
        match victim:
            case Victim.WORKER:
                self._heal_host()
            case Victim.HOST:
                self._start_host()
            case Victim.AZURITE:
                self._start_azurite()
            case Victim.WORKSPACE:
                self.workspace.port = free_port()
                self._start_workspace()
            case Victim.EVENT_GRID:
                self._start_event_grid()
            case Victim.NOTEBOOK:
                pass  # nobody starts a notebook but the control plane

    def upload(self, path: str, data: bytes = b"flights", *, within_s: float = 60.0) -> str:
        """Upload a file as often as it takes to be told that it is there; return its ETag without quotes."""
        deadline = time.monotonic() + within_s
        with BlobServiceClient.from_connection_string(self.connection, retry_total=0) as service:
            while True:
                try:
                    answer = service.get_blob_client("input", path).upload_blob(data, overwrite=True)
                except AzureError:
                    assert time.monotonic() < deadline, f"{path!r} could not be uploaded within {within_s:g} s"
                    time.sleep(0.1)
                else:
                    return str(answer["etag"]).strip('"')

    def event_grid_fault(self, **fault: Any) -> None:
        """Script a fault of the Event Grid emulator."""
        import requests

        requests.post(f"{self.event_grid.url}/_faults", json=fault, timeout=30).raise_for_status()

    def tables(self) -> TableServiceClient:
        """Return the vendor's client of the ledger's tables."""
        return TableServiceClient.from_connection_string(self.connection, retry_total=1)

    def queues(self) -> QueueServiceClient:
        """Return the vendor's client of the queues."""
        return QueueServiceClient.from_connection_string(self.connection)

    def _begin(self, victim: Victim) -> ExitStack:
        if victim in self._lives:
            self._lives.pop(victim).close()
        self._lives[victim] = ExitStack()
        return self._lives[victim]

    def _start_azurite(self) -> None:
        folder = self._folder / "azurite"
        folder.mkdir(exist_ok=True)
        self.azurite = self._begin(Victim.AZURITE).enter_context(azurite_running(key=self._key, folder=folder))
        for door, port in (
            (Door.TABLES, self.azurite.table_port),
            (Door.QUEUES, self.azurite.queue_port),
            (Door.RAW_BLOBS, self.azurite.blob_port),
        ):
            self.tripwire.point_to(door, f"http://127.0.0.1:{port}")

    def _provision(self) -> None:
        with self.queues() as queues, BlobServiceClient.from_connection_string(self.azurite.connection_string) as blobs:
            for queue in _QUEUES:
                queues.create_queue(queue)
            for container in _CONTAINERS:
                blobs.create_container(container)

    def _start_event_grid(self) -> None:
        config = make_config(
            self.azurite,
            azurite_blob=self.tripwire.url(Door.RAW_BLOBS),
            queue_endpoint=f"{self.tripwire.url(Door.QUEUES)}/{ACCOUNT}",
            time_scale=_EVENT_GRID_IS_FASTER,
            topics=[{"name": TOPIC, "key": TOPIC_KEY, "input_schema": "CloudEventSchemaV1_0"}],
            subscriptions=[
                subscription("arrivals", "storage", "EventGridSchema", ["Microsoft.Storage.BlobCreated"]),
                subscription("completions", TOPIC, "CloudEventSchemaV1_0"),
                subscription("subscriber", TOPIC, "CloudEventSchemaV1_0"),
            ],
        )
        life = self._begin(Victim.EVENT_GRID)
        self.event_grid = life.enter_context(running_event_grid(config, self._folder / "event_grid"))
        self.tripwire.point_to(Door.BLOBS, f"http://127.0.0.1:{self.event_grid.proxy_port}")
        self.tripwire.point_to(Door.TOPICS, self.event_grid.url)

    def _start_workspace(self) -> None:
        life = self._begin(Victim.WORKSPACE)
        self.workspace.start()
        life.callback(self.workspace.kill)
        script_registry(self.workspace)
        self.tripwire.point_to(Door.WORKSPACE, self.workspace.url)

    def _start_host(self) -> None:
        life = self._begin(Victim.HOST)
        app = life.enter_context(_impatient_app(self._folder / "app", self._pipelines))
        settings = {
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "AzureWebJobsStorage": self.connection,
            "TIDEGATE_STORAGE": self.connection,
            "TIDEGATE_ENVIRONMENT": "local",
            "TIDEGATE_RECONCILE_SCHEDULE": "*/4 * * * * *",
            "TIDEGATE_SWEEP_SCHEDULE": "*/10 * * * * *",
            "TIDEGATE_SWEEP_GRACE_SECONDS": "60",
            "DATABRICKS_HOST": self.tripwire.url(Door.WORKSPACE),
            "IDENTITY_ENDPOINT": f"{self.tripwire.url(Door.WORKSPACE)}/msi/token",
            "IDENTITY_HEADER": IDENTITY_HEADER,
            "EVENTGRID_TOPIC_ENDPOINT": self.topic,
            "EVENTGRID_TOPIC_KEY": TOPIC_KEY,
        }
        options = {"QueueLease": "00:00:05"}  # what a dead host had taken is delivered again after seconds
        self.host = life.enter_context(functions_host_running(app, settings, host_options=options))
        self._worker_kills = 0

    def _kill_worker(self) -> None:
        pid = self._ready_worker()
        self._worker_kills += 1
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        _until_gone(pid)

    def _heal_host(self) -> None:
        """Wait for the next worker; a host whose workers died time and again would wait longer before each."""
        before = self._ready_worker()
        if self._worker_kills >= _WORKER_KILLS_UNTIL_THE_HOST_GETS_SLOW:
            assert self.host.request("POST", "/admin/host/restart", key=self.host.master_key).status < 300
            until(lambda: self._ready_worker() != before, deadline_s=_WORKER_WITHIN_S, what="another worker")
            self._worker_kills = 0

    def _ready_worker(self) -> int:
        def ready() -> int:
            worker = self.host.status()["worker"]
            return int(worker["pid"]) if worker["isReady"] else 0

        return until(ready, deadline_s=_WORKER_WITHIN_S, what="a worker that is ready")

    def _notebooks(self, pipeline: str = "") -> list[int]:
        """Return the processes of running notebooks, of one pipeline or all."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            last = (process.info["cmdline"] or [""])[-1]
            if not last.startswith(str(self.workspace.directory)) or not last.endswith("request.json"):
                continue
            with contextlib.suppress(OSError, ValueError):
                request = json.loads(Path(last).read_text())
                if pipeline in {"", request["parameters"].get("pipeline")} and is_alive(process):
                    found.append(process.pid)
        return found


@contextmanager
def fragile_cloud(folder: Path, pipelines: str) -> Iterator[FragileCloud]:
    """Yield a running cloud for these pipelines; everything ends with it.

    Args:
        folder: Where it keeps its state.
        pipelines: The content of `pipelines.toml`.
    """
    cloud = FragileCloud(folder, pipelines)
    with cloud.tripwire:
        try:
            cloud.start()
            yield cloud
        finally:
            cloud.stop()


@contextmanager
def _impatient_app(folder: Path, pipelines: str) -> Iterator[Path]:
    """Yield a folder with the app as it is, other pipelines, and messages that come back after a second."""
    folder.mkdir()
    for name in ("function_app.py", "functions", "job_templates"):
        (folder / name).symlink_to(_APP / name)
    host = json.loads((_APP / "host.json").read_text())
    host["extensions"]["queues"]["visibilityTimeout"] = "00:00:01"
    (folder / "host.json").write_text(json.dumps(host))
    (folder / "pipelines.toml").write_text(pipelines)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _until_gone(pid: int) -> None:
    def gone() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    until(gone, deadline_s=30, what=f"the end of process {pid}")
