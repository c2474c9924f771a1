"""One message has a pipeline's held arrivals looked at, however many arrivals and workers there are."""

from datetime import timedelta

import pytest

from functions.core.errors import LedgerUnavailableError, QueueUnavailableError
from functions.core.model import PipelineKey
from functions.services.arrive import arrive
from functions.services.reconcile import reconcile
from functions.services.waking import wake_dispatcher
from tests.support.control_plane import World, blob_message, make_blob, make_pipelines
from tests.support.in_memory import Faults

SCORING = PipelineKey("flight_delay_scoring")
WINDOW = make_pipelines(quiet=30, max_wait=120)


class Down(Faults):
    """Has all calls of one kind fail while it is down."""

    def __init__(self, calls: str, error: type[LedgerUnavailableError | QueueUnavailableError]) -> None:
        self.is_down = False
        self._calls = calls
        self._error = error

    def before(self, call: str) -> None:
        """Fail, if that is what is down."""
        if self.is_down and call.startswith(self._calls):
            raise self._error(call, "scripted")


def wake(world: World, *, after_s: float, consignment: str = "") -> None:
    """Ask for a look as a worker without a memory."""
    wake_dispatcher(world.make_plane(), SCORING, after_s=after_s, traceparent=None, consignment=consignment)


def test_one_message_is_enough_for_all_workers_in_a_window() -> None:
    """Eight workers take a storm into one pipeline; the look that one of them asked for sees what all have recorded."""
    world = World(pipelines=WINDOW)
    planes = [world.make_plane() for _ in range(8)]

    for index in range(40):
        arrive(planes[index % 8], blob_message(make_blob(f"{index}.parquet")))
    messages = len(world.queue.messages)
    world.clock.advance(timedelta(seconds=31))
    world.work()

    assert messages == 1
    assert [run.arrival_count for run in world.runs()] == [40]


def test_the_next_window_has_a_message_of_its_own() -> None:
    world = World(pipelines=WINDOW)
    wake(world, after_s=30)
    world.clock.advance(timedelta(seconds=31))

    wake(world, after_s=30)
    wake(world, after_s=30)

    assert len(world.queue.messages) == 2


@pytest.mark.parametrize("left_s", [0.5, -1, 500])
def test_a_look_is_asked_for_that_another_workers_may_be_too_early_or_too_late_for(left_s: float) -> None:
    """Too early: it may be over by a clock that is ahead. Too late: what waits now is due before."""
    world = World(pipelines=WINDOW)
    wake(world, after_s=600)
    world.clock.advance(timedelta(seconds=600 - left_s))

    wake(world, after_s=30)

    assert len(world.queue.messages) == 2


def test_a_look_that_comes_at_once_asks_nobody() -> None:
    world = World(pipelines=WINDOW)

    wake(world, after_s=0)
    wake(world, after_s=1)

    assert len(world.queue.messages) == 2
    assert "bookmark" not in {partition for partition, _ in world.tables.rows["marks"]}


def test_consignments_are_woken_one_by_one() -> None:
    world = World(pipelines=WINDOW)

    wake(world, after_s=30)
    wake(world, after_s=30, consignment="a")
    wake(world, after_s=30, consignment="b")

    assert len(world.queue.messages) == 3


def test_a_message_that_could_not_be_sent_is_not_relied_on() -> None:
    faults = Down("queue.", QueueUnavailableError)
    world = World(pipelines=WINDOW, faults=faults)
    faults.is_down = True
    with pytest.raises(QueueUnavailableError):
        wake(world, after_s=30)
    faults.is_down = False

    wake(world, after_s=30)

    assert len(world.queue.messages) == 1


def test_a_worker_that_dies_between_note_and_message_delays_the_window_until_the_reconciler_looks() -> None:
    """I6: others rely on a message that was never sent."""
    world = World(pipelines=WINDOW)
    due = world.clock.now() + timedelta(seconds=30)
    world.ledger.note_wake_up(SCORING, due, not_before=world.clock.now())  # and no more of that worker
    arrive(world.make_plane(), blob_message(make_blob()))
    messages = len(world.queue.messages)
    world.clock.advance(timedelta(seconds=31))

    reconcile(world.make_plane())

    assert messages == 0
    assert [run.arrival_count for run in world.runs()] == [1]


def test_a_ledger_that_does_not_answer_costs_a_message_too_many() -> None:
    faults = Down("tables.marks.", LedgerUnavailableError)
    world = World(pipelines=WINDOW, faults=faults)
    faults.is_down = True

    wake(world, after_s=30)
    wake(world, after_s=30)

    assert len(world.queue.messages) == 2
