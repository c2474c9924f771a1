"""Ends this notebook or runs another one: `dbutils.notebook`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from runner.endings import NotebookExit
from runner.request import Request

from .context import EntryPoint
from .paths import RootedPaths

__all__ = ["NotebookTools", "WorkflowException"]

_RUNNER_FOLDER = Path(__file__).resolve().parents[2]


class WorkflowException(Exception):  # noqa: N818 - the platform's name
    """A notebook that this one ran has failed or took too long."""


class NotebookTools:
    """`dbutils.notebook`."""

    def __init__(self, request: Request, paths: RootedPaths, cluster_python: Path) -> None:
        self._request = request
        self._paths = paths
        self._cluster_python = cluster_python
        self._runs = 0
        self.entry_point = EntryPoint(request)

    def exit(self, value: Any = "") -> NoReturn:
        """End the notebook with a value; nothing after it runs, and no `except Exception` catches it."""
        raise NotebookExit(str(value))

    def getContext(self) -> Any:  # noqa: N802
        """Return where this notebook runs."""
        return self.entry_point.getDbutils().notebook().getContext()

    def run(self, path: str, timeout_seconds: int = 0, arguments: Mapping[str, str] | None = None) -> str:
        """Run another notebook in a process of its own; return what it exits with.

        Raises:
            WorkflowException: It failed, or took longer than the time-out (0: none).
        """
        file = self._paths.notebook_file(path, beside=self._request.notebook_file)
        self._runs += 1
        folder = self._request.output_dir / "notebook-runs" / str(self._runs)
        folder.mkdir(parents=True, exist_ok=True)
        request = self._request.raw | {
            "notebook_path": f"/{file.relative_to(self._request.workspace_root.resolve()).with_suffix('')}"
            if file.resolve().is_relative_to(self._request.workspace_root.resolve())
            else path,
            "notebook_file": str(file),
            "parameters": {str(name): str(value) for name, value in (arguments or {}).items()},
            "result_file": str(folder / "result.json"),
            "output_dir": str(folder),
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        self._spawn(folder, cwd=file.parent, timeout_s=timeout_seconds, path=path)
        return _result_of(folder, path)

    def _spawn(self, folder: Path, *, cwd: Path, timeout_s: int, path: str) -> None:
        # The pipe is the child's leash: it dies with this process.
        child = subprocess.Popen(
            [str(self._cluster_python), "-P", "-m", __package__.split(".")[0], str(folder / "request.json")],
            stdin=subprocess.PIPE,
            cwd=cwd,
            env=dict(os.environ) | {"PYTHONPATH": str(_RUNNER_FOLDER)},
            start_new_session=True,
        )
        try:
            child.wait(timeout=timeout_s or None)
        except subprocess.TimeoutExpired:
            raise WorkflowException(f"Workflow failed: {path} took longer than {timeout_s} seconds") from None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            if child.stdin is not None:
                child.stdin.close()
            sys.stdout.flush()


def _result_of(folder: Path, path: str) -> str:
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except OSError:
        raise WorkflowException(f"Workflow failed: {path} ended without a result") from None
    if result["state"] != "SUCCESS":
        raise WorkflowException(f"Workflow failed: {path}: {result['error']}")
    return str(result["exit_value"] or "")
