"""Starts notebook processes, each in a group of its own that dies with the workspace."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from local.databricks.workspace.transport.params import JsonObject

__all__ = [
    "Launcher",
    "NotebookCrash",
    "NotebookOutcome",
    "NotebookProcess",
    "NotebookRequest",
    "NotebookResult",
    "ProcessLauncher",
    "RunFolders",
]

_GRACE_S = 1.5
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "TZ", "JAVA_HOME", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "USER")
_INHERITED_PREFIXES = ("LC_", "PIP_", "UV_")
"""Nothing else of the workspace's environment reaches a notebook, as nothing of a control plane reaches a cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotebookRequest:
    """One attempt of a notebook task, ready to run."""

    run_id: int
    task_run_id: int
    job_id: int
    task_key: str
    notebook_path: str
    notebook_file: Path
    parameters: dict[str, str]
    env: dict[str, str] = field(default_factory=dict)
    task_values: dict[str, JsonObject] = field(default_factory=dict)
    """What the ended tasks of the run have set, by task key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotebookResult:
    """What a notebook came to; `exit_value` is None if it never called exit."""

    succeeded: bool
    exit_value: str | None = None
    error: str | None = None
    error_trace: str | None = None
    task_values: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotebookCrash:
    """The process ended without a result."""

    reason: str


type NotebookOutcome = NotebookResult | NotebookCrash


class NotebookProcess(Protocol):
    """A started notebook."""

    async def wait(self) -> NotebookOutcome:
        """Return what it came to, once nothing of it is left."""
        ...

    async def stop(self) -> None:
        """Ask it to end, then make it; return once nothing of it is left."""
        ...

    def kill(self) -> None:
        """Make it end now, as a lost driver would."""
        ...


class Launcher(Protocol):
    """Starts notebooks."""

    async def start(self, request: NotebookRequest) -> NotebookProcess:
        """Return the started notebook."""
        ...


class RunFolders:
    """Where the files of each attempt lie; they outlive the process, for the run page."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def of(self, task_run_id: int) -> Path:
        """Return the folder of an attempt."""
        return self._root / str(task_run_id)

    def output(self, task_run_id: int) -> Path:
        """Return the folder for `cells.json` and `driver.log`."""
        return self.of(task_run_id) / "output"


class ProcessLauncher:
    """Starts the runner as a child process with a request file.

    Args:
        command: Starts the runner; the request file is appended.
        python_path: The folder that holds the package `runner`.
        folders: Where requests, results and outputs lie.
        context: What every request says about this workspace.
        lend_token: Returns a token for an attempt; `take_back` ends it.
    """

    def __init__(
        self,
        command: Sequence[str],
        python_path: Path,
        folders: RunFolders,
        context: Mapping[str, Any],
        tokens: "TokenLender",
    ) -> None:
        self._command = tuple(command)
        self._python_path = python_path
        self._folders = folders
        self._context = dict(context)
        self._tokens = tokens

    async def start(self, request: NotebookRequest) -> NotebookProcess:
        """Return the started runner; its standard input is the leash that ends it with this process."""
        folder, output = self._folders.of(request.task_run_id), self._folders.output(request.task_run_id)
        output.mkdir(parents=True, exist_ok=True)
        result_file, request_file = folder / "result.json", folder / "request.json"
        token = self._tokens.lend_to_task_run(request.task_run_id)
        document = {
            **_to_json(request),
            **self._context,
            "result_file": str(result_file),
            "output_dir": str(output),
            "token": token,
        }
        request_file.touch(mode=0o600)
        request_file.write_text(json.dumps(document, indent=1), encoding="utf-8")
        leash_end, leash = os.pipe()
        try:
            with (output / "driver.log").open("ab") as log:
                process = await self._spawn(request, request_file, leash_end, log)
        except BaseException:  # also a cancellation while it starts: without its leash the runner ends itself
            os.close(leash)
            self._tokens.take_back(token)
            raise
        finally:
            os.close(leash_end)
        return _RunnerProcess(process, leash, result_file, lambda: self._tokens.take_back(token))

    async def _spawn(
        self, request: NotebookRequest, request_file: Path, leash_end: int, log: IO[bytes]
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            str(request_file),
            cwd=request.notebook_file.parent,
            env=_environment(self._python_path),
            stdin=leash_end,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


class TokenLender(Protocol):
    """Lends tokens to attempts."""

    def lend_to_task_run(self, task_run_id: int) -> str:
        """Return a token that opens the workspace until it is taken back."""
        ...

    def take_back(self, token: str) -> None:
        """Make a lent token invalid."""
        ...


class _RunnerProcess:
    def __init__(self, process: asyncio.subprocess.Process, leash: int, result_file: Path, on_end: "_OnEnd") -> None:
        self._process = process
        self._leash: int | None = leash
        self._result_file = result_file
        self._on_end = on_end

    async def wait(self) -> NotebookOutcome:
        code = await self._process.wait()
        self._clean_up()
        return _read_outcome(self._result_file, code)

    async def stop(self) -> None:
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _GRACE_S)
        self._signal(signal.SIGKILL)
        await self._process.wait()
        self._clean_up()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _clean_up(self) -> None:
        self._signal(signal.SIGKILL)  # children that outlived the runner, such as its JVM
        if self._leash is not None:
            os.close(self._leash)
            self._leash = None
            self._on_end()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


class _OnEnd(Protocol):
    def __call__(self) -> None: ...


def _environment(python_path: Path) -> dict[str, str]:
    inherited = {
        key: value
        for key, value in os.environ.items()  # the one place that decides what a notebook inherits
        if key in _INHERITED or key.startswith(_INHERITED_PREFIXES)
    }
    return {**inherited, "PYTHONPATH": str(python_path), "PYTHONUNBUFFERED": "1"}


def _to_json(request: NotebookRequest) -> JsonObject:
    return {**asdict(request), "notebook_file": str(request.notebook_file)}


def _read_outcome(result_file: Path, exit_code: int) -> NotebookOutcome:
    try:
        document = json.loads(result_file.read_text(encoding="utf-8"))
        succeeded = {"SUCCESS": True, "FAILED": False}[document["state"]]
    except (OSError, ValueError, KeyError, TypeError):
        how = f"signal {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
        return NotebookCrash(reason=f"The notebook process ended with {how} and left no result")
    return NotebookResult(
        succeeded=succeeded,
        exit_value=document.get("exit_value"),
        error=document.get("error"),
        error_trace=document.get("error_trace"),
        task_values=document.get("task_values") or {},
    )
