"""Fires one function on its schedule."""

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import Callable
from datetime import datetime, tzinfo

from local.functions_host.errors import HostNotRunningError, InvocationError, StorageError
from local.functions_host.functions import Function, TimerTrigger
from local.functions_host.invoker import Call, Invoker
from local.functions_host.messages import Data, DataKind, RetryOptions
from local.functions_host.storage import StorageClients
from local.functions_host.timer_status import ScheduleStatus, after_run, fires_often, next_due, on_start

__all__ = ["StatusBlob", "TimerListener", "retry_delay_s"]

_CONTAINER = "azure-webjobs-hosts"
_LONGEST_NAP_S = 30.0
_STORAGE_RETRY_S = 2.0

_log = logging.getLogger(__name__)


def retry_delay_s(retry: RetryOptions, retry_count: int, rng: random.Random) -> float:
    """Return the wait before retry number `retry_count`, from 1.

    Source: azure-webjobs-sdk, RandomizedExponentialBackoffStrategy.
    """
    if retry.strategy == "fixed_delay":
        return retry.delay_s
    if retry_count <= 1:
        return retry.minimum_s
    grown = retry.minimum_s * (1 + rng.uniform(0.8, 1.2) * 2.0 ** min(retry_count - 2, 40))
    return min(grown, retry.maximum_s)


class StatusBlob:
    """The blob that remembers one timer's schedule, where Azure's timer extension keeps it."""

    def __init__(self, storage: StorageClients, connection_string: str, host_id: str, function: str) -> None:
        self._storage = storage
        self._connection_string = connection_string
        self._name = f"timers/{host_id}/Host.Functions.{function}/status"

    async def read(self, zone: tzinfo) -> ScheduleStatus | None:
        """Return the status, or None if there is none that can be read.

        Raises:
            StorageError: The storage account could not be reached.
        """
        from azure.core.exceptions import AzureError, ResourceNotFoundError

        client = await self._storage.blob(self._connection_string, _CONTAINER, self._name)
        try:
            text = (await (await client.download_blob()).readall()).decode()
            return ScheduleStatus.from_json(text, zone)
        except ResourceNotFoundError:
            return None
        except ValueError as error:
            _log.warning("the timer status %s is unreadable and is made anew: %s", self._name, error)
            return None
        except AzureError as error:
            raise StorageError(f"cannot read the timer status {self._name}: {error}") from error

    async def write(self, status: ScheduleStatus, zone: tzinfo) -> None:
        """Keep the status.

        Raises:
            StorageError: The storage account could not be reached.
        """
        from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError

        client = await self._storage.blob(self._connection_string, _CONTAINER, self._name)
        text = status.to_json(zone)
        try:
            try:
                await client.upload_blob(text, overwrite=True)
            except ResourceNotFoundError:
                with contextlib.suppress(ResourceExistsError):  # another timer may be faster
                    await client._get_container_client().create_container()  # noqa: SLF001 - the only way from a blob
                await client.upload_blob(text, overwrite=True)
        except AzureError as error:
            raise StorageError(f"cannot write the timer status {self._name}: {error}") from error


class TimerListener:
    """Fires one timer until cancelled; it never overlaps itself.

    Args:
        function: The function.
        trigger: Its timer trigger.
        invoker: Runs it.
        status_blob: Remembers the schedule; None when the timer does not monitor it.
        zone: The zone of the schedule's wall-clock times.
        now: The clock, UTC.
    """

    def __init__(
        self,
        function: Function,
        trigger: TimerTrigger,
        *,
        invoker: Invoker,
        status_blob: StatusBlob | None,
        zone: tzinfo,
        now: Callable[[], datetime],
    ) -> None:
        self._function = function
        self._trigger = trigger
        self._invoker = invoker
        self._blob = status_blob
        self._zone = zone
        self._now = now
        self._status: ScheduleStatus | None = None
        self._firing: asyncio.Task[None] | None = None
        self._rng = random.Random()  # noqa: S311 - jitter

    @staticmethod
    def is_monitored(trigger: TimerTrigger, now: datetime) -> bool:
        """Whether the timer's status is kept: unless switched off, or fired more than once a minute."""
        return trigger.use_monitor and not fires_often(trigger.schedule, now)

    async def run(self) -> None:
        """Fire on schedule until cancelled."""
        past_due = await self._recall()
        if past_due or self._trigger.run_on_startup:
            await self._fire("Timer is past due" if past_due else "Run on startup", past_due=past_due, scheduled=False)
        while True:
            due = next_due(self._trigger.schedule, self._now(), self._zone)
            await self._sleep_until(due)
            await self._fire(f"Timer fired at {due.isoformat()}", past_due=False, scheduled=True)

    async def _sleep_until(self, due: datetime) -> None:
        remaining_s = (due - self._now()).total_seconds()
        while remaining_s > 0:
            await asyncio.sleep(min(remaining_s, _LONGEST_NAP_S))  # short naps: the clock may be set
            remaining_s = (due - self._now()).total_seconds()

    async def _recall(self) -> bool:
        """Read the status, waiting for the storage account; return whether the timer is past due."""
        if self._blob is None:
            return False
        while True:
            try:
                stored = await self._blob.read(self._zone)
                self._status, past_due = on_start(stored, self._trigger.schedule, self._now(), self._zone)
                if self._status != stored:
                    await self._blob.write(self._status, self._zone)
            except StorageError as error:
                _log.warning("function %r waits to start its timer: %s", self._function.name, error)
                await asyncio.sleep(_STORAGE_RETRY_S)
                continue
            return past_due

    async def drain(self, grace_s: float) -> None:
        """Wait for a running function, so long at most; call after `run` was cancelled."""
        if self._firing is not None:
            await asyncio.wait([self._firing], timeout=grace_s)

    async def _fire(self, reason: str, *, past_due: bool, scheduled: bool) -> None:
        self._firing = asyncio.create_task(self._run_once(reason, past_due=past_due, scheduled=scheduled))
        try:
            await asyncio.shield(self._firing)  # a host that stops lets the function finish
        finally:
            if self._firing.done():
                self._firing = None

    async def _run_once(self, reason: str, *, past_due: bool, scheduled: bool) -> None:
        started = self._now()
        ran = await self._invoke(reason, past_due=past_due)
        if not ran or self._blob is None or self._status is None:
            return  # a run that never began is past due at the next start
        self._status = after_run(self._status, self._trigger.schedule, started, self._zone, was_scheduled=scheduled)
        try:
            await self._blob.write(self._status, self._zone)
        except StorageError as error:
            _log.warning("function %r: %s", self._function.name, error)

    async def _invoke(self, reason: str, *, past_due: bool) -> bool:
        """Run the function, with its retry policy, and return whether it ran, successfully or not."""
        retry = self._function.retry
        retries, error_text = 0, ""
        while True:
            call = self.call(reason, past_due=past_due, retries=retries, error_text=error_text)
            try:
                await self._invoker.invoke(self._function, call)
            except HostNotRunningError as error:
                _log.error("function %r missed a run: %s", self._function.name, error)
                return False
            except InvocationError as error:
                if retry is None or (retry.max_retry_count != -1 and retries >= retry.max_retry_count):
                    return True
                error_text = str(error)
            else:
                return True
            retries += 1
            await asyncio.sleep(retry_delay_s(retry, retries, self._rng))

    def call(self, reason: str, *, past_due: bool, retries: int = 0, error_text: str = "") -> Call:
        """Return the invocation's input, as the timer extension makes it."""
        info = {
            "Schedule": {"AdjustForDST": True},
            "ScheduleStatus": None if self._status is None else self._status.to_object(self._zone),
            "IsPastDue": past_due,
        }
        return Call(
            reason=reason,
            inputs={self._trigger.name: Data(DataKind.JSON, json.dumps(info))},
            trigger_metadata={"TimerTrigger": Data(DataKind.STRING, self._trigger.expression)},
            retry_count=retries,
            max_retry_count=0 if self._function.retry is None else self._function.retry.max_retry_count,
            retry_error=error_text,
        )
