"""Starts the local Databricks workspace, and an MLflow server behind it, as processes of their own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.service import jobs

from tests.support.leash import leashed_command

__all__ = [
    "IDENTITY_HEADER",
    "JOB_TEMPLATES",
    "REPOSITORY",
    "STAND_IN",
    "TOKEN",
    "Workspace",
    "eventually",
    "free_port",
    "is_alive",
    "notebook_of",
    "notebook_processes",
    "running_mlflow",
    "stand_in_settings",
]

TOKEN = "dapi0123456789abcdef"
IDENTITY_HEADER = "the-identity-header"
REPOSITORY = Path(__file__).parents[2]
JOB_TEMPLATES = REPOSITORY / "job_templates"
_RELEASE = "stand-in"
STAND_IN = [sys.executable, str(REPOSITORY / "tests/support/stand_in_runner.py")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually[T](look: Callable[[], T | None], deadline_s: float = 60.0) -> T:
    """Return what `look` finds, as soon as that is neither None nor False; fail at the deadline."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        found = look()
        if found is not None and found is not False:
            return found
        time.sleep(0.02)
    raise AssertionError(f"did not happen within {deadline_s} s: {look}")


@dataclass
class Workspace:
    """A workspace process that can be killed and started again on the same state."""

    directory: Path
    mlflow_url: str = "http://127.0.0.1:9"
    runner_command: list[str] = field(default_factory=lambda: list(STAND_IN))
    extra: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Workspace":
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "config.json"
        config.write_text(
            json.dumps(
                {
                    "token": TOKEN,
                    "identity_header": IDENTITY_HEADER,
                    "mlflow_url": self.mlflow_url,
                    "runner_command": self.runner_command,
                    "spark_jars_dir": "/nowhere",
                    "storage": {"account": "tidegatelocal", "key": "a2V5", "blob_port": 1},
                    **self.extra,
                }
            )
        )
        with (self.directory / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                leashed_command(
                    "local.databricks",
                    "--port",
                    str(self.port),
                    "--state-dir",
                    str(self.directory / "state"),
                    "--config",
                    str(config),
                ),
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        eventually(self._is_ready)
        return self

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "log.txt").read_text()
        try:
            return requests.get(f"{self.url}/health", timeout=1).status_code == 200
        except requests.ConnectionError:
            return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._drop_leash()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(timeout=5)
        self._drop_leash()
        return code

    def _drop_leash(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()

    def client(self, **settings: Any) -> WorkspaceClient:
        return WorkspaceClient(host=self.url, **({"token": TOKEN} | settings))

    def api(self, method: str, path: str, body: dict[str, Any] | None = None, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return requests.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=30, **options)

    def fault(self, **rule: Any) -> None:
        assert self.api("POST", "/_faults", rule).status_code == 200


@contextmanager
def running_mlflow(directory: Path, workspace_url: str) -> Iterator[str]:
    """Give the URL of a stock MLflow server; it reaches artifacts through the workspace."""
    port = free_port()
    environment = {**os.environ, "DATABRICKS_HOST": workspace_url, "DATABRICKS_TOKEN": TOKEN}
    with (directory / "mlflow.txt").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--backend-store-uri",
                f"sqlite:///{directory}/mlflow.db",
                "--default-artifact-root",
                "dbfs:/databricks/mlflow-tracking",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--workers",
                "1",
            ],
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _answers(url), deadline_s=90)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=1).status_code == 200
    except (requests.ConnectionError, requests.Timeout):
        return False


def notebook_processes(run: jobs.Run) -> list[psutil.Process]:
    """Return the living processes of the run's notebooks, with their children."""
    assert run.tasks
    wanted = [f"/runs/{task.run_id}/" for task in run.tasks]
    leaders = [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(folder in part for part in process.info["cmdline"] or [] for folder in wanted)
    ]
    groups = {os.getpgid(process.pid) for process in leaders}
    return [process for process in psutil.process_iter() if is_alive(process) and os.getpgid(process.pid) in groups]


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stand_in_settings(job: str, *, environment: str) -> jobs.JobSettings:
    """Return a job as its template has it, on no compute in particular and with room for many runs at once."""
    text = (JOB_TEMPLATES / f"{job}.json").read_text()
    template = json.loads(text.replace("${environment}", environment).replace("${release}", _RELEASE))
    settings = jobs.JobSettings.from_dict(template)
    settings.job_clusters, settings.max_concurrent_runs = None, 50
    for task in settings.tasks or []:
        task.job_cluster_key = None
    return settings


def notebook_of(job: str, *, environment: str) -> str:
    """Return where the notebook of such a job is."""
    (task,) = stand_in_settings(job, environment=environment).tasks or []
    assert task.notebook_task is not None
    return task.notebook_task.notebook_path
