"""Takes announcements, sorts them by kind and hands them to the subscriber that a test sets."""

from collections.abc import Callable, Iterable

from functions.core.announcements import Announcement
from functions.core.completion import CompletionEvent
from functions.core.held import HeldEvent
from functions.core.stalled import StalledEvent
from tests.support.in_memory.faults import Calls, Faults, NoFaults

__all__ = ["InMemoryPublisher"]


class InMemoryPublisher:
    """Implements `CompletionPublisher`; `on_publish` is the subscriber."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.calls = Calls(faults or NoFaults())
        self.published: list[CompletionEvent] = []
        self.stalls: list[StalledEvent] = []
        self.held: list[HeldEvent] = []
        self.on_publish: Callable[[Announcement], None] | None = None

    def publish(self, events: Iterable[Announcement]) -> None:
        with self.calls.effect("publisher.publish"):
            for event in events:
                if isinstance(event, StalledEvent):
                    self.stalls.append(event)
                elif isinstance(event, HeldEvent):
                    self.held.append(event)
                else:
                    self.published.append(event)
                if self.on_publish is not None:
                    self.on_publish(event)
