"""Tests that queued work never becomes visible before the time that was asked for."""

from datetime import UTC, datetime, timedelta
from typing import cast
from unittest.mock import Mock

import pytest

from functions.adapters.storage import StorageAccount
from functions.adapters.work_queue import StorageWorkQueue
from functions.core.model import PipelineKey
from functions.core.work import WorkItem, WorkKind
from tests.support.control_plane import World, make_blob, make_pipelines
from tests.support.in_memory import FixedClock, InMemoryQueue

ITEM = WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=PipelineKey("flight_delay_scoring"))


@pytest.mark.parametrize(("delay_s", "visible_s"), [(-1, 0), (0, 0), (0.4, 1), (1, 1), (62.3, 63)])
def test_a_delay_is_never_shortened_to_whole_seconds(delay_s: float, visible_s: int) -> None:
    storage = Mock()
    queue = StorageWorkQueue(cast("StorageAccount", storage), queue="dispatch")

    queue.enqueue(ITEM, delay=timedelta(seconds=delay_s))

    send = storage.queues.get_queue_client.return_value.send_message
    assert send.call_args.kwargs["visibility_timeout"] == visible_s


def test_the_queue_in_memory_rounds_as_the_service_does() -> None:
    clock = FixedClock(datetime(2026, 3, 1, tzinfo=UTC))
    queue = InMemoryQueue(clock)

    queue.enqueue(ITEM, delay=timedelta(seconds=0.4))

    assert queue.next_visible_at() == clock.now() + timedelta(seconds=1)


def test_a_window_that_ends_between_two_seconds_is_closed_without_the_reconciler() -> None:
    """The last wake-up comes after the window's end, whatever fraction of a second the arrivals came at."""
    world = World(pipelines=make_pipelines(quiet=10, max_wait=60))
    for offset_s in (0, 4.3, 8.6):
        world.clock.advance(timedelta(seconds=offset_s) - (world.clock.now() - datetime(2026, 3, 1, 12, tzinfo=UTC)))
        world.deliver(make_blob(f"{offset_s}.parquet"), at=world.clock.now())

    for _ in range(10):
        if (due := world.queue.next_visible_at()) is not None:
            world.clock.advance(max(due - world.clock.now(), timedelta(0)))
            world.work()

    assert [run.arrival_count for run in world.runs()] == [3]
