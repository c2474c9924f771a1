"""Starts one worker process, talks to it and ends it."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from local.functions_host.errors import WorkerLostError
from local.functions_host.messages import (
    Completion,
    Indexed,
    IndexingFailed,
    Invocation,
    Stop,
    read_message,
    write_message,
)

__all__ = ["WorkerProcess", "worker_environment"]

_ROOT = Path(__file__).resolve().parents[2]
_BOOT = (
    "import sys; sys.path[:] = [{root!r}] + [p for p in sys.path if p]; "
    "from local.functions_host.worker.main import main; "
    "sys.path.remove({root!r}); main({channel}, {leash}, {app_dir!r})"
)
_INHERITED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "JAVA_HOME", "VIRTUAL_ENV"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        *("PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"),
    }
)
_INDEXING_LIMIT_S = 60.0
_STDERR = 2

_log = logging.getLogger(__name__)


def worker_environment(settings: Mapping[str, str], app_dir: Path) -> dict[str, str]:
    """Return the worker's whole environment: app settings over a few variables of this machine.

    Everything else is left out, so that a developer's own cloud credentials never reach a local function.
    """
    inherited = {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("LC_")}
    platform = {
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "FUNCTIONS_EXTENSION_VERSION": "~4",
        "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
        "AzureWebJobsScriptRoot": str(app_dir),
        "PYTHONUNBUFFERED": "1",
    }
    return {**inherited, **platform, **settings}


class WorkerProcess:
    """One worker process, from start to end; `WorkerSupervisor` makes the next one."""

    def __init__(self, process: asyncio.subprocess.Process, channel: socket.socket, leash: int) -> None:
        self._process = process
        self._channel = channel
        self._leash = leash
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[str, asyncio.Future[Completion]] = {}
        self._lost: str | None = None

    @classmethod
    async def start(cls, app_dir: Path, environment: Mapping[str, str]) -> "WorkerProcess":
        """Start a worker on the app; it dies with this process, whatever kills it."""
        ours, theirs = socket.socketpair()
        leash_read, leash_write = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _BOOT.format(root=str(_ROOT), channel=theirs.fileno(), leash=leash_read, app_dir=str(app_dir)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=_STDERR,
                cwd=app_dir,
                env=environment,
                pass_fds=(theirs.fileno(), leash_read),
                start_new_session=True,  # so that a function's own children can be killed with it
            )
        except OSError:
            ours.close()
            os.close(leash_write)
            raise
        finally:
            theirs.close()
            os.close(leash_read)
        return cls(process, ours, leash_write)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def indexed(self) -> Indexed | IndexingFailed:
        """Return what came of indexing the app; a worker that dies meanwhile has failed too."""
        self._channel.setblocking(False)
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._channel)
        try:
            async with asyncio.timeout(_INDEXING_LIMIT_S):
                message = await read_message(self._reader)
                ended = None if message is not None else await self._process.wait()
        except TimeoutError:
            return IndexingFailed(error=f"importing the app took more than {_INDEXING_LIMIT_S:g} s", stack_trace="")
        match message:
            case Indexed() | IndexingFailed():
                return message
            case _:
                return IndexingFailed(
                    error=f"the worker process ended while it imported the app: {describe_exit(ended)}", stack_trace=""
                )

    async def serve(self) -> str:
        """Deliver completions until the process has ended; return how it ended."""
        if self._reader is None:
            raise RuntimeError("serve was called before indexed")
        while (message := await read_message(self._reader)) is not None:
            if not isinstance(message, Completion):
                _log.error("the worker sent an unexpected %s", type(message).__name__)
                continue
            waiting = self._waiting.pop(message.invocation_id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        self.kill()  # a worker that closed its channel is of no use
        self._lost = describe_exit(await self._process.wait())
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(WorkerLostError(self._lost))
        self._waiting.clear()
        return self._lost

    async def invoke(self, invocation: Invocation) -> Completion:
        """Return the function's completion.

        Raises:
            WorkerLostError: The process ended first.
        """
        if self._writer is None or self._lost is not None:
            raise WorkerLostError(self._lost or "it was not ready")
        waiting: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting[invocation.invocation_id] = waiting
        try:
            write_message(self._writer, invocation)
            return await waiting
        finally:
            self._waiting.pop(invocation.invocation_id, None)

    def kill(self) -> None:
        """Kill the process and everything that it started, unless its end is known and its id may be another's."""
        if self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def stop(self, grace_s: float) -> None:
        """End the process: politely first, so that its exit handlers flush telemetry, then by force."""
        if grace_s > 0 and self._writer is not None and not self._writer.is_closing():
            write_message(self._writer, Stop())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._process.wait()
        self.kill()
        await self._process.wait()

    async def close(self) -> None:
        """Give back the descriptors once the process has ended."""
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()
        else:
            self._channel.close()
        os.close(self._leash)


def describe_exit(code: int | None) -> str:
    """Return how a process ended, in words."""
    if code is None:
        return "unknown"
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"
