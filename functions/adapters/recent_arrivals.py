"""Remembers the last arrivals that this process recorded, so that a storm of repeats need not read them."""

import threading
from collections import OrderedDict
from typing import Final

from functions.core.ledger import Arrival
from functions.ports import Entry

__all__ = ["RecentArrivals"]

_MOST: Final = 4000  # some kilobytes each


class RecentArrivals:
    """Arrivals by their places, the latest ones; what became of them since is not known here."""

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[str, str], Entry[Arrival]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, place: tuple[str, str], entry: Entry[Arrival]) -> None:
        """Remember an arrival; the oldest one is forgotten if there are too many."""
        with self._lock:
            self._entries[place] = entry
            if len(self._entries) > _MOST:
                self._entries.popitem(last=False)

    def get(self, place: tuple[str, str]) -> Entry[Arrival] | None:
        """Return an arrival as it was recorded, or None."""
        with self._lock:
            return self._entries.get(place)
