"""Finds the shortest schedule that still breaks the same promise."""

from collections.abc import Callable
from typing import Final

from tests.simulation.actions import Action, Schedule

__all__ = ["shortest"]

_TRIES: Final = 600


class _Budget:
    """Counts tries, so that shrinking ends even where every try is slow."""

    def __init__(self, breaks: Callable[[Schedule], bool], tries: int) -> None:
        self._breaks = breaks
        self._left = tries

    def still_breaks(self, schedule: Schedule) -> bool:
        if self._left <= 0:
            return False
        self._left -= 1
        return self._breaks(schedule)


def shortest(schedule: Schedule, breaks: Callable[[Schedule], bool], *, tries: int = _TRIES) -> Schedule:
    """Return a schedule of which no action can be left out without mending it (delta debugging), with small numbers.

    Args:
        schedule: One that breaks a promise.
        breaks: Whether a schedule still breaks that promise.
        tries: How many schedules may be run; then the shortest so far is returned.
    """
    budget = _Budget(breaks, tries)
    schedule = _fewer_actions(schedule, budget)
    schedule = _smaller_numbers(schedule, budget)
    return _fewer_actions(schedule, budget)


def _fewer_actions(schedule: Schedule, budget: _Budget) -> Schedule:
    size = max(1, len(schedule.actions) // 2)
    while True:
        at, has_shrunk = 0, False
        while at < len(schedule.actions):
            rest = schedule._replace(actions=schedule.actions[:at] + schedule.actions[at + size :])
            if budget.still_breaks(rest):
                schedule, has_shrunk = rest, True
            else:
                at += size
        if size == 1 and not has_shrunk:
            return schedule
        size = max(1, size // 2)


def _smaller_numbers(schedule: Schedule, budget: _Budget) -> Schedule:
    for at, action in enumerate(schedule.actions):
        for simpler in (Action(action.kind), action._replace(a=0), action._replace(b=0), action._replace(c=0)):
            if simpler == schedule.actions[at]:
                continue
            tried = schedule._replace(actions=(*schedule.actions[:at], simpler, *schedule.actions[at + 1 :]))
            if budget.still_breaks(tried):
                schedule = tried
                break
    return schedule
