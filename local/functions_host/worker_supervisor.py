"""Keeps one worker process running and hands invocations to it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from local.functions_host.errors import HostNotRunningError, WorkerLostError
from local.functions_host.messages import Completion, Indexed, IndexingFailed, Invocation
from local.functions_host.worker_process import WorkerProcess, worker_environment

__all__ = ["WorkerSupervisor", "restart_delay_s"]

_HEALTHY_AFTER_S = 10.0
_LONGEST_DELAY_S = 30.0
_CRASH_LOOP = 3
_PATIENCE_S = 30.0

_log = logging.getLogger(__name__)


def restart_delay_s(failures: int) -> float:
    """Return how long to wait before the next worker, after so many failures in a row.

    >>> [restart_delay_s(failures) for failures in (0, 1, 2, 3, 4, 20)]
    [0.0, 0.0, 0.25, 0.5, 1.0, 30.0]
    """
    if failures <= 1:
        return 0.0
    return min(_LONGEST_DELAY_S, 0.25 * 2.0 ** min(failures - 2, 20))


class WorkerSupervisor:
    """Starts a worker, starts the next when it dies, and knows why.

    Args:
        app_dir: The app's folder.
        settings: App settings, the worker's environment.
        on_indexed: Called whenever a worker has indexed the app, before it takes invocations.
        on_failed: Called with the reason when a worker could not index the app.
        first: A worker that was started already.
    """

    def __init__(
        self,
        app_dir: Path,
        settings: Mapping[str, str],
        on_indexed: Callable[[Indexed], None],
        on_failed: Callable[[IndexingFailed], None],
        first: WorkerProcess | None = None,
    ) -> None:
        self._app_dir = app_dir
        self._settings = settings
        self._on_indexed = on_indexed
        self._on_failed = on_failed
        self._next = first
        self._worker: WorkerProcess | None = None
        self._ready = asyncio.Event()
        self._failures = 0
        self._ready_at = 0.0
        self._killed_on_purpose = False
        self._stopping = False
        self.starts = 0
        self.last_exit: str | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the present worker."""
        return None if self._worker is None else self._worker.pid

    @property
    def is_ready(self) -> bool:
        """Whether invocations are taken right now."""
        return self._ready.is_set()

    @property
    def is_failing(self) -> bool:
        """Whether workers have kept dying, one after the other, and the present one has not yet proved itself."""
        return self._failures >= _CRASH_LOOP and not self._is_proven()

    def _is_proven(self) -> bool:
        return self.is_ready and time.monotonic() - self._ready_at >= _HEALTHY_AFTER_S

    async def run(self) -> None:
        """Keep a worker running until `stop`."""
        while not self._stopping:
            try:
                await self._run_one()
            except OSError as error:  # no process could be started at all
                self._failures += 1
                self._on_failed(IndexingFailed(error=f"cannot start the worker process: {error}", stack_trace=""))
            if not self._stopping:
                await asyncio.sleep(restart_delay_s(self._failures))

    async def _run_one(self) -> None:
        worker, self._next = self._next, None
        if worker is None:
            worker = await WorkerProcess.start(self._app_dir, worker_environment(self._settings, self._app_dir))
        self._worker = worker
        self._killed_on_purpose = False
        self.starts += 1
        try:
            outcome = await worker.indexed()
            if isinstance(outcome, IndexingFailed):
                self._failures = max(self._failures + 1, 2)  # it will fail again, so never at once
                self.last_exit = outcome.error
                if not self._stopping:
                    self._on_failed(outcome)
                return
            self._on_indexed(outcome)
            self._ready_at = time.monotonic()
            self._ready.set()
            self.last_exit = await worker.serve()
            if self._killed_on_purpose or self._is_proven():
                self._failures = 0
            if not self._killed_on_purpose:
                self._failures += 1
                _log.error("the worker process %d ended: %s", worker.pid, self.last_exit)
        finally:
            self._ready.clear()
            await worker.stop(0)
            await worker.close()
            self._worker = None

    async def wait_ready(self) -> None:
        """Return once a worker takes invocations."""
        await self._ready.wait()

    async def wait_for_worker(self) -> None:
        """Return once a worker takes invocations.

        Raises:
            HostNotRunningError: None did within half a minute.
        """
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._ready.wait()
        except TimeoutError as error:
            raise HostNotRunningError("no worker process became ready") from error

    async def invoke(self, invocation: Invocation) -> Completion:
        """Return the completion of one invocation.

        Raises:
            WorkerLostError: The worker died while the function ran.
        """
        if self._worker is None:
            raise WorkerLostError(self.last_exit or "it was not ready")
        return await self._worker.invoke(invocation)

    def restart(self, reason: str) -> None:
        """Kill the present worker; `run` starts the next one."""
        if self._worker is not None:
            _log.warning("restarting the worker process %d: %s", self._worker.pid, reason)
            self._killed_on_purpose = True
            self._ready.clear()  # from now on, invocations wait for the next one
            self._worker.kill()

    async def stop(self, grace_s: float) -> None:
        """End the worker for good."""
        self._stopping = self._killed_on_purpose = True
        worker = self._worker or self._next
        if worker is not None:
            with contextlib.suppress(ProcessLookupError):
                await worker.stop(grace_s)
