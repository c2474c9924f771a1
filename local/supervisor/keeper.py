"""Keeps one service alive: starts it when what it needs is ready, and again when it dies."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from local.supervisor.folders import REPOSITORY, Folders
from local.supervisor.leashed_process import LeashedProcess
from local.supervisor.readiness import is_ready
from local.supervisor.services import Service
from local.supervisor.status import ServiceState, ServiceStatus

__all__ = ["ServiceFailedError", "ServiceKeeper"]

_POLL_S = 0.1
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0
_STEADY_AFTER_S = 60.0  # a service that lived this long starts again without a pause
_START_ATTEMPTS = 3
_LOGS_KEPT = 3


class ServiceFailedError(Exception):
    """A service could not be brought up when the cloud was started."""

    def __init__(self, service: str, reason: str, log: Path) -> None:
        super().__init__(service, reason, log)
        self.service = service
        self.reason = reason
        self.log = log

    def __str__(self) -> str:
        return f"{self.service} {self.reason}; its log is {self.log}"


class ServiceKeeper:
    """Runs one service until told to stop."""

    def __init__(
        self, service: Service, folders: Folders, environ: Mapping[str, str], changed: Callable[[], None]
    ) -> None:
        self.service = service
        self.ready = asyncio.Event()  # set at the first readiness; a later restart does not clear it
        self._folders = folders
        self._environ = {**environ, **service.environ}
        self._changed = changed
        self._process: LeashedProcess | None = None
        self._stopping = asyncio.Event()
        self._status = ServiceStatus(state=ServiceState.WAITING, url=service.url, log=str(folders.log(service.name)))

    @property
    def status(self) -> ServiceStatus:
        """The service as it stands now."""
        return replace(
            self._status, pid=self._process.pid if self._process is not None and self._process.is_running else None
        )

    async def keep(self, needed: tuple[asyncio.Event, ...]) -> None:
        """Run the service until `stop`; a one-shot service ends by itself.

        Raises:
            ServiceFailedError: It was never ready, in several attempts.
        """
        for event in needed:
            await event.wait()
        _rotate(self._folders.log(self.service.name))
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            reason = await self._run_once(began)
            if self._stopping.is_set() or reason is None:
                return
            failures = 0 if time.monotonic() - began > _STEADY_AFTER_S else failures + 1
            if not self.ready.is_set() and failures >= _START_ATTEMPTS:
                self._set(state=ServiceState.FAILED)
                raise ServiceFailedError(self.service.name, reason, self._folders.log(self.service.name))
            self._set(state=ServiceState.RESTARTING, restarts=self._status.restarts + 1)
            await asyncio.sleep(min(_FIRST_PAUSE_S * 2 ** max(failures - 1, 0), _LONGEST_PAUSE_S) if failures else 0)

    async def stop(self) -> None:
        """End the service; harmless if it does not run."""
        self._stopping.set()
        if self._process is not None:
            await self._process.stop()
        self._set(state=ServiceState.STOPPED)

    async def _run_once(self, began: float) -> str | None:
        """Run the process until it ends; return why that is a failure, None if it is none."""
        self._set(state=ServiceState.STARTING)
        process = self._process = await LeashedProcess.start(
            self.service.command,
            environ=self._environ,
            folder=REPOSITORY,
            log=self._folders.log(self.service.name),
            lock=self._folders.leash_lock,
            pid_file=self._folders.run / f"{self.service.name}.pid",
            grace_s=self.service.grace_s,
        )
        if self._stopping.is_set():  # asked to while it was being started
            await process.stop()
            return None
        ended = asyncio.ensure_future(process.wait())
        if not self.service.is_one_shot and not await self._await_readiness(ended, began):
            if ended.done():
                return f"ended with exit code {ended.result()} before it was ready"
            await process.stop()
            await ended
            return f"was not ready within {self.service.ready_timeout_s:.0f} s"
        code = await ended
        if self.service.is_one_shot and code == 0:
            self._is_ready_since(began)
            return None
        return f"ended with exit code {code}"

    async def _await_readiness(self, ended: "asyncio.Future[int]", began: float) -> bool:
        deadline = began + self.service.ready_timeout_s
        while time.monotonic() < deadline and not self._stopping.is_set():
            if ended.done():
                return False
            if await is_ready(self.service.probes) and not ended.done():
                self._is_ready_since(began)
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(ended), _POLL_S)
        return False

    def _is_ready_since(self, began: float) -> None:
        self._set(state=ServiceState.READY, ready_after_s=round(time.monotonic() - began, 2))
        self.ready.set()

    def _set(self, *, state: ServiceState, restarts: int | None = None, ready_after_s: float | None = None) -> None:
        self._status = replace(
            self._status,
            state=state,
            restarts=self._status.restarts if restarts is None else restarts,
            ready_after_s=self._status.ready_after_s if ready_after_s is None else ready_after_s,
        )
        self._changed()


def _rotate(log: Path) -> None:
    """Move the log of the last start aside, keeping a few."""
    for number in range(_LOGS_KEPT, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        newer = log if number == 1 else log.with_name(f"{log.name}.{number - 1}")
        if newer.exists():
            newer.replace(older)
