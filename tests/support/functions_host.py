"""Starts the local Functions host on an app for tests, and speaks HTTP to it."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.leash import leashed_command

__all__ = ["FunctionsHost", "Reply", "free_port", "functions_host_running", "until"]

_ROOT = Path(__file__).parents[2]
_START_DEADLINE_S = 60.0
DEFAULT_KEY = "the-default-function-key"
MASTER_KEY = "the-master-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP response."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def json(self) -> Any:
        """The body, parsed; its shape is the asserting test's business."""
        return json.loads(self.body)

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until[T](
    condition: Callable[[], T], *, deadline_s: float = 60.0, what: str = "the condition", pause_s: float = 0.02
) -> T:
    """Return the condition's first truthy value, looking again and again until the deadline."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true within {deadline_s} s; last value {value!r}")
        time.sleep(pause_s)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionsHost:
    """A running host.

    Args:
        port: Where it listens.
        process: Its process.
        log: The file with what it and its worker wrote.
        default_key: Opens every function.
        master_key: Opens everything.
    """

    port: int
    process: "subprocess.Popen[bytes]"
    log: Path
    default_key: str
    master_key: str

    @property
    def url(self) -> str:
        """The host's address, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def request(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request, with a key in the header if one is given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            sent = {**({"x-functions-key": key} if key else {}), **(headers or {})}
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            return Reply(status=response.status, headers=tuple(response.getheaders()), body=response.read())

    def status(self) -> dict[str, Any]:
        """Return `/admin/host/status`, JSON as the host says it."""
        content: dict[str, Any] = self.request("GET", "/admin/host/status", key=self.master_key).json()
        return content

    @property
    def worker_pid(self) -> int:
        """Process id of the worker, once there is one that is ready."""
        return until(self._ready_pid, what="a ready worker")

    def _ready_pid(self) -> int:
        worker = self.status()["worker"]
        return int(worker["pid"]) if worker["isReady"] else 0

    def log_text(self) -> str:
        """Return what the host and its worker wrote so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def answers(self) -> bool:
        """Whether `/admin/host/ping` is answered; a host that has ended is an error."""
        if self.process.poll() is not None:
            raise AssertionError(f"the host ended with {self.process.returncode}:\n{self.log_text()}")
        try:
            return self.request("GET", "/admin/host/ping").status == 200
        except OSError:
            return False

    def wait_running(self, deadline_s: float = _START_DEADLINE_S) -> None:
        """Return once the app is served; an app that cannot be is an error, with the reason."""

        def running() -> bool:
            status = self.status()
            if status["state"] == "Error":
                raise AssertionError(f"the host is in the state Error: {status.get('errors')}\n{self.log_text()}")
            return status["state"] == "Running" and bool(status["worker"]["isReady"])

        until(running, deadline_s=deadline_s, what="the host's state Running")

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self.process.kill()
        self.process.wait(timeout=20)


@contextmanager
def functions_host_running(
    app_dir: Path,
    settings: Mapping[str, str],
    *,
    host_options: Mapping[str, Any] | None = None,
    wait_running: bool = True,
    port: int | None = None,
) -> Iterator[FunctionsHost]:
    """Yield a host that serves the app, and stop it afterwards.

    Args:
        app_dir: Folder with function_app.py and host.json.
        settings: App settings.
        host_options: More members of the settings file's `Host` object, such as `{"QueueLease": "00:00:02"}`.
        wait_running: Wait until the app is served; else only until the host answers.
        port: Where to listen; a free port by default.
    """
    with tempfile.TemporaryDirectory(prefix="functions-host-") as scratch:
        keys = {"default": DEFAULT_KEY, "master": MASTER_KEY}
        content = {"IsEncrypted": False, "Values": dict(settings), "Host": {"Keys": keys, **(host_options or {})}}
        file = Path(scratch) / "local.settings.json"
        file.write_text(json.dumps(content), encoding="utf-8")
        chosen = port or free_port()
        log = Path(scratch) / "host.log"
        arguments = ["--app-dir", str(app_dir), "--port", str(chosen), "--settings", str(file)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                leashed_command("local.functions_host", *arguments),
                cwd=_ROOT,
                env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        host = FunctionsHost(port=chosen, process=process, log=log, default_key=DEFAULT_KEY, master_key=MASTER_KEY)
        try:
            until(host.answers, deadline_s=_START_DEADLINE_S, what="an answering host")
            if wait_running:
                host.wait_running()
            yield host
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            if process.stdin is not None:
                process.stdin.close()
