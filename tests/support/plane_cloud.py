"""Runs the control plane on the real Functions host, with Azurite, Event Grid and a workspace of stand-in notebooks."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient
from databricks.sdk.service.workspace import ImportFormat, Language

from functions.adapters.storage import StorageAccount
from functions.adapters.table_ledger import TableLedger
from functions.adapters.tables import AzureTables
from functions.core.ledger import Run
from functions.core.model import RunId
from tests.support.azurite import ACCOUNT, Azurite, azurite_running
from tests.support.event_grid import TOPIC_KEY, EventGrid, make_config, running_event_grid
from tests.support.functions_host import FunctionsHost, functions_host_running, until
from tests.support.workspace import IDENTITY_HEADER, Workspace, notebook_of, stand_in_settings

__all__ = ["TOPIC", "PlaneCloud", "deploy_stand_ins", "plane_cloud", "script_registry", "subscription"]

TOPIC = "tidegate-completions"
_APP = Path(__file__).parents[2]

# What a scoring notebook does, without Spark: writes the manifest of its scores, reports, exits.
_NOTEBOOK = """# Databricks notebook source
import json, os, time, urllib.request
from datetime import UTC, datetime
from azure.storage.blob import BlobServiceClient
p = request["parameters"]
blobs = BlobServiceClient.from_connection_string("{blob_connection}")
now = datetime.now(UTC).isoformat()
manifest_path = p["manifest_url"].split("/", 4)[4]
inputs = json.loads(blobs.get_blob_client("tidegate", manifest_path).download_blob().readall())
names = [file["path"] for file in inputs["files"]]
if any("silent" in name for name in names):
    raise RuntimeError("this notebook never reports")
if any("raises_once" in name for name in names) and p["attempt"] == "1":
    raise RuntimeError("this notebook fails in its first attempt")
if any("sleeps" in name for name in names):
    time.sleep(300)
model = {{"name": p["model_name"], "version": p["model_version"], "mlflow_run_id": None, "is_champion": None}}
refs = [{{"url": file["url"], "etag": file["etag"]}} for file in inputs["files"][:20]]
seen = {{"manifest_url": p["manifest_url"], "manifest_sha256": p["manifest_sha256"], "batch_id": p["batch_id"],
        "file_count": len(names), "files": refs}}
scores = json.dumps({{"schema_version": 1, "run_id": p["run_id"], "attempt": int(p["attempt"]),
    "pipeline": p["pipeline"], "batch_id": p["batch_id"], "created_at": now, "model": model, "inputs": seen,
    "columns": [{{"name": "delay", "type": "double", "nullable": False}}], "score_column": "delay",
    "rows_in": 10, "rows_scored": 10, "rows_quarantined": 0, "null_scores": 0,
    "files": [{{"url": p["output_url"] + "/part-0.parquet", "etag": "0x1", "size_bytes": 1}}],
    "quarantine_files": []}}).encode()
container, path = p["output_url"].split("/", 4)[3:]
blobs.get_blob_client(container, path + "/_manifest.json").upload_blob(scores, overwrite=True)
import hashlib
outputs = {{"scores_url": p["output_url"], "manifest_url": p["output_url"] + "/_manifest.json",
           "manifest_sha256": hashlib.sha256(scores).hexdigest(), "rows_in": 10, "rows_scored": 10,
           "rows_quarantined": 0}}
data = {{"schema_version": 1, "run_id": p["run_id"], "attempt": int(p["attempt"]), "outcome": "completed",
        "reason": None, "pipeline": p["pipeline"], "kind": p["kind"], "environment": p["environment"],
        "token": p["token"], "databricks_run_id": request["run_id"], "model": model, "inputs": seen,
        "outputs": outputs, "stages": [], "metrics": {{}}, "announced_by": "notebook"}}
event = {{"specversion": "1.0", "id": p["run_id"] + "." + p["attempt"] + ".completed",
         "source": "/tidegate/" + p["environment"], "type": "tidegate.scoring.completed",
         "subject": "pipelines/" + p["pipeline"] + "/runs/" + p["run_id"], "time": now,
         "datacontenttype": "application/json", "dataschema": "urn:tidegate:schema:completion-event:1",
         "traceparent": p["traceparent"], "data": data}}
call = urllib.request.Request("{topic}", data=json.dumps([event]).encode(), method="POST",
    headers={{"aeg-sas-key": "{topic_key}", "Content-Type": "application/cloudevents-batch+json; charset=utf-8"}})
for _ in range(4):  # as the real one: what cannot be announced is the control plane's to announce
    try:
        urllib.request.urlopen(call, timeout=15).read()
        break
    except OSError:
        time.sleep(0.5)
dbutils.notebook.exit("done")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneCloud:
    """The running parts, and what a test asks of them."""

    azurite: Azurite
    event_grid: EventGrid
    workspace: Workspace
    host: FunctionsHost
    settings: dict[str, str]
    ledger: TableLedger
    blobs: BlobServiceClient
    queues: QueueServiceClient

    def upload(self, name: str, data: bytes = b"flights") -> str:
        """Upload a file that the scoring route wants, through the proxy that raises events; return its URL."""
        self.blobs.get_blob_client("input", f"flights/new/{name}").upload_blob(data, overwrite=True)
        return f"https://{ACCOUNT}.blob.core.windows.net/input/flights/new/{name}"

    def upload_silently(self, name: str, data: bytes = b"flights") -> None:
        """Upload a file behind the proxy's back, so that no event announces it."""
        blobs = BlobServiceClient.from_connection_string(self.azurite.connection_string)
        with blobs:
            blobs.get_blob_client("input", f"flights/new/{name}").upload_blob(data, overwrite=True)

    def run_of(self, name: str, *, within_s: float = 40.0) -> Run:
        """Return the run that a file was assigned to."""

        def look() -> Run | None:
            for entry in self.ledger.arrivals_of_path(ACCOUNT, "input", f"flights/new/{name}"):
                if entry.value.run_id is not None and (run := self.ledger.get_run(entry.value.run_id)) is not None:
                    return run.value
            return None

        run = until(look, deadline_s=within_s, what=f"a run of {name}")
        assert run is not None
        return run

    def ended(self, run_id: RunId, *, attempt: int = 1, within_s: float = 60.0) -> Run:
        """Return a run once the story of this attempt, or a later one, is over."""

        def look() -> Run | None:
            entry = self.ledger.get_run(run_id)
            is_over = entry is not None and entry.value.is_story_over and entry.value.attempt >= attempt
            return entry.value if entry is not None and is_over else None

        run = until(look, deadline_s=within_s, what=f"the end of {run_id}")
        assert run is not None
        return run

    def api(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Call the app's HTTP API with its key."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        reply = self.host.request(method, f"/api{path}", key=self.host.default_key, body=data, headers=headers)
        return reply.status, reply.json() if reply.body else None

    def databricks_runs(self, token: str) -> int:
        """Return how many runs of one token the workspace has."""
        runs = self.workspace.client().jobs.list_runs(expand_tasks=False)
        return sum(1 for run in runs for value in run.job_parameters or [] if value.value == token)


@contextmanager
def plane_cloud(folder: Path) -> Iterator[PlaneCloud]:
    """Yield a running control plane; everything ends with it."""
    with azurite_running() as azurite, _event_grid(azurite, folder / "event_grid") as event_grid:
        workspace = Workspace(folder / "workspace").start()
        try:
            deploy_stand_ins(
                workspace,
                blob_connection=azurite.connection_string_with(blob_endpoint=event_grid.blob_endpoint),
                topic=event_grid.topic_endpoint(TOPIC),
            )
            script_registry(workspace)
            settings = _settings(azurite, event_grid, workspace)
            with functions_host_running(_APP, settings) as host:
                storage = StorageAccount(connection_string=azurite.connection_string)
                yield PlaneCloud(
                    azurite=azurite,
                    event_grid=event_grid,
                    workspace=workspace,
                    host=host,
                    settings=settings,
                    ledger=TableLedger(AzureTables(storage, prefix="tidegate")),
                    blobs=BlobServiceClient.from_connection_string(settings["TIDEGATE_STORAGE"]),
                    queues=QueueServiceClient.from_connection_string(azurite.connection_string),
                )
                storage.close()
        finally:
            workspace.kill()


@contextmanager
def _event_grid(azurite: Azurite, folder: Path) -> Iterator[EventGrid]:
    queues = QueueServiceClient.from_connection_string(azurite.connection_string)
    for queue in ("arrivals", "dispatch", "completions"):
        queues.create_queue(queue)
    blobs = BlobServiceClient.from_connection_string(azurite.connection_string)
    for container in ("input", "scores", "tidegate", "deadletter"):
        blobs.create_container(container)
    config = make_config(
        azurite,
        topics=[{"name": TOPIC, "key": TOPIC_KEY, "input_schema": "CloudEventSchemaV1_0"}],
        subscriptions=[
            subscription("arrivals", "storage", "EventGridSchema", ["Microsoft.Storage.BlobCreated"]),
            subscription("completions", TOPIC, "CloudEventSchemaV1_0"),
        ],
    )
    with running_event_grid(config, folder) as event_grid:
        yield event_grid


def subscription(queue: str, source: str, schema: str, types: list[str] | None = None) -> dict[str, object]:
    """Return a subscription that delivers to the queue of the same name."""
    return {
        "name": queue,
        "source": source,
        "destination": {"type": "StorageQueue", "queue": queue},
        "event_schema": schema,
        "filter": {"includedEventTypes": types},
        "retry": {"max_delivery_attempts": 30, "event_ttl_minutes": 1440},
        "dead_letter_container": "deadletter",
    }


def deploy_stand_ins(workspace: Workspace, *, blob_connection: str, topic: str) -> None:
    """Deploy the two jobs with a notebook that does what the contract asks, without Spark."""
    source = _NOTEBOOK.format(blob_connection=blob_connection, topic=topic, topic_key=TOPIC_KEY)
    client = workspace.client()
    for name in ("scoring", "training"):
        notebook = notebook_of(name, environment="local")
        client.workspace.mkdirs(notebook.rpartition("/")[0])
        client.workspace.import_(
            notebook,
            content=base64.b64encode(source.encode()).decode(),
            format=ImportFormat.SOURCE,
            language=Language.PYTHON,
            overwrite=True,
        )
        client.jobs.create(**stand_in_settings(name, environment="local").as_shallow_dict())


def script_registry(workspace: Workspace) -> None:
    """Have the workspace say which version is the champion: there is no MLflow behind it. It forgets when it dies."""
    workspace.fault(
        method="GET",
        path=".*/unity-catalog/models/.*/aliases/champion",
        times=100_000,
        action={"status": 200, "body": {"model_name": "flight_delay", "version": 7}},
    )


def _settings(azurite: Azurite, event_grid: EventGrid, workspace: Workspace) -> dict[str, str]:
    connection = azurite.connection_string_with(blob_endpoint=event_grid.blob_endpoint)
    return {
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "AzureWebJobsStorage": connection,
        "TIDEGATE_STORAGE": connection,
        "TIDEGATE_ENVIRONMENT": "local",
        "TIDEGATE_RECONCILE_SCHEDULE": "*/5 * * * * *",
        "DATABRICKS_HOST": workspace.url,
        "IDENTITY_ENDPOINT": f"{workspace.url}/msi/token",
        "IDENTITY_HEADER": IDENTITY_HEADER,
        "EVENTGRID_TOPIC_ENDPOINT": event_grid.topic_endpoint(TOPIC),
        "EVENTGRID_TOPIC_KEY": TOPIC_KEY,
    }
