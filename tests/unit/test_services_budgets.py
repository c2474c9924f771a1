"""Tests that a day's budget is never overspent, and that what is beyond it waits for the next day (R77)."""

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from functions.core.errors import LedgerConflictError
from functions.core.model import ArrivalState
from functions.services.arrive import arrive
from functions.services.reconcile import reconcile
from functions.services.requests import request_run
from tests.support.control_plane import World, blob_message, make_blob, make_pipelines
from tests.support.interleaving import Interleaving
from tests.support.training import TRAIN, with_training_data


def test_files_beyond_the_budget_wait_for_the_next_day() -> None:
    """R77: held, not lost, and in one run together as soon as they may."""
    world = World(pipelines=make_pipelines(budget=2))
    for index in range(5):
        world.deliver(make_blob(f"{index}.parquet"))
        world.clock.advance(timedelta(minutes=1))
    for run in world.databricks_runs():
        world.finish(run)
    for _ in range(5):
        world.work()
        reconcile(world.plane)
        world.clock.advance(timedelta(minutes=2))
    today = len(world.databricks_runs())

    world.clock.advance(timedelta(hours=12))
    world.settle_submissions()

    assert today == 2
    assert [run.arrival_count for run in world.runs()] == [1, 1, 3]


def test_the_budget_of_all_counts_every_pipeline() -> None:
    pipelines = make_pipelines(limits="max_runs_per_day = 2")
    world = with_training_data(World(pipelines=pipelines))
    request_run(world.plane, TRAIN, idempotency_key="a")
    world.work()
    for name in ("a.parquet", "b.parquet"):
        world.deliver(make_blob(name))

    assert len(world.databricks_runs()) == 2
    assert world.arrival(make_blob("b.parquet")).state is ArrivalState.HELD


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), deaths=st.integers(0, 2))
def test_rivals_do_not_overspend_a_budget(seed: int, deaths: int) -> None:
    """R77: counted in the write that takes the seat, so a crash counts nothing twice and nothing too little."""
    order = Interleaving(seed, deaths=deaths)
    world = World(pipelines=make_pipelines(budget=3), faults=order)
    names = [f"{index}.parquet" for index in range(6)]

    order.run([lambda name=name: arrive(world.make_plane(), blob_message(make_blob(name))) for name in names])  # type: ignore[misc] # bound now
    for name in names:
        world.deliver(make_blob(name))
    for _ in range(4):
        world.work()
        reconcile(world.plane)
        world.clock.advance(timedelta(seconds=30))

    assert len(world.databricks_runs()) == 3
    assert [error for error in order.errors if not isinstance(error, LedgerConflictError)] == []
