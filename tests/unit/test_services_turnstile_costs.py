"""Tests how little is read and written to start a run, to end one, and to keep what has to wait."""

from datetime import timedelta

from functions.services.closing import close_pipeline_batch
from functions.services.reconcile import reconcile
from tests.support.control_plane import SCORING, World, make_blob, make_pipelines


def test_a_start_and_an_end_cost_one_write_each() -> None:
    """One process in a row of files needs no read of the turnstile before it writes it."""
    world = World()
    world.deliver(make_blob("first.parquet"))
    before = world.tables.partitions["marks", "turnstile"]

    for index in range(10):
        world.deliver(make_blob(f"{index}.parquet"))

    assert world.tables.partitions["marks", "turnstile"] - before == 10


def test_a_pass_of_the_reconciler_reads_no_row_of_a_run_that_is_active() -> None:
    world = World()
    for index in range(10):
        world.deliver(make_blob(f"{index}.parquet"))
    world.clock.advance(timedelta(minutes=1))
    before = world.tables.calls.counts["tables.runs.get"]

    found = reconcile(world.plane)

    assert (found["active"], found["seats: right"]) == (10, 1)
    assert world.tables.calls.counts["tables.runs.get"] == before


def test_a_file_that_comes_while_its_pipeline_is_full_costs_one_read_of_the_turnstile() -> None:
    """No index and no run is read for it, and nobody is asked for a model."""
    world = World(pipelines=make_pipelines(max_active=2))
    for index in range(3):
        world.deliver(make_blob(f"{index}.parquet"))
    world.clock.advance(timedelta(seconds=1))
    before, resolved = world.tables.partitions.copy(), world.workspace.calls.counts["workspace.resolve"]

    world.deliver(make_blob("one-more.parquet"))

    touched = world.tables.partitions - before
    assert touched["marks", "turnstile"] == 1
    assert {table for table, _ in touched} == {"arrivals", "pending", "paths", "timeline", "marks"}
    assert world.workspace.calls.counts["workspace.resolve"] == resolved


def test_a_held_budget_reads_one_row_and_no_index() -> None:
    """What waits for days must not be read each minute."""
    world = World(pipelines=make_pipelines(budget=1))
    for name in ("a.parquet", "b.parquet"):
        world.deliver(make_blob(name))
    world.clock.advance(timedelta(minutes=1))
    reads = world.tables.partitions["pending", SCORING]

    progress = close_pipeline_batch(world.plane, SCORING)

    assert progress.what == "budget_spent"  # type: ignore[union-attr] # nothing left to do for now
    assert world.tables.partitions["pending", SCORING] == reads
