"""Composes the host: a worker, the app's listeners, and one state that tells how it is."""

import asyncio
import contextlib
import hashlib
import logging
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from local.functions_host.configuration import HostConfiguration, LocalSettings
from local.functions_host.errors import ConfigurationError
from local.functions_host.functions import Function, QueueTrigger, TimerTrigger, read_functions
from local.functions_host.http_listener import HttpListener, read_endpoints
from local.functions_host.invoker import Invoker
from local.functions_host.keys import Keyring
from local.functions_host.messages import FunctionMetadata, Indexed, IndexingFailed
from local.functions_host.queue_listener import QueueListener
from local.functions_host.storage import StorageClients
from local.functions_host.timer_listener import StatusBlob, TimerListener
from local.functions_host.worker_process import WorkerProcess
from local.functions_host.worker_supervisor import WorkerSupervisor

__all__ = ["FunctionsHost"]

_MAX_HOST_ID = 32
_LISTENER_RESTART_S = 1.0
_SETTLING_S = 1.0

_log = logging.getLogger(__name__)


class FunctionsHost:
    """The running app.

    Args:
        app_dir: The app's folder.
        settings: What local.settings.json holds.
        configuration: What host.json holds.
        keys: The host's keys.
        first_worker: A worker that was started already.
    """

    def __init__(
        self,
        app_dir: Path,
        settings: LocalSettings,
        configuration: HostConfiguration,
        keys: Keyring,
        first_worker: WorkerProcess,
    ) -> None:
        self.supervisor = WorkerSupervisor(app_dir, settings.values, self._on_indexed, self._on_failed, first_worker)
        self.configuration = configuration
        self.instance_id = uuid.uuid4().hex
        self.host_id = _host_id(app_dir, settings)
        self.functions: tuple[Function, ...] = ()
        self.started_at = time.monotonic()
        self.runtime = ""
        self._settings = settings
        self._storage = StorageClients()
        self.invoker = Invoker(
            self.supervisor,
            self._storage,
            timeout_s=configuration.function_timeout_s,
            is_base64=configuration.queues.base64,
            on_enqueued=self._wake,
        )
        self.keys = keys
        self.http = HttpListener(keys, self.invoker)
        self._metadata: tuple[FunctionMetadata, ...] = ()
        self._error: str | None = None
        self._stopping = False
        self._queues: list[QueueListener] = []
        self.timers: dict[str, TimerListener] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._worker_task: asyncio.Task[None] | None = None
        self.settled = asyncio.Event()
        """Set once it is known whether the app can be served."""

    def start(self) -> None:
        """Start to keep a worker running; listeners follow once it has indexed the app."""
        self._worker_task = asyncio.create_task(self.supervisor.run(), name="the worker process")
        self._worker_task.add_done_callback(_report_death)

    @property
    def state(self) -> str:
        """The host's state, in the words of Azure's `/admin/host/status`."""
        if self._stopping:
            return "Stopping"
        if self._error is not None or (self.supervisor.is_failing and not self.supervisor.is_ready):
            return "Error"
        return "Running" if self._metadata else "Starting"

    @property
    def errors(self) -> list[str]:
        """What is wrong, if anything is."""
        errors = [] if self._error is None else [self._error]
        if self.supervisor.is_failing and self._error is None:
            errors.append(f"the worker process keeps dying, last: {self.supervisor.last_exit}")
        return errors

    def _on_indexed(self, indexed: Indexed) -> None:
        """Serve the functions that a worker found; the same ones as before keep their listeners."""
        self.runtime = f"azure-functions-runtime {indexed.runtime_version}, Python {indexed.python_version}"
        self.settled.set()
        if indexed.functions and indexed.functions == self._metadata and self._error is None:
            return
        try:
            functions = read_functions(indexed.functions, self._settings)
            endpoints = read_endpoints(functions, self.configuration.route_prefix)
            timers = {function.name: self._timer(function) for function in functions if _is_timer(function)}
        except ConfigurationError as error:
            self._fail(str(error))
            return
        self._stop_listeners()
        self._error = None
        self._metadata = indexed.functions
        self.functions = functions
        self.http.endpoints = endpoints
        self.timers = timers
        self._start_listeners()
        _log.info("serving %d functions: %s", len(functions), ", ".join(sorted(f.name for f in functions)))

    def _on_failed(self, failure: IndexingFailed) -> None:
        """Stop serving an app that cannot be imported, and keep the reason for the status."""
        self._fail(f"{failure.error}\n{failure.stack_trace}".rstrip())

    def _fail(self, error: str) -> None:
        self.settled.set()
        if error != self._error:
            _log.error("the app cannot be served: %s", error)
        self._error = error
        self._metadata, self.functions, self.http.endpoints, self.timers = (), (), (), {}
        self._stop_listeners()

    def _timer(self, function: Function) -> TimerListener:
        trigger = function.trigger
        if not isinstance(trigger, TimerTrigger):
            raise TypeError(f"{function.name!r} is no timer")
        blob = None
        if TimerListener.is_monitored(trigger, _now()):
            try:
                connection_string = self._settings.connection_string("AzureWebJobsStorage")
            except ConfigurationError as error:
                raise ConfigurationError(f"function {function.name!r}: {error}") from error
            blob = StatusBlob(self._storage, connection_string, self.host_id, function.name)
        return TimerListener(
            function, trigger, invoker=self.invoker, status_blob=blob, zone=_zone(self._settings), now=_now
        )

    def _start_listeners(self) -> None:
        for function in self.functions:
            if function.is_disabled:
                _log.warning("function %r is disabled", function.name)
                continue
            if function.retry is not None and not _is_timer(function):
                _log.warning("function %r: retry policies are honoured for timers only", function.name)
            if isinstance(function.trigger, QueueTrigger):
                listener = QueueListener(
                    function,
                    function.trigger,
                    invoker=self.invoker,
                    supervisor=self.supervisor,
                    storage=self._storage,
                    options=self.configuration.queues,
                    lease_s=self._settings.queue_lease_s,
                )
                self._queues.append(listener)
                self._listen(listener.run, function)
            elif function.name in self.timers:
                self._listen(self.timers[function.name].run, function)

    def _listen(self, run: Callable[[], Awaitable[None]], function: Function) -> None:
        self._tasks.append(asyncio.create_task(_keep_running(run, function.name)))

    def _stop_listeners(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks, self._queues = [], []

    def _wake(self, queue: str) -> None:
        for listener in self._queues:
            if listener.queue == queue:
                listener.wake()

    async def stop(self, grace_s: float) -> None:
        """End: receive nothing more, let running functions finish for a while, then end the worker."""
        self._stopping = True
        queues, timers = self._queues, list(self.timers.values())
        self._stop_listeners()
        for queue in queues:
            queue.stop()
        await self.invoker.drain(grace_s)
        await self.supervisor.stop(grace_s / 2)
        # Handled messages are deleted, those whose functions were cut off become visible; timers note their run.
        listeners: list[QueueListener | TimerListener] = [*queues, *timers]
        await asyncio.gather(*(listener.drain(_SETTLING_S) for listener in listeners))
        with contextlib.suppress(Exception):
            await self._storage.close()


def _is_timer(function: Function) -> bool:
    return isinstance(function.trigger, TimerTrigger)


def _now() -> datetime:
    return datetime.now(UTC)


async def _keep_running(run: Callable[[], Awaitable[None]], function: str) -> None:
    """Run a listener until cancelled; one that fails in a way that it does not know starts again."""
    while True:
        try:
            await run()
        except Exception:  # noqa: BLE001 - one bad message or answer must not end a listener
            _log.exception("the listener of function %r failed and starts again", function)
            await asyncio.sleep(_LISTENER_RESTART_S)


def _report_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("the task of %s died", task.get_name(), exc_info=error)


def _zone(settings: LocalSettings) -> tzinfo:
    name = settings.values.get("WEBSITE_TIME_ZONE") or settings.values.get("TZ") or "UTC"
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigurationError(f"WEBSITE_TIME_ZONE {name!r} is no time zone, such as 'Europe/London'") from error


def _host_id(app_dir: Path, settings: LocalSettings) -> str:
    """Return the id under which timers keep their status: given, or made of this machine and the app's path."""
    given = settings.values.get("AzureFunctionsWebHost__hostid")
    if given:
        return given.lower()
    digest = hashlib.sha256(str(app_dir).encode()).hexdigest()
    machine = "".join(char for char in socket.gethostname().lower() if char.isalnum())[:20] or "local"
    return f"{machine}-{digest}"[:_MAX_HOST_ID].rstrip("-")
