"""Measures the local cloud's own pace: start, deployment, training on five months, and the second scoring run."""

import json
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from azure.storage.blob import BlobServiceClient, ContainerClient
from rich.console import Console

from bench.figures import Figure
from cli.deploy.command import deploy
from cli.deploy.environment import local_target
from cli.ledger import Ledger, open_ledger
from functions.core.ledger import Run
from functions.core.model import PipelineKey
from local.cloud import Cloud
from local.demo_data.files import history_files, new_file
from local.demo_data.flights import read_flights
from local.setup.fetch_flights import FILE_NAME
from local.supervisor.folders import REPOSITORY
from local.supervisor.settings import ACCOUNT, INPUT_CONTAINER

__all__ = ["measure"]

_NAME: Final = "local_cloud"
_DEADLINE_S: Final = 300.0
_POLL_S: Final = 0.2
_TRAINING: Final = PipelineKey("flight_delay_training")


def measure(console: Console) -> Sequence[Figure]:
    """Return seconds of each step on a fresh local cloud."""
    flights = read_flights(REPOSITORY / ".tools" / "demo-data" / FILE_NAME)
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        cloud = Cloud(state_dir=Path(folder))
        try:
            up_s = cloud.up().ready_after_s or 0.0
            settings = cloud.settings()
            began = time.perf_counter()
            deploy(local_target(settings), console=console)
            deploy_s = time.perf_counter() - began
            ledger = open_ledger(settings)
            with BlobServiceClient.from_connection_string(settings.storage_connection_string) as service:
                container = service.get_container_client(INPUT_CONTAINER)
                for file in history_files(flights):
                    container.upload_blob(file.path, file.content, overwrite=True)
                training = _train(settings.url("functions"), settings.function_key, ledger)
                scored = [
                    _score(container, new.path, new.content, ledger)
                    for new in (new_file(flights, month, f"2013-{month:02}") for month in (6, 7))
                ]
        finally:
            cloud.down()
    return [
        Figure(measurement=_NAME, name="up, fresh state", value=up_s, unit="s", goal=25.0),
        Figure(measurement=_NAME, name="deploy, first time", value=deploy_s, unit="s"),
        Figure(measurement=_NAME, name="training run, five months", value=_seconds(training), unit="s"),
        Figure(measurement=_NAME, name="first scoring run", value=_seconds(scored[0]), unit="s"),
        Figure(measurement=_NAME, name="second scoring run", value=_seconds(scored[1]), unit="s", goal=40.0),
    ]


def _train(functions_url: str, key: str, ledger: Ledger) -> Run:
    """Ask for a training run over HTTP and return it ended."""
    request = urllib.request.Request(
        f"{functions_url}/api/runs",
        method="POST",
        data=json.dumps({"pipeline": _TRAINING}).encode(),
        headers={"x-functions-key": key, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        json.load(response)
    return _ended(lambda: next(iter(ledger.runs(pipeline=_TRAINING, limit=1)), None), "the training run")


def _score(container: ContainerClient, path: str, content: bytes, ledger: Ledger) -> Run:
    """Upload a month and return its run ended."""
    etag = str(container.upload_blob(path, content, overwrite=True).get_blob_properties()["etag"]).strip('"')

    def look() -> Run | None:
        for entry in ledger.rows.arrivals_of_path(ACCOUNT, INPUT_CONTAINER, path):
            if entry.value.blob.etag == etag and entry.value.run_id is not None:
                return ledger.run(entry.value.run_id)
        return None

    return _ended(look, f"the run of {path}")


def _ended(look: Callable[[], Run | None], what: str) -> Run:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        run = look()
        if run is not None and run.is_story_over:
            if run.outcome != "completed":
                raise RuntimeError(f"{what} ended as {run.outcome}: {run.reason}")
            return run
        time.sleep(_POLL_S)
    raise TimeoutError(f"{what} did not end within {_DEADLINE_S:g} s")


def _seconds(run: Run) -> float:
    """Return the seconds from the decision to the proven end."""
    if run.finished_at is None:
        raise RuntimeError(f"run {run.id!r} has not ended")
    return (run.finished_at - run.created_at).total_seconds()
