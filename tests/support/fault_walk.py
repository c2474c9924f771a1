"""Walks a fault over every effect of a story: the process dies, or one call or its answer is lost."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from functions.core.errors import LedgerUnavailableError, QueueUnavailableError, WorkspaceUnavailableError
from functions.services.dispatch import dispatch
from functions.services.reconcile import reconcile
from tests.support.control_plane import World
from tests.support.in_memory import Faults

__all__ = [
    "CrashAt",
    "DieAt",
    "FailAt",
    "LookBetween",
    "LoseRunWrite",
    "ProcessDiedError",
    "settle",
    "survive",
    "walk_faults",
    "work",
]


class ProcessDiedError(BaseException):
    """The process is gone; nothing in it can catch this."""


READS = (
    ".get",
    ".query",
    ".scan",
    ".resolve",
    ".find_job",
    ".status",
    ".read",
    ".read_scores",
    ".list_page",
    ".find",
    ".read_small",
    ".active",
    ".latest_repair",
    ".list",
)


@dataclass
class DieAt(Faults):
    """Kills the process once, before or after a call of this name."""

    call: str
    is_after: bool = False
    is_armed: bool = True

    def before(self, call: str) -> None:
        """Die, if that is when."""
        self._strike(call, is_after=False)

    def after(self, call: str) -> None:
        """Die, if that is when."""
        self._strike(call, is_after=True)

    def _strike(self, call: str, *, is_after: bool) -> None:
        if self.is_armed and call == self.call and is_after == self.is_after:
            self.is_armed = False
            raise ProcessDiedError(call)


class LoseRunWrite(Faults):
    """Loses the next write of a run's row, once it is armed: what is written before that stands alone."""

    is_armed = False

    def before(self, call: str) -> None:
        """Lose it."""
        if self.is_armed and call.startswith("tables.runs.") and not call.endswith(READS):
            self.is_armed = False
            raise LedgerUnavailableError(call, "scripted")


class LookBetween(Faults):
    """Has a reconciler look just before the next write of a run's row; from then on the queue takes nothing.

    By then the run's row in the index of open runs is written already.
    """

    def __init__(self) -> None:
        self._world: World | None = None
        self._sleep = timedelta(0)
        self._is_queue_down = False

    def arm(self, world: World, *, sleep: timedelta = timedelta(0)) -> None:
        """Wait for the next write of a run's row in this world, whose writer sleeps so long before it."""
        self._world = world
        self._sleep = sleep

    def before(self, call: str) -> None:
        """Look, or lose a message."""
        if self._world is not None and call == "tables.runs.replace":
            world, self._world = self._world, None
            self._is_queue_down = True
            world.clock.advance(self._sleep)
            reconcile(world.make_plane())
        if self._is_queue_down and call == "queue.enqueue":
            raise QueueUnavailableError(call, "scripted")


@dataclass
class CrashAt(Faults):
    """Kills the process after the n-th write; dying around a read is dying after the write before it."""

    at: int
    hooks: int = 0
    where: str = ""

    def after(self, call: str) -> None:
        if call.endswith(READS):
            return
        self.hooks += 1
        if self.hooks == self.at:
            self.where = f"after {call}"
            raise ProcessDiedError(self.where)


@dataclass
class FailAt(Faults):
    """Loses one call or its answer, with the error that the adapter would raise."""

    at: int
    hooks: int = 0
    where: str = ""

    def before(self, call: str) -> None:
        self._count(f"before {call}", call)

    def after(self, call: str) -> None:
        if not call.endswith(READS):  # a lost answer to a question is a lost question
            self._count(f"after {call}", call)

    def _count(self, hook: str, call: str) -> None:
        self.hooks += 1
        if self.hooks == self.at:
            self.where = hook
            error = WorkspaceUnavailableError if call.startswith("workspace") else LedgerUnavailableError
            raise error(call, "scripted")


def survive(world: World, act: Callable[[], object]) -> None:
    """Do something as the host would: again after the process died or the call failed, in a fresh process."""
    for _ in range(5):
        try:
            act()
        except (ProcessDiedError, LedgerUnavailableError, WorkspaceUnavailableError):
            world.plane = world.make_plane()
            world.clock.advance(timedelta(seconds=10))
        else:
            return
    raise AssertionError("it never succeeds")


def work(world: World) -> None:
    """Do queued work; what a dying process had taken is delivered again."""
    for _ in range(100):
        item = world.queue.take()
        if item is None:
            return
        survive(world, lambda taken=item: dispatch(world.plane, taken.to_json()))  # type: ignore[misc] # bound now


def settle(world: World) -> None:
    """Let time pass until every story is over."""
    for _ in range(30):
        work(world)
        survive(world, lambda: reconcile(world.plane))
        work(world)
        if world.is_quiet():
            return
        world.clock.advance(timedelta(seconds=20))
    states = [(run.state, run.reason) for run in world.runs()]
    raise AssertionError(f"not settled: {states}, {world.queue.messages}, {world.tables.rows['pending'].keys()}")


def walk_faults[T](
    story: Callable[[World], T], make_world: Callable[[Faults], World], fault: type[CrashAt] | type[FailAt]
) -> tuple[T, int]:
    """Return what the undisturbed story leaves, and over how many effects a fault was walked with that same result."""
    undisturbed = story(make_world(Faults()))
    at = 0
    while True:
        faults = fault(at=at + 1)
        found = story(make_world(faults))
        if not faults.where:
            return undisturbed, at
        assert found == undisturbed, f"fault {at + 1}: {faults.where}"
        at += 1
