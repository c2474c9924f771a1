"""Keeps work items until the clock says that they are visible."""

import math
from datetime import datetime, timedelta

from functions.core.work import WorkItem
from tests.support.in_memory.clock import FixedClock
from tests.support.in_memory.faults import Calls, Faults, NoFaults

__all__ = ["InMemoryQueue"]


class InMemoryQueue:
    """Implements `WorkQueue`; messages become visible by the clock."""

    def __init__(self, clock: FixedClock, faults: Faults | None = None) -> None:
        self._clock = clock
        self.calls = Calls(faults or NoFaults())
        self.messages: list[tuple[datetime, WorkItem]] = []

    def enqueue(self, item: WorkItem, *, delay: timedelta = timedelta(0)) -> None:
        with self.calls.effect("queue.enqueue"):
            whole = timedelta(seconds=math.ceil(delay.total_seconds()))  # as the queue service takes it
            self.messages.append((self._clock.now() + whole, item))

    def take(self) -> WorkItem | None:
        """Return and remove the first visible item, or None."""
        for index, (visible_at, item) in enumerate(self.messages):
            if visible_at <= self._clock.now():
                del self.messages[index]
                return item
        return None

    def next_visible_at(self) -> datetime | None:
        """Return when the next item becomes visible, or None if there is none."""
        return min((visible_at for visible_at, _ in self.messages), default=None)
