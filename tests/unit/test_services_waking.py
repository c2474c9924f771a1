"""One message has a pipeline's held arrivals looked at, however many arrivals and workers there are."""

from datetime import timedelta

import pytest

from functions.core.errors import LedgerUnavailableError, QueueUnavailableError
from functions.core.model import PipelineKey
from functions.services.arrive import arrive
from functions.services.waking import wake_dispatcher
from tests.support.control_plane import World, blob_message, make_blob, make_pipelines
from tests.support.in_memory import Faults

SCORING = PipelineKey("flight_delay_scoring")
WINDOW = make_pipelines(quiet=30, max_wait=120)


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
    class NoQueue(Faults):
        is_down = True

        def before(self, call: str) -> None:
            if self.is_down and call.startswith("queue."):
                raise QueueUnavailableError(call, "scripted")

    faults = NoQueue()
    world = World(pipelines=WINDOW, faults=faults)
    with pytest.raises(QueueUnavailableError):
        wake(world, after_s=30)
    faults.is_down = False

    wake(world, after_s=30)

    assert len(world.queue.messages) == 1


def test_a_ledger_that_does_not_answer_costs_a_message_too_many() -> None:
    class NoMarks(Faults):
        is_down = False

        def before(self, call: str) -> None:
            if self.is_down and call.startswith("tables.marks."):
                raise LedgerUnavailableError(call, "scripted")

    faults = NoMarks()
    world = World(pipelines=WINDOW, faults=faults)
    faults.is_down = True

    wake(world, after_s=30)
    wake(world, after_s=30)

    assert len(world.queue.messages) == 2
