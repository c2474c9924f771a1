"""Runs the local cloud with the naive Function beside ours, and with runs that only wait."""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from local.cloud import Cloud
from local.supervisor.folders import REPOSITORY, Folders
from local.supervisor.run import run
from local.supervisor.services import Service, child_environ, cloud_services
from local.supervisor.settings import CloudSettings
from local.supervisor.status import CloudState

__all__ = ["NAIVE_PREFIX", "OURS_PREFIX", "bench_cloud", "bench_environ", "naive_settings", "other_app"]

OURS_PREFIX: Final = "flights/new/"
NAIVE_PREFIX: Final = "naive/"
_CONTAINER: Final = "/blobServices/default/containers/input/blobs/"
_READY_S: Final = 120.0


@contextmanager
def bench_cloud(state_dir: Path) -> Iterator[CloudSettings]:
    """Start the cloud in a process of its own, yield its settings, and stop it."""
    cloud = Cloud(state_dir=state_dir)
    cloud.folders.make()
    with (state_dir / "bench.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.bench_cloud", "--state-dir", str(state_dir)],
            cwd=REPOSITORY,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + _READY_S
        while (status := cloud.status()) is None or status.state is not CloudState.READY:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the cloud did not start; see {state_dir / 'bench.log'}")
            time.sleep(0.1)
        yield cloud.settings()
    finally:
        cloud.down()
        process.wait(timeout=30)


def bench_environ() -> dict[str, str]:
    """Return the environment of a storm's processes; none speaks TLS, and `requests` would look at these each time."""
    return {name: value for name, value in child_environ().items() if not name.endswith("_CA_BUNDLE")}


def other_app(name: str, folder: Path) -> Path:
    """Return a folder with one of the bench's own apps and our host.json, so that all poll their queues alike.

    Only the decoding of messages is left to the host, as it is unless an app asks for the text as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(REPOSITORY / "bench" / name / "function_app.py", folder)
    document = json.loads((REPOSITORY / "host.json").read_text())
    document["extensions"]["queues"]["messageEncoding"] = "base64"
    (folder / "host.json").write_text(json.dumps(document))
    return folder


def naive_settings(settings: CloudSettings, job_id: int) -> dict[str, str]:
    """Return the naive app's settings: a token in the environment, as such samples have it."""
    return {
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "AzureWebJobsStorage": settings.storage_connection_string,
        "TIDEGATE_STORAGE": settings.storage_connection_string,
        "DATABRICKS_HOST": settings.url("workspace"),
        "DATABRICKS_TOKEN": settings.databricks_token,
        "NAIVE_JOB_ID": str(job_id),
        "AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.200",  # as ours on the local cloud
    }


def _services(folders: Folders, settings: CloudSettings) -> tuple[Service, ...]:
    """Return the cloud's services, adjusted: waiting runs, and the naive prefix kept away from our queue."""
    services = cloud_services(folders, settings)
    _edit(folders.config / "workspace.json", _wait_instead_of_running)
    _edit(folders.config / "event_grid.json", _split_by_prefix)
    pipelines = _lift_the_caps(folders)
    _edit(folders.config / "functions.settings.json", lambda document: _use_pipelines(document, pipelines))
    return services


def _wait_instead_of_running(document: dict[str, Any]) -> None:
    document["runner_command"] = ["/bin/sh", "-c", "read -r line"]  # until the workspace closes its end


def _split_by_prefix(document: dict[str, Any]) -> None:
    subject = {"key": "subject", "values": [f"{_CONTAINER}{NAIVE_PREFIX}"]}
    arrivals = next(found for found in document["subscriptions"] if found["name"] == "arrivals")
    naive = json.loads(json.dumps(arrivals))
    naive["name"], naive["destination"]["queue"] = "naive", "naive"
    naive["filter"]["advancedFilters"] = [{"operatorType": "StringBeginsWith", **subject}]
    arrivals["filter"]["advancedFilters"].append({"operatorType": "StringNotBeginsWith", **subject})
    document["subscriptions"].append(naive)


def _lift_the_caps(folders: Folders) -> Path:
    """Return the committed pipelines without caps on runs in flight: no run of the measurement ever ends."""
    text = (REPOSITORY / "pipelines.toml").read_text()
    for name in ("max_active", "max_in_flight"):
        text, count = re.subn(rf"{name} = \d+", f"{name} = 1000", text)
        if count == 0:
            raise RuntimeError(f"pipelines.toml has no {name} to lift")
    path = folders.config / "pipelines.toml"
    path.write_text(text)
    return path


def _use_pipelines(document: dict[str, Any], path: Path) -> None:
    document["Values"]["TIDEGATE_PIPELINES_FILE"] = str(path)


def _edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    sys.exit(run(Folders(state_dir=parser.parse_args().state_dir), None, _services))
