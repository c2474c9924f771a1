"""Listens to a storage queue for one function: receives, renews, retries, poisons."""

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from local.functions_host.configuration import QueueOptions
from local.functions_host.errors import FunctionsHostError, StorageError
from local.functions_host.functions import Function, QueueTrigger
from local.functions_host.invoker import Call, Invoker
from local.functions_host.messages import Data, DataKind
from local.functions_host.queue_messages import decode_body, trigger_metadata
from local.functions_host.storage import StorageClients
from local.functions_host.worker_supervisor import WorkerSupervisor

if TYPE_CHECKING:
    from azure.storage.queue import QueueMessage
    from azure.storage.queue.aio import QueueClient

__all__ = ["PollingDelays", "QueueListener"]

_SHORTEST_S = 0.1
_POISON = "-poison"

_log = logging.getLogger(__name__)


class PollingDelays:
    """Says how long to wait before the next look into an empty queue.

    Source: azure-webjobs-sdk, RandomizedExponentialBackoffStrategy, with a minimum of 100 ms.
    """

    def __init__(self, longest_s: float, rng: random.Random) -> None:
        self._longest_s = longest_s
        self._rng = rng
        self._exponent = 0

    def next_s(self) -> float:
        """Return the delay after one more look that found nothing."""
        delay = _SHORTEST_S
        if self._exponent > 0:
            delay += self._rng.uniform(0.8, 1.2) * 2.0 ** (self._exponent - 1) * _SHORTEST_S
        if delay < self._longest_s:
            self._exponent += 1
        return min(delay, self._longest_s)

    def reset(self) -> None:
        """Start again: a message was found."""
        self._exponent = 1


class QueueListener:
    """Feeds one function from one queue until stopped.

    Args:
        function: The function.
        trigger: Its queue trigger.
        invoker: Runs it.
        supervisor: Tells when there is a worker; without one nothing is received.
        storage: Makes queue clients.
        options: host.json's `extensions.queues`.
        lease_s: For how long a received message stays hidden; renewed at half of it.
    """

    def __init__(
        self,
        function: Function,
        trigger: QueueTrigger,
        *,
        invoker: Invoker,
        supervisor: WorkerSupervisor,
        storage: StorageClients,
        options: QueueOptions,
        lease_s: float,
    ) -> None:
        self.queue = trigger.queue
        self._function = function
        self._trigger = trigger
        self._invoker = invoker
        self._supervisor = supervisor
        self._storage = storage
        self._options = options
        self._lease_s = max(1, math.ceil(lease_s))
        self._delays = PollingDelays(options.max_polling_interval_s, random.Random())  # noqa: S311 - jitter
        self._wake = asyncio.Event()
        self._slot_free = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False

    def wake(self) -> None:
        """Look into the queue at once."""
        self._wake.set()

    async def run(self) -> None:
        """Listen until cancelled; what fails is logged and tried again."""
        client = await self._storage.queue(self._trigger.connection_string, self._trigger.queue)
        failing = ""
        while True:
            await self._supervisor.wait_ready()
            await self._wait_for_slot()
            self._wake.clear()
            try:
                messages = await self._receive(client)
            except StorageError as error:
                if str(error) != failing:
                    failing = str(error)
                    _log.error("function %r: %s", self._function.name, error)
                messages = []
            else:
                failing = ""
            if not messages:
                await self._pause(self._delays.next_s())
                continue
            self._delays.reset()
            for message in messages:
                task = asyncio.create_task(self._process(client, message))
                self._running.add(task)
                task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._slot_free.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("function %r: a message could not be settled", self._function.name, exc_info=error)

    async def _wait_for_slot(self) -> None:
        while len(self._running) > self._options.new_batch_threshold:
            self._slot_free.clear()
            await self._slot_free.wait()

    async def _pause(self, delay_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._wake.wait()

    async def _receive(self, client: "QueueClient") -> "Sequence[QueueMessage]":
        from azure.core.exceptions import AzureError, ResourceNotFoundError

        size = self._options.batch_size
        pages = client.receive_messages(messages_per_page=size, max_messages=size, visibility_timeout=self._lease_s)
        try:
            return [message async for message in pages]
        except ResourceNotFoundError:
            return []  # the trigger does not create its queue
        except AzureError as error:
            raise StorageError(f"cannot read the queue {self._trigger.queue!r}: {error}") from error

    async def _process(self, client: "QueueClient", message: "QueueMessage") -> None:
        body = decode_body(str(message.content), is_base64=self._options.base64)
        if body is None:
            await self._poison(client, message, "it is no base64")
            return
        count = message.dequeue_count or 0
        if count > self._options.max_dequeue_count:
            await self._poison(client, message, f"it was received {count} times")
            return
        renewed = asyncio.Event()
        renewal = asyncio.create_task(self._renew(client, message, renewed))
        try:
            succeeded = await self._invoke(message, body)
        finally:
            renewed.set()
            await renewal
        if succeeded:
            await self._settle(client, message, hidden_s=None)
        elif count >= self._options.max_dequeue_count and not self._stopping:
            await self._poison(client, message, f"it failed {count} times")
        else:
            await self._settle(client, message, hidden_s=0 if self._stopping else self._options.visibility_timeout_s)

    async def _invoke(self, message: "QueueMessage", body: bytes) -> bool:
        text = body.decode("utf-8", "replace")
        value = Data(DataKind.BYTES, body) if self._trigger.as_bytes else Data(DataKind.STRING, text)
        call = Call(
            reason=f"New queue message detected on '{self.queue}'.",
            inputs={self._trigger.name: value},
            trigger_metadata=trigger_metadata(message, text),
        )
        try:
            await self._invoker.invoke(self._function, call)
        except FunctionsHostError:
            return False  # logged where it happened
        return True

    async def _renew(self, client: "QueueClient", message: "QueueMessage", done: asyncio.Event) -> None:
        """Keep the message hidden while its function runs; each renewal changes the pop receipt."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._lease_s / 2):
                    await done.wait()
            if done.is_set():
                return
            await self._settle(client, message, hidden_s=self._lease_s)

    async def _settle(self, client: "QueueClient", message: "QueueMessage", *, hidden_s: float | None) -> None:
        """Delete the message, or hide it for so long; one that is no longer ours is left alone."""
        from azure.core.exceptions import AzureError

        try:
            if hidden_s is None:
                await client.delete_message(message.id, message.pop_receipt)
            else:
                hidden = math.ceil(hidden_s)
                updated = await client.update_message(message.id, message.pop_receipt, visibility_timeout=hidden)
                message.pop_receipt = updated.pop_receipt
                if hidden == 0:
                    self.wake()
        except AzureError as error:
            _log.warning("queue %r: message %s could not be settled: %s", self.queue, message.id, error)

    async def _poison(self, client: "QueueClient", message: "QueueMessage", why: str) -> None:
        """Move the message's text as it is; a poison queue has none itself, there it stays until its lease ends."""
        if self.queue.endswith(_POISON):
            _log.error("queue %r: message %s stays, hidden: %s", self.queue, message.id, why)
            return
        _log.error("queue %r: message %s goes to the poison queue: %s", self.queue, message.id, why)
        try:
            await self._storage.send(self._trigger.connection_string, f"{self.queue}{_POISON}", str(message.content))
        except StorageError as error:
            _log.error("message %s stays where it is: %s", message.id, error)
            return
        await self._settle(client, message, hidden_s=None)

    async def drain(self, grace_s: float) -> None:
        """Wait for running messages, so long at most; call after `run` was cancelled."""
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)

    def stop(self) -> None:
        """From now on, a failure makes the message visible at once and never poisons it."""
        self._stopping = True
