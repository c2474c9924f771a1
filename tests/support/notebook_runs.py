"""Runs notebooks through the real runner in the cluster's environment, as the workspace does."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["NotebookRun", "NotebookWorld", "eventually", "processes_that_mention"]

_REPOSITORY = Path(__file__).parents[2]
CLUSTER_PYTHON = _REPOSITORY / ".venv-cluster" / "bin" / "python"
SPARK_JARS = _REPOSITORY / ".tools" / "spark-jars"
_DEADLINE_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NotebookRun:
    """What a run left."""

    exit_code: int
    result: dict[str, Any]
    log: str
    output_dir: Path

    def cell(self, index: int) -> dict[str, Any]:
        """Return a cell's record."""
        cell: dict[str, Any] = self.result["cells"][index]
        return cell

    @property
    def explanation(self) -> str:
        """What to show when a test fails."""
        trace = self.result.get("error_trace") or self.result.get("error")
        return f"exit code {self.exit_code}\n{trace}\n{self.log[-4000:]}"


class NotebookWorld:
    """A workspace on disk without a server; storage, secrets and MLflow are where the test says."""

    def __init__(
        self,
        root: Path,
        *,
        account: str = "tidegatelocal",
        key: str = "a2V5",
        blob_port: int = 9,
        host: str = "http://127.0.0.1:9",
    ) -> None:
        self.root = root
        self.workspace = root / "workspace"
        self.folder = self.workspace / "project" / "notebooks"
        self.folder.mkdir(parents=True)
        self.dbfs = root / "dbfs"
        self.volumes = root / "volumes"
        self.dbfs.mkdir()
        self.volumes.mkdir()
        self.account = account
        self._key = key
        self._blob_port = blob_port
        self._host = host
        self._runs = 0

    def write(self, name: str, *cells: str) -> Path:
        """Write a notebook of these cells beside the others."""
        file = self.folder / name
        body = "\n\n# COMMAND ----------\n\n".join(cell.strip("\n") for cell in cells)
        file.write_text(f"# Databricks notebook source\n{body}\n", encoding="utf-8")
        return file

    def run(self, *cells: str, parameters: Mapping[str, str] | None = None, **fields: Any) -> NotebookRun:
        """Run a notebook of these cells to its end."""
        with self.started(*cells, parameters=parameters, **fields) as (process, output):
            exit_code = process.wait(timeout=_DEADLINE_S)
        return self._read(exit_code, output)

    @contextmanager
    def started(
        self, *cells: str, parameters: Mapping[str, str] | None = None, **fields: Any
    ) -> "Iterator[tuple[subprocess.Popen[bytes], Path]]":
        """Yield a started run and its output folder; it is killed afterwards if it has not ended."""
        self._runs += 1
        notebook = self.write("main", *cells)
        output = self.root / f"run-{self._runs}"
        output.mkdir()
        request_file = output / "request.json"
        request = self._request(notebook, output, parameters or {}) | fields
        request_file.write_text(json.dumps(request), encoding="utf-8")
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.root)}
        process = subprocess.Popen(
            [CLUSTER_PYTHON, "-m", "runner", str(request_file)],
            cwd=notebook.parent,
            env=environment | {"PYTHONPATH": str(_REPOSITORY / "local" / "databricks")},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process, output
        finally:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def _read(self, exit_code: int, output: Path) -> NotebookRun:
        log = (output / "driver.log").read_text(encoding="utf-8")
        result_file = output / "result.json"
        result = json.loads(result_file.read_text(encoding="utf-8")) if result_file.exists() else {}
        return NotebookRun(exit_code=exit_code, result=result, log=log, output_dir=output)

    def _request(self, notebook: Path, output: Path, parameters: Mapping[str, str]) -> dict[str, Any]:
        return {
            "run_id": 11,
            "task_run_id": 12,
            "job_id": 13,
            "task_key": "main",
            "notebook_path": "/project/notebooks/main",
            "notebook_file": str(notebook),
            "workspace_root": str(self.workspace),
            "dbfs_root": str(self.dbfs),
            "volumes_root": str(self.volumes),
            "parameters": dict(parameters),
            "env": {},
            "spark_jars_dir": str(SPARK_JARS),
            "storage": {"account": self.account, "key": self._key, "blob_port": self._blob_port},
            "result_file": str(output / "result.json"),
            "output_dir": str(output),
            "host": self._host,
            "token": "dapi-of-the-run",
        }


def eventually(holds: Callable[[], bool], *, within_s: float = 20.0) -> bool:
    """Return whether a condition comes true in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def processes_that_mention(text: str) -> list[str]:
    """Return the command lines of live processes that name a text, such as the folder of a run."""
    listing = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,stat=,args="], capture_output=True, text=True, check=True)
    lines = [line.strip() for line in listing.stdout.splitlines() if text in line]
    return [line for line in lines if " Z" not in line and " ps -A" not in line]
