"""Starts, stops and describes the local cloud of a clone for the command line and the tests."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from local.supervisor.folders import REPOSITORY, Folders, default_state_dir
from local.supervisor.settings import CloudSettings, NoCloudError, load_settings
from local.supervisor.status import CloudState, CloudStatus, holder_of, read_status

__all__ = ["Cloud", "CloudError", "NoCloudError"]

_START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 30.0
_KILL_TIMEOUT_S = 30.0
_POLL_S = 0.1
_LOG_LINES = 15
_ENDING = frozenset({CloudState.STOPPING, CloudState.STOPPED, CloudState.FAILED})

Report = Callable[[CloudStatus], None]

# Supervisors that this process started: they outlive it, but while it lives it has to reap them.
_started_here: dict[Path, "subprocess.Popen[bytes]"] = {}


class CloudError(Exception):
    """The local cloud could not do what was asked; the text says why and what to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """The local cloud whose state is in one folder."""

    state_dir: Path = field(default_factory=default_state_dir)

    @property
    def folders(self) -> Folders:
        """Where it keeps what it keeps."""
        return Folders(state_dir=self.state_dir)

    def is_running(self) -> bool:
        """Tell whether its supervisor lives, whatever stale files say."""
        return holder_of(self.folders.supervisor_lock) is not None

    def status(self) -> CloudStatus | None:
        """Return what its supervisor says, or None if the cloud does not run."""
        if (pid := holder_of(self.folders.supervisor_lock)) is None:
            return None
        status = read_status(self.folders.status)
        if status is None or status.supervisor_pid != pid:  # it has just begun: the file is its predecessor's
            return CloudStatus(state=CloudState.STARTING, supervisor_pid=pid, started_at="")
        return status

    def settings(self) -> CloudSettings:
        """Return ports and secrets, also while the cloud does not run.

        Raises:
            NoCloudError: It was never started.
        """
        return load_settings(self.folders.settings)

    def running_settings(self) -> CloudSettings:
        """Return ports and secrets of the cloud, which runs.

        Raises:
            CloudError: It does not run, or is not ready.
        """
        status = self.status()
        if status is None or status.state is not CloudState.READY:
            raise CloudError("the local cloud is not running; start it with `make up` (or `tidegate up`)")
        return self.settings()

    def up(self, *, port_base: int | None = None, report: Report | None = None) -> CloudStatus:
        """Start the cloud if it does not run; return its status once it is ready.

        Raises:
            CloudError: It could not be started; the text says what to look at.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        while (status := self.status()) is not None and status.state in _ENDING and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        started = None if self.is_running() else self._start(port_base)
        while time.monotonic() < deadline:
            has_ended = started is not None and started.poll() is not None
            status = self.status()
            if status is not None:
                if report is not None:
                    report(status)
                if status.state is CloudState.READY:
                    return status
            elif has_ended or started is None:
                raise CloudError(self._why_not_started())
            time.sleep(_POLL_S)
        raise CloudError(
            f"the local cloud was not ready within {_START_TIMEOUT_S:.0f} s; its logs are in {self.folders.logs}"
        )

    def down(self) -> bool:
        """Stop the cloud and wait until nothing of it is left; return whether it ran.

        Raises:
            CloudError: Something of it is still running.
        """
        while (pid := holder_of(self.folders.supervisor_lock)) == 0:
            time.sleep(_POLL_S)  # it has just taken the lock and is about to write its pid
        if pid is not None:
            self._end(pid, signal.SIGTERM, _STOP_TIMEOUT_S)
            if self.is_running():
                self._end(pid, signal.SIGKILL, _KILL_TIMEOUT_S)
        if (process := _started_here.pop(self.state_dir, None)) is not None:
            process.wait(_STOP_TIMEOUT_S)
        deadline = time.monotonic() + _KILL_TIMEOUT_S  # the leashes clear up by themselves
        while holder_of(self.folders.leash_lock) is not None:
            if time.monotonic() > deadline:
                raise CloudError(f"some services are still running; their pids are in {self.folders.run}")
            time.sleep(_POLL_S)
        return pid is not None

    def log_tail(self, service: str, lines: int = _LOG_LINES) -> str:
        """Return the end of a service's log."""
        try:
            return "\n".join(self.folders.log(service).read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    def _start(self, port_base: int | None) -> "subprocess.Popen[bytes]":
        self.folders.make()
        command = [sys.executable, "-m", "local.supervisor", "--state-dir", str(self.state_dir)]
        if port_base is not None:
            command += ["--port-base", str(port_base)]
        with self.folders.log("supervisor").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        _started_here[self.state_dir] = process
        return process

    def _end(self, pid: int, number: signal.Signals, timeout_s: float) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + timeout_s
        while self.is_running() and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def _why_not_started(self) -> str:
        status = read_status(self.folders.status)
        if status is None or status.state is not CloudState.FAILED:
            return f"the local cloud did not start:\n{self.log_tail('supervisor')}"
        for name in status.message.split()[:1]:
            if tail := self.log_tail(name):
                return f"{status.message}. Its end:\n{tail}"
        return status.message
