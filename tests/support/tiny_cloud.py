"""Runs the supervisor over tiny services: `python -m tests.support.tiny_cloud STATE_DIR [broken]`.

Each service answers HTTP, writes its pid and starts a process of its own, as Functions workers and notebooks are.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil

from local.supervisor.folders import REPOSITORY, Folders
from local.supervisor.run import run
from local.supervisor.services import Probe, Service
from local.supervisor.settings import CloudSettings
from local.supervisor.status import CloudState, CloudStatus, read_status

__all__ = ["TinyCloud", "until"]


def until[T](question: Callable[[], T], *, what: str, timeout_s: float = 30.0) -> T:
    """Return the first true answer; fail after the deadline."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {what}")


class TinyCloud:
    """A supervisor over tiny services, in a process of its own."""

    def __init__(self, state_dir: Path, *, broken: bool = False, environ: dict[str, str] | None = None) -> None:
        self.folders = Folders(state_dir=state_dir)
        command = [sys.executable, "-m", "tests.support.tiny_cloud", str(state_dir), *(["broken"] if broken else [])]
        self.process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environ or {})},
            start_new_session=True,
        )

    def status(self) -> CloudStatus | None:
        """Return what the supervisor says."""
        return read_status(self.folders.status)

    def await_state(self, state: CloudState) -> CloudStatus:
        """Return the status once the cloud is in a state."""

        def reached() -> CloudStatus | None:
            status = self.status()
            is_ours = status is not None and status.supervisor_pid == self.process.pid
            return status if status is not None and is_ours and status.state is state else None

        return until(reached, what=f"the cloud is {state}") or CloudStatus(state=state, supervisor_pid=0, started_at="")

    def pids(self, service: str) -> dict[str, int]:
        """Return the pids that belong to a running service: its own, its leash's, and that of what it started."""
        own = until(lambda: read_pid(self.folders.run / f"{service}.pid"), what=f"{service} runs")
        started = self.folders.state_dir / f"{service}.started"
        child = until(lambda: read_pid(started, own), what=f"{service} started something")
        return {"service": own, "leash": psutil.Process(own).ppid(), "started": child}

    def end(self) -> None:
        """Stop the supervisor and wait for it."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(timeout=30)


def read_pid(path: Path, key: int | None = None) -> int:
    """Return the pid in a file; with a key, the one that the process of that pid wrote."""
    try:
        text = path.read_text()
        return int(text) if key is None else int(json.loads(text).get(str(key), 0))
    except (FileNotFoundError, ValueError):
        return 0


def tiny_services(folders: Folders, settings: CloudSettings) -> tuple[Service, ...]:
    """Return two services, the second needing the first."""
    is_broken = sys.argv[2:] == ["broken"]
    return (_tiny(folders, settings, "first", "blob"), _tiny(folders, settings, "second", "queue", is_broken=is_broken))


def _tiny(folders: Folders, settings: CloudSettings, name: str, port: str, *, is_broken: bool = False) -> Service:
    command = (sys.executable, "-m", "tests.support.tiny_cloud", "serve", str(settings.ports[port]))
    return Service(
        name=name,
        title=name,
        command=(*command, str(folders.state_dir / f"{name}.started"), "broken" if is_broken else "sound"),
        url=settings.url(port),
        ports=(port,),
        needs=("first",) if name == "second" else (),
        probes=(Probe(url=settings.url(port)),),
        grace_s=2.0,
    )


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the standard library
        """Stay silent."""


def _serve(port: int, started: Path, *, is_broken: bool) -> None:
    if is_broken:
        sys.exit("this service is broken on purpose")
    sleeper = subprocess.Popen(["sleep", "600"], start_new_session=True)  # outside the service's process group
    started.write_text(json.dumps({os.getpid(): sleeper.pid}))
    HTTPServer(("127.0.0.1", port), _Answer).serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve(int(sys.argv[2]), Path(sys.argv[3]), is_broken=sys.argv[4] == "broken")
    sys.exit(run(Folders(state_dir=Path(sys.argv[1])), None, tiny_services))
