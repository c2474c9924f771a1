"""Runs the local cloud in the foreground until it is told to stop."""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from local.supervisor.folders import Folders
from local.supervisor.keeper import ServiceFailedError, ServiceKeeper
from local.supervisor.ports import PortTakenError, choose_ports, is_free, wanted_ports
from local.supervisor.services import Service, child_environ, cloud_services
from local.supervisor.settings import CloudSettings, NoCloudError, load_settings, make_settings, save_settings
from local.supervisor.status import CloudState, CloudStatus, write_status

__all__ = ["ALREADY_RUNNING", "Supervisor", "run"]

ALREADY_RUNNING = 75  # exit code: another supervisor holds the lock
_LEFTOVERS_TIMEOUT_S = 30.0
_WATCH_S = 2.0
_PORT_ATTEMPTS = 3

_log = logging.getLogger("tidegate.supervisor")

ServicesOf = Callable[[Folders, CloudSettings], tuple[Service, ...]]


def run(folders: Folders, port_base: int | None = None, services_of: ServicesOf = cloud_services) -> int:
    """Start the cloud and keep it until SIGTERM; return the exit code."""
    folders.make()
    lock = os.open(folders.supervisor_lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return ALREADY_RUNNING
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    started_at = datetime.now(UTC).isoformat()
    write_status(
        folders.status, CloudStatus(state=CloudState.STARTING, supervisor_pid=os.getpid(), started_at=started_at)
    )
    try:
        _await_leftovers(folders)
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            settings = _settings(folders, port_base)
            supervisor = Supervisor(folders, services_of(folders, settings), started_at)
            try:
                asyncio.run(supervisor.run())
            except ServiceFailedError as error:
                if attempt < _PORT_ATTEMPTS and _lost_a_port(supervisor, error, settings):
                    _log.warning("a port was taken while the cloud started; choosing others")
                    continue
                raise
            return 0
    except (ServiceFailedError, PortTakenError, ValueError, TimeoutError) as error:
        _log.error("%s", error)
        write_status(
            folders.status,
            CloudStatus(state=CloudState.FAILED, supervisor_pid=os.getpid(), started_at=started_at, message=str(error)),
        )
        return 1
    finally:
        os.close(lock)
    return 0


class Supervisor:
    """Runs a set of services as one."""

    def __init__(self, folders: Folders, services: tuple[Service, ...], started_at: str) -> None:
        self.services = services
        self._folders = folders
        self._started_at = started_at
        self._began = time.monotonic()
        self._state = CloudState.STARTING
        self._ready_after_s: float | None = None
        self._keepers: dict[str, ServiceKeeper] = {}
        self._stop_asked = asyncio.Event()

    async def run(self) -> None:
        """Start the services, keep them until asked to stop, and stop them; nothing is left behind.

        Raises:
            ServiceFailedError: A service could not be brought up.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop_asked.set)
        environ = child_environ()
        self._keepers = {s.name: ServiceKeeper(s, self._folders, environ, self._report) for s in self.services}
        tasks = [asyncio.create_task(self._keep(service)) for service in self.services]
        watchers = [asyncio.create_task(self._stop_asked.wait()), asyncio.create_task(self._watch_folder())]
        announce = asyncio.create_task(self._announce_ready())
        try:
            await asyncio.wait([*watchers, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._state = CloudState.STOPPING
            self._report()
            await self._stop_services()
            for task in (*tasks, *watchers, announce):
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            self._state = CloudState.STOPPED
            self._report()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _keep(self, service: Service) -> None:
        await self._keepers[service.name].keep(tuple(self._keepers[name].ready for name in service.needs))
        if service.is_one_shot:
            await asyncio.Event().wait()  # done; only a failure ends this task

    async def _announce_ready(self) -> None:
        for keeper in self._keepers.values():
            await keeper.ready.wait()
        self._state = CloudState.READY
        self._ready_after_s = round(time.monotonic() - self._began, 2)
        self._report()
        _log.info("ready after %.1f s", self._ready_after_s)

    async def _watch_folder(self) -> None:
        """End when the state folder is removed: nobody could stop this cloud any more."""
        while self._folders.supervisor_lock.exists():  # noqa: ASYNC110 - nobody else sees it vanish
            await asyncio.sleep(_WATCH_S)

    async def _stop_services(self) -> None:
        """Stop each service after those that need it."""
        remaining = {service.name: service for service in self.services}
        while remaining:
            needed = {name for service in remaining.values() for name in service.needs}
            free = [name for name in remaining if name not in needed]
            await asyncio.gather(*(self._keepers[name].stop() for name in free))
            for name in free:
                del remaining[name]

    def _report(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # the state folder was removed
            write_status(
                self._folders.status,
                CloudStatus(
                    state=self._state,
                    supervisor_pid=os.getpid(),
                    started_at=self._started_at,
                    ready_after_s=self._ready_after_s,
                    services={name: keeper.status for name, keeper in self._keepers.items()},
                ),
            )


def _settings(folders: Folders, port_base: int | None) -> CloudSettings:
    """Return the remembered settings with ports that are free now, or new ones."""
    try:
        remembered = load_settings(folders.settings)
    except NoCloudError:
        remembered = None
    ports = choose_ports(remembered.ports if remembered else {}, wanted_ports(port_base))
    if remembered and dict(remembered.ports) != ports:
        changed = [name for name, port in ports.items() if remembered.ports.get(name) != port]
        _log.warning("new ports for %s", ", ".join(changed))
    settings = replace(remembered, ports=ports) if remembered else make_settings(ports)
    save_settings(folders.settings, settings)
    return settings


def _lost_a_port(supervisor: Supervisor, error: ServiceFailedError, settings: CloudSettings) -> bool:
    """Tell whether the service failed because somebody else took its port after it was chosen."""
    service = next(service for service in supervisor.services if service.name == error.service)
    return any(not is_free(settings.ports[name]) for name in service.ports)


def _await_leftovers(folders: Folders) -> None:
    """Wait until no service of an earlier supervisor is left: its leashes are clearing up.

    Raises:
        TimeoutError: Something is left after a long time.
    """
    descriptor = os.open(folders.leash_lock, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _LEFTOVERS_TIMEOUT_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"processes of an earlier local cloud are still running; see {_pids(folders.run)}"
                    ) from None
                time.sleep(0.1)
            else:
                return
    finally:
        os.close(descriptor)


def _pids(run_folder: Path) -> str:
    return ", ".join(f"{path.stem} ({path.read_text()})" for path in sorted(run_folder.glob("*.pid"))) or "ps"
