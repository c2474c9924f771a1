"""Tests that of two workers who close one window at the same moment, one does it (R09, I2)."""

from datetime import timedelta

import pytest

from functions.core.model import ArrivalState
from functions.services.closing import close_pipeline_batch
from functions.services.plane import Progress, Wait
from tests.support.control_plane import SCORING, World, make_blob, make_pipelines
from tests.support.fault_walk import ProcessDiedError
from tests.support.in_memory import Faults

_CLAIMS = ("tables.arrivals.replace", "tables.arrivals.transact")
_NAMES = [f"{index}.parquet" for index in range(20)]


class RivalLooks(Faults):
    """Has a second worker look right after the first one's first claim; the first may die then."""

    def __init__(self, *, is_deadly: bool) -> None:
        self.world: World | None = None
        self.is_deadly = is_deadly
        self.rival: Progress | None = None
        self.writes = 0

    def after(self, call: str) -> None:
        """Look, if that is when."""
        if self.world is None or call not in _CLAIMS:
            return
        world, self.world = self.world, None
        before = sum(world.tables.calls.counts[claim] for claim in _CLAIMS)
        self.rival = close_pipeline_batch(world.make_plane(), SCORING)
        self.writes = sum(world.tables.calls.counts[claim] for claim in _CLAIMS) - before
        if self.is_deadly:
            raise ProcessDiedError(call)


def window_that_is_over(faults: RivalLooks) -> World:
    world = World(pipelines=make_pipelines(quiet=10, max_wait=30), faults=faults)
    for name in _NAMES:
        world.deliver(make_blob(name))
    world.clock.advance(timedelta(seconds=31))
    world.queue.messages.clear()  # the two looks are made by hand
    faults.world = world
    return world


def test_who_finds_a_rival_at_the_batch_leaves_it_to_the_rival() -> None:
    faults = RivalLooks(is_deadly=False)
    world = window_that_is_over(faults)

    close_pipeline_batch(world.make_plane(), SCORING)

    assert isinstance(faults.rival, Wait)
    assert (faults.rival.why, faults.rival.seconds) == ("another worker is starting their run", 5)
    assert faults.writes == 1  # the claim of the first file, which it lost
    assert [run.arrival_count for run in world.runs()] == [len(_NAMES)]


def test_the_batch_of_a_rival_that_died_is_closed_once_that_is_clear() -> None:
    faults = RivalLooks(is_deadly=True)
    world = window_that_is_over(faults)
    with pytest.raises(ProcessDiedError):
        close_pipeline_batch(world.make_plane(), SCORING)
    assert world.runs() == []

    world.clock.advance(timedelta(seconds=6))
    close_pipeline_batch(world.make_plane(), SCORING)

    assert [run.arrival_count for run in world.runs()] == [len(_NAMES)]
    assert {world.arrival(make_blob(name)).state for name in _NAMES} == {ArrivalState.ASSIGNED}
    assert world.tables.rows["pending"] == {}
