"""Starts a service behind its leash and says whether it still runs."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["LeashedProcess"]

_LEASH = Path(__file__).with_name("leash.py")
_LEASH_MARGIN_S = 5.0  # beyond the service's own grace, before the leash itself is killed


class LeashedProcess:
    """A running service; dropping the leash, or losing this process, ends the service and all that it started."""

    def __init__(self, leash: asyncio.subprocess.Process, pid_file: Path, grace_s: float) -> None:
        self._leash = leash
        self._pid_file = pid_file
        self._grace_s = grace_s

    @classmethod
    async def start(  # a process is made of just these
        cls,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        folder: Path,
        log: Path,
        lock: Path,
        pid_file: Path,
        grace_s: float,
    ) -> "LeashedProcess":
        """Start the command, its output appended to the log."""
        pid_file.unlink(missing_ok=True)  # noqa: ASYNC240 - one fast call
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            leash = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(_LEASH), str(lock), str(pid_file), str(grace_s), *command,
                stdin=asyncio.subprocess.PIPE, stdout=descriptor, stderr=descriptor, env=dict(environ), cwd=folder,
                start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(descriptor)
        return cls(leash, pid_file, grace_s)

    @property
    def pid(self) -> int | None:
        """The service's own pid, as soon as the leash has said it."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int(self._pid_file.read_text())
        return None

    @property
    def is_running(self) -> bool:
        """Whether the leash has not ended yet."""
        return self._leash.returncode is None

    async def wait(self) -> int:
        """Return the service's exit code once it and all that it started are gone."""
        code = await self._leash.wait()
        if code < 0:  # the leash was killed: do its work
            self._kill_group()
        return code

    async def stop(self) -> int:
        """End the service, politely first; harmless if it has ended."""
        if self._leash.stdin is not None:
            self._leash.stdin.close()
        try:
            return await asyncio.wait_for(self._leash.wait(), self._grace_s + _LEASH_MARGIN_S)
        except TimeoutError:
            self._kill_group()
            with contextlib.suppress(ProcessLookupError):
                self._leash.kill()
            return await self._leash.wait()

    def _kill_group(self) -> None:
        if (pid := self.pid) is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
