"""Puts a hook before and after every effect of the ports in memory.

`Faults` is called around every single effect, also within a port's method that has several: raising before one is
a call that never arrived, raising after one is an answer that was lost, and in both cases a process that died there.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Calls", "Faults", "NoFaults"]


class Faults:
    """Decides what goes wrong; this one lets everything pass. Subclass it and raise."""

    def before(self, call: str) -> None:
        """Run before the effect of a call such as `tables.runs.insert`."""

    def after(self, call: str) -> None:
        """Run after it, when the caller has not seen the answer yet."""


class NoFaults(Faults):
    """Lets everything pass."""


class Calls:
    """Wraps effects in the fault hooks, and counts them."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.counts: Counter[str] = Counter()

    @contextmanager
    def effect(self, call: str) -> Iterator[None]:
        self.counts[call] += 1
        self.faults.before(call)
        yield
        self.faults.after(call)
