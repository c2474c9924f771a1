"""Puts work items into the dispatch queue."""

import base64
import math
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from functions.adapters.azure_errors import azure_errors
from functions.adapters.storage import StorageAccount
from functions.core.errors import QueueUnavailableError
from functions.core.work import WorkItem
from functions.ports import WorkQueue

if TYPE_CHECKING:
    from azure.storage.queue import QueueClient

__all__ = ["HandOffQueue", "OutputBinding", "StorageWorkQueue"]

_FOREVER: Final = -1  # a message may outlive the queue's default of seven days; nothing is dropped in silence
_LONGEST_DELAY: Final = timedelta(days=7) - timedelta(minutes=1)  # the service refuses a longer invisibility


class StorageWorkQueue:
    """Implements `WorkQueue` on Queue Storage."""

    def __init__(self, storage: StorageAccount, *, queue: str) -> None:
        self._storage = storage
        self._name = queue
        self._client: QueueClient | None = None

    def enqueue(self, item: WorkItem, *, delay: timedelta = timedelta(0)) -> None:
        """Make the work visible to the dispatcher after the delay; in base64, as the Functions host reads it."""
        from azure.core.exceptions import ResourceNotFoundError

        text = base64.b64encode(item.to_json().encode()).decode()
        # The service takes whole seconds. Woken early, the dispatcher would find that its wake-up is still to come.
        visibility_s = math.ceil(min(max(delay, timedelta(0)), _LONGEST_DELAY).total_seconds())
        with azure_errors(f"enqueueing {item.kind} of {item.pipeline!r}", QueueUnavailableError):
            queue = self._queue
            try:
                queue.send_message(text, visibility_timeout=visibility_s, time_to_live=_FOREVER)
            except ResourceNotFoundError:  # the first work item ever, or a queue that someone deleted
                _create(queue)
                queue.send_message(text, visibility_timeout=visibility_s, time_to_live=_FOREVER)

    @property
    def _queue(self) -> "QueueClient":
        if self._client is None:
            self._client = self._storage.queues.get_queue_client(self._name)
        return self._client


class OutputBinding(Protocol):
    """The host's side of a queue output of one invocation."""

    def set(self, val: str) -> None:
        """Have the host send this text when the function has succeeded."""
        ...


class HandOffQueue:
    """Implements `WorkQueue` for one invocation: its first immediate item is sent by the host, with the invocation.

    The host writes it before it acknowledges the delivery, and wakes the dispatcher; and a cold process saves the
    import of the queue's SDK. Everything else goes through the queue itself.
    """

    def __init__(self, binding: OutputBinding, queue: WorkQueue) -> None:
        self._binding = binding
        self._queue = queue
        self._is_used = False

    def enqueue(self, item: WorkItem, *, delay: timedelta = timedelta(0)) -> None:
        """Make the work visible to the dispatcher after the delay."""
        if self._is_used or delay > timedelta(0):
            self._queue.enqueue(item, delay=delay)
            return
        self._is_used = True
        self._binding.set(item.to_json())


def _create(queue: "QueueClient") -> None:
    from azure.core.exceptions import ResourceExistsError

    with suppress(ResourceExistsError):  # another worker was first
        queue.create_queue()
