"""Tests that seats which disagree with the runs in flight are mended."""

import pytest

from functions.services.reconcile import reconcile
from tests.support.control_plane import World, make_blob, make_pipelines
from tests.support.fault_walk import DieAt, ProcessDiedError


def test_a_seat_whose_run_ended_as_its_process_died_is_given_back() -> None:
    """A dead process leaks no seat: the reconciler compares seats with runs."""
    faults = DieAt("publisher.publish")
    world = World(pipelines=make_pipelines(policy="queue"), faults=faults)
    world.deliver(make_blob("a.parquet"))
    (run,) = world.databricks_runs()
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    seat = world.turnstile().seats
    with pytest.raises(ProcessDiedError):
        reconcile(world.plane)
    turnstile = world.ledger.read_turnstile()
    world.ledger.update_turnstile(turnstile, turnstile.value.adopt(seat))  # as if it had died a line earlier

    world.plane = world.make_plane()
    world.deliver(make_blob("b.parquet"))
    held_back = len(world.databricks_runs())
    found = reconcile(world.plane)
    world.settle_submissions()

    assert (held_back, found["seats: mended"]) == (1, 1)
    assert len(world.databricks_runs()) == 2


def test_runs_from_before_the_turnstile_get_their_seats() -> None:
    """After an upgrade, or when the row was lost, what Databricks has is counted."""
    world = World(pipelines=make_pipelines(policy="queue"))
    world.deliver(make_blob("a.parquet"))
    del world.tables.rows["marks"]["turnstile", "turnstile"]
    world.plane = world.make_plane()

    found = reconcile(world.plane)
    world.deliver(make_blob("b.parquet"))

    assert found["seats: mended"] == 1
    assert len(world.databricks_runs()) == 1
