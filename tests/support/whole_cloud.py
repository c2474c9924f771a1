"""Drives a whole local cloud from outside, as its users do: files in, ledger, scores and completion events out."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped] # it ships no types
from azure.storage.blob import BlobServiceClient

from cli.ledger import Ledger, open_ledger
from functions.core.ledger import Arrival, Run
from functions.core.model import ArrivalState, PipelineKey, RunState
from local.cloud import Cloud
from local.demo_data.files import to_parquet
from local.demo_data.flights import month_of, read_flights
from local.setup.fetch_flights import FILE_NAME
from local.supervisor.folders import REPOSITORY
from local.supervisor.settings import ACCOUNT, INPUT_CONTAINER, SCORES_CONTAINER, CloudSettings
from tests.support.webhook import Webhook, running_webhook

__all__ = ["SCORING", "TRAINING", "WholeCloud", "wait_for", "whole_cloud"]

SCORING = PipelineKey("flight_delay_scoring")
TRAINING = PipelineKey("flight_delay_training")
_RUN_S = 180.0
_TOPIC_SCOPE = (
    "subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/tidegate-local"
    "/providers/Microsoft.EventGrid/topics/tidegate-completions"
)


def wait_for[T](look: Callable[[], T | None], what: str, *, within_s: float = 60.0) -> T:
    """Return the first thing that `look` finds; fail with what was awaited."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what} did not happen within {within_s:g} s")


@dataclass(slots=True, kw_only=True)
class WholeCloud:
    """A running cloud with the release deployed, and a subscriber to its completion events."""

    cloud: Cloud
    subscriber: Webhook
    flights: pa.Table = field(repr=False)

    @property
    def settings(self) -> CloudSettings:
        """Its present ports and secrets."""
        return self.cloud.settings()

    @property
    def ledger(self) -> Ledger:
        """Its ledger."""
        return open_ledger(self.settings)

    def month(self, month: int, *, rows: int, with_outcome: bool = False) -> bytes:
        """Return the first flights of a month as a Parquet file."""
        return to_parquet(month_of(self.flights, month, with_outcome=with_outcome).slice(0, rows))

    def upload(self, path: str, content: bytes, *, container: str = INPUT_CONTAINER) -> str:
        """Upload a blob and return its ETag without quotes."""
        with BlobServiceClient.from_connection_string(self.settings.storage_connection_string) as service:
            answer = service.get_blob_client(container, path).upload_blob(content, overwrite=True)
        return str(answer["etag"]).strip('"')

    def blobs(self, prefix: str, *, container: str = SCORES_CONTAINER) -> dict[str, int]:
        """Return the names of blobs below a prefix, with their sizes."""
        with BlobServiceClient.from_connection_string(self.settings.storage_connection_string) as service:
            found = service.get_container_client(container).list_blobs(name_starts_with=prefix)
            return {blob.name: blob.size for blob in found}

    def read(self, name: str, *, container: str = SCORES_CONTAINER) -> bytes:
        """Return a blob's content."""
        with BlobServiceClient.from_connection_string(self.settings.storage_connection_string) as service:
            return service.get_blob_client(container, name).download_blob().readall()

    def arrival(self, path: str, etag: str, *, container: str = INPUT_CONTAINER) -> Arrival | None:
        """Return what the ledger knows of one version of a blob."""
        for entry in self.ledger.rows.arrivals_of_path(ACCOUNT, container, path):
            if entry.value.blob.etag == etag:
                return entry.value
        return None

    def recorded(self, path: str, etag: str, *, container: str = INPUT_CONTAINER) -> Arrival:
        """Return the arrival once the ledger has it."""
        return wait_for(lambda: self.arrival(path, etag, container=container), f"the arrival of {path!r}")

    def settled(self, path: str, etag: str) -> Arrival:
        """Return the arrival once its run's end has reached it, a moment after the run itself has ended."""

        def look() -> Arrival | None:
            arrival = self.arrival(path, etag)
            is_waiting = arrival is None or arrival.state in {ArrivalState.HELD, ArrivalState.ASSIGNED}
            return None if is_waiting else arrival

        return wait_for(look, f"the end of arrival {path!r}")

    def run_of(self, path: str, etag: str) -> Run:
        """Return the run that an arrival was assigned to."""

        def look() -> Run | None:
            arrival = self.arrival(path, etag)
            return None if arrival is None or arrival.run_id is None else self.ledger.run(arrival.run_id)

        return wait_for(look, f"the run of {path!r}")

    def ended(self, run: Run, *, within_s: float = _RUN_S) -> Run:
        """Return the run once it has ended and its completion event is out."""

        def look() -> Run | None:
            found = self.ledger.run(run.id)
            return found if found is not None and found.is_story_over else None

        return wait_for(look, f"the end of run {run.id!r}", within_s=within_s)

    def in_state(self, path: str, etag: str, state: RunState) -> Run:
        """Return the arrival's run once it is in a state."""

        def look() -> Run | None:
            arrival = self.arrival(path, etag)
            found = self.ledger.run(arrival.run_id) if arrival is not None and arrival.run_id is not None else None
            return found if found is not None and found.state is state else None

        return wait_for(look, f"run of {path!r} being {state.value}")

    def databricks_runs(self, run: Run) -> list[dict[str, Any]]:
        """Return every Databricks run that carries the run's id among its parameters."""
        listed = self.workspace("GET", "/api/2.2/jobs/runs/list?limit=25&expand_tasks=false")
        mine = []
        for found in listed.get("runs", []):
            given = {item["name"]: item.get("value") for item in found.get("job_parameters", [])}
            if given.get("run_id") == run.id:
                mine.append(found)
        return mine

    def completion_events(self, run: Run) -> list[dict[str, Any]]:
        """Return the completion events of a run that reached the subscriber, repeats included."""
        events: list[dict[str, Any]] = []
        for received in self.subscriber.notifications:
            document = received.document
            events += document if isinstance(document, list) else [document]
        return [event for event in events if event["data"]["run_id"] == run.id]

    def workspace(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the workspace's answer."""
        headers = {"Authorization": f"Bearer {self.settings.databricks_token}"}
        return self._call(self.settings.url("workspace") + path, method, body, headers)

    def event_grid(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return Event Grid's answer."""
        return self._call(self.settings.url("event_grid") + path, method, body, {})

    def api(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """Return status and body of the control plane's HTTP API."""
        url = self.settings.url("functions") + path
        keyed = {"x-functions-key": self.settings.master_key, **headers}
        try:
            return 200, self._call(url, method, body, keyed)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def kill_worker(self) -> int:
        """Kill the Functions worker process, and return its pid."""
        _, status = self.api("GET", "/admin/host/status")
        pid = int(status["worker"]["pid"])
        os.kill(pid, signal.SIGKILL)
        return pid

    def tidegate(self, *arguments: str) -> str:
        """Run the `tidegate` command on this cloud and return what it printed."""
        environ = {**os.environ, "TIDEGATE_LOCAL_DIR": str(self.cloud.state_dir)}
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=REPOSITORY,
            env=environ,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"tidegate {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @staticmethod
    def _call(url: str, method: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> dict[str, Any]:
        request = urllib.request.Request(
            url,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **headers},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            text = response.read()
        answer: dict[str, Any] = json.loads(text) if text else {}
        return answer


@contextmanager
def whole_cloud(state_dir: Path) -> Iterator[WholeCloud]:
    """Yield a fresh cloud with the release deployed, a champion trained on real flights, and a subscriber."""
    cloud = Cloud(state_dir=state_dir)
    flights = read_flights(REPOSITORY / ".tools" / "demo-data" / FILE_NAME)
    cloud.up()
    try:
        with running_webhook() as subscriber:
            world = WholeCloud(cloud=cloud, subscriber=subscriber, flights=flights)
            world.event_grid(
                "PUT",
                f"/{_TOPIC_SCOPE}/providers/Microsoft.EventGrid/eventSubscriptions/e2e?api-version=2022-06-15",
                {
                    "properties": {
                        "destination": {"endpointType": "WebHook", "properties": {"endpointUrl": subscriber.url}},
                        "eventDeliverySchema": "CloudEventSchemaV1_0",
                    }
                },
            )
            world.tidegate("deploy")
            _train(world)
            yield world
    finally:
        cloud.down()


def _train(world: WholeCloud) -> None:
    """Fire the retraining schedule's slot and wait for the champion."""
    for month in (1, 2, 3):
        world.upload(f"flights/history/2013-{month:02}.parquet", world.month(month, rows=6000, with_outcome=True))
    status, _ = world.api("POST", f"/admin/functions/{_timer(world)}", {"input": ""})
    assert status == 200, status
    run = wait_for(lambda: next(iter(world.ledger.runs(pipeline=TRAINING)), None), "the training run")
    ended = world.ended(run)
    assert ended.outcome == "completed", ended.reason


def _timer(world: WholeCloud) -> str:
    """Return the function that the retraining schedule registered."""
    _, functions = world.api("GET", "/admin/functions")
    names = [str(function["name"]) for function in functions]  # type: ignore[index] # a list, in this one answer
    return next(name for name in names if "monthly_retraining" in name)
