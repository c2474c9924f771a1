"""Tests that an arrival which is held again is not lost where a look at the index meets its writer's death (I6)."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from functions.core.access import Actor
from functions.core.model import ArrivalState, Outcome
from functions.services.backfill import request_backfill
from functions.services.closing import close_pipeline_batch
from functions.services.plane import SLOWEST_WRITER
from functions.services.reconcile import reconcile
from functions.services.replay import replay
from tests.support.control_plane import SCORING, World, make_blob, make_pipelines
from tests.support.fault_walk import DieAt, ProcessDiedError, settle, work
from tests.support.in_memory import Faults

BLOB = make_blob()
ANN = Actor(name="ann@contoso.com")
_WRITES = ("tables.arrivals.replace", "tables.arrivals.transact")


class LookThenDie(Faults):
    """Has a dispatcher look between the index row of an arrival and its own row; its writer dies after that."""

    def __init__(self) -> None:
        self.world: World | None = None
        self._has_looked = False
        self.has_struck = False

    def before(self, call: str) -> None:
        """Look, if that is when."""
        if self.world is not None and not self._has_looked and call in _WRITES:
            world, self.world = self.world, None
            close_pipeline_batch(world.make_plane(), SCORING)
            self._has_looked, self.world = True, world

    def after(self, call: str) -> None:
        """Die, if that is when."""
        if self.world is not None and self._has_looked and call in _WRITES:
            self.world, self.has_struck = None, True
            raise ProcessDiedError(call)


def failed(faults: Faults) -> World:
    """Return a world in which a run over a file has failed, and nothing is left to do."""
    world = World(pipelines=make_pipelines(quiet=10, max_wait=30), faults=faults)
    world.deliver(BLOB)
    world.clock.advance(timedelta(seconds=31))
    world.work()
    world.finish(world.databricks_runs()[0], outcome=Outcome.FAILED)
    world.settle()
    return world


def complete_all(world: World) -> None:
    """Let time pass until every story is over; what runs completes."""
    for _ in range(4):
        world.clock.advance(timedelta(seconds=40))
        work(world)
        reconcile(world.plane)
        work(world)
        for run in world.databricks_runs():
            if run.status.verdict.is_open:
                world.finish(run)
    settle(world)


def replay_it(world: World, *, key: str = "k1") -> None:
    body = json.dumps({"arrival": world.arrival(BLOB).id}).encode()
    replay(world.make_plane(), body, idempotency_key=key, actor=ANN)


@pytest.mark.parametrize("is_repeated", [True, False])
def test_a_replay_that_dies_beside_a_look_is_carried_out(*, is_repeated: bool) -> None:
    """The look found an index row of what was not held yet, and removed it: the file was held for ever."""
    faults = LookThenDie()
    world = failed(faults)
    faults.world = world

    with pytest.raises(ProcessDiedError):
        replay_it(world)
    world.plane = world.make_plane()
    if is_repeated:
        replay_it(world)
    complete_all(world)

    assert world.arrival(BLOB).state is ArrivalState.SCORED


def test_a_backfill_that_dies_beside_a_look_is_carried_out() -> None:
    faults = LookThenDie()
    world = failed(faults)
    world.inputs.put(BLOB, at=world.clock.now() - timedelta(days=1))
    request_backfill(world.plane, json.dumps({"pipeline": SCORING, "yes": True, "again": True}).encode(), ANN)
    faults.world = world

    complete_all(world)

    assert faults.has_struck
    assert world.arrival(BLOB).state is ArrivalState.SCORED


def test_a_file_that_two_people_replay_at_once_is_scored_whoever_writes_its_index_row_last() -> None:
    """The loser's row overwrites the winner's: taken for one of somebody about to hold the file, it went in time."""

    class RivalFirst(Faults):
        is_armed = False

        def before(self, call: str) -> None:
            if self.is_armed and call == "tables.pending.put":
                self.is_armed = False
                world.clock.advance(timedelta(seconds=1))
                replay_it(world, key="rival")

    faults = RivalFirst()
    world = failed(faults)

    faults.is_armed = True
    replay_it(world)
    world.clock.advance(timedelta(minutes=6))
    complete_all(world)

    assert not faults.is_armed
    assert world.arrival(BLOB).state is ArrivalState.SCORED


def test_no_writer_lives_longer_than_a_function_may_take() -> None:
    """What is left alone for a writer's sake is left for as long as the host lets one run."""
    host = json.loads((Path(__file__).parents[2] / "host.json").read_text())
    hours, minutes, seconds = (int(part) for part in host["functionTimeout"].split(":"))

    assert timedelta(hours=hours, minutes=minutes, seconds=seconds) == SLOWEST_WRITER


def test_what_a_writer_left_that_died_before_it_held_the_arrival_is_removed_in_time() -> None:
    faults = DieAt("tables.pending.put", is_after=True, is_armed=False)
    world = failed(faults)
    faults.is_armed = True
    with pytest.raises(ProcessDiedError):
        replay_it(world)
    world.plane = world.make_plane()

    reconcile(world.plane)
    is_kept = bool(world.tables.rows["pending"])
    world.clock.advance(timedelta(minutes=6))
    reconcile(world.plane)

    assert is_kept
    assert not world.tables.rows["pending"]
    assert world.arrival(BLOB).state is ArrivalState.FAILED


def test_what_is_about_to_be_held_keeps_no_other_file_waiting() -> None:
    """Its index row is the oldest, and a batch takes one file."""
    faults = DieAt("tables.pending.put", is_after=True, is_armed=False)
    world = failed(faults)
    world.pipelines = make_pipelines(quiet=10, max_wait=30, max_files=1)
    faults.is_armed = True
    with pytest.raises(ProcessDiedError):
        replay_it(world)
    world.plane = world.make_plane()

    other = make_blob("other.parquet")
    world.deliver(other, at=world.clock.now())
    world.clock.advance(timedelta(seconds=31))
    world.work()

    assert world.arrival(other).state is ArrivalState.ASSIGNED
