"""Plays the Functions host and its queues: leases, redelivery, poison; an invocation does what a trigger does."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from functions.adapters.work_queue import HandOffQueue
from functions.core.errors import AccessRefusedError, MlopsError, PermanentError
from functions.services import arrive as arriving
from functions.services import complete as completing
from functions.services import dispatch as dispatching
from functions.services.plane import ControlPlane
from functions.services.quarantine import quarantine_message
from tests.simulation.workers import HostFailedError, Process, Worker, Workers
from tests.support.in_memory import FixedClock, InMemoryQueue

__all__ = ["QUEUES", "Host", "Message"]

QUEUES: Final = ("arrivals", "dispatch", "completions")
_LEASE: Final = timedelta(seconds=60)  # nobody renews it: a worker that sleeps longer has rivals
_VISIBLE_AGAIN: Final = timedelta(seconds=10)
_MAX_DEQUEUES: Final = 3  # the app's own limit is higher; a low one is reached in a short story


@dataclass
class Message:
    """One message of a queue."""

    number: int
    queue: str
    body: bytes
    visible_at: datetime
    inserted_at: datetime
    dequeues: int = 0
    is_poison: bool = False

    @property
    def id(self) -> str:
        """The queue service's name for it."""
        return f"message-{self.number}"


class _Binding:
    """The queue output of one invocation."""

    def __init__(self) -> None:
        self.text: str | None = None

    def set(self, val: str) -> None:
        self.text = val


class Host:
    """Has the messages of every queue and makes invocations of them."""

    def __init__(self, clock: FixedClock, work_queue: InMemoryQueue, workers: Workers) -> None:
        self._clock = clock
        self._work_queue = work_queue
        self._workers = workers
        self.messages: list[Message] = []
        self.acknowledges_first = False  # a defect may switch this on
        self._count = 0

    def send(self, queue: str, body: bytes, *, visible_at: datetime | None = None) -> Message:
        """Put a message into a queue."""
        self._count += 1
        now = self._clock.now()
        message = Message(self._count, queue, body, visible_at or now, now)
        self.messages.append(message)
        return message

    def visible(self) -> list[Message]:
        """Return what a listener could take now, in the order of its becoming visible."""
        self._collect()
        now = self._clock.now()
        return [message for message in self.messages if message.visible_at <= now]

    def next_visible_at(self) -> datetime | None:
        """Return when something is visible next, or None if the queues are empty."""
        self._collect()
        return min((message.visible_at for message in self.messages), default=None)

    def take(self, message: Message, process: Process) -> Worker:
        """Lease a message to a process; return the invocation before its first step."""
        message.dequeues += 1
        message.visible_at = self._clock.now() + _LEASE
        receipt = message.dequeues
        name = f"{message.queue}-poison" if message.is_poison else message.queue
        return self._workers.start(
            process,
            f"{name} worker with {message.id} in process {process.number}",
            lambda: self._invoke(message, receipt, process),
        )

    def _collect(self) -> None:
        """Take over what the control plane has enqueued."""
        for visible_at, item in self._work_queue.messages:
            self.send("dispatch", item.to_json().encode(), visible_at=visible_at)
        self._work_queue.messages.clear()

    def _invoke(self, message: Message, receipt: int, process: Process) -> None:
        if self.acknowledges_first:
            self._acknowledge(message, receipt)
        try:
            self._handle(message, process.plane)
            self._workers.before("host.acknowledge")
            self._acknowledge(message, receipt)
            self._workers.after("host.acknowledge")
        except (MlopsError, HostFailedError):
            self._fail(message, receipt)

    def _acknowledge(self, message: Message, receipt: int) -> None:
        if message.dequeues == receipt and message in self.messages:  # else a rival has it, and its receipt counts
            self.messages.remove(message)

    def _fail(self, message: Message, receipt: int) -> None:
        if message.dequeues != receipt or message not in self.messages:
            return
        if message.dequeues < _MAX_DEQUEUES:
            message.visible_at = self._clock.now() + _VISIBLE_AGAIN
        elif not message.is_poison:
            self._workers.hits["poisoned"] += 1
            message.is_poison, message.dequeues, message.visible_at = True, 0, self._clock.now()
        else:
            message.dequeues, message.visible_at = 0, self._clock.now() + _VISIBLE_AGAIN  # operators keep it alive

    def _handle(self, message: Message, plane: ControlPlane) -> None:
        if message.is_poison:
            self._quarantine(message, plane)
            return
        try:
            self._receive(message, plane)
        except AccessRefusedError:
            raise
        except PermanentError:
            self._quarantine(message, plane)

    def _receive(self, message: Message, plane: ControlPlane) -> None:
        match message.queue:
            case "arrivals":
                binding = _Binding()
                arriving.arrive(replace(plane, queue=HandOffQueue(binding, plane.queue)), message.body)
                if binding.text is not None:
                    self._workers.before("host.handoff")
                    self.send("dispatch", binding.text.encode())
                    self._workers.after("host.handoff")
            case "dispatch":
                dispatching.dispatch(plane, message.body)
            case "completions":
                completing.complete(plane, message.body)
            case _:
                raise AssertionError(message.queue)

    def _quarantine(self, message: Message, plane: ControlPlane) -> None:
        quarantine_message(plane, message.queue, message.id, message.body, message.inserted_at)
