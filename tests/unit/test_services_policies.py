"""Tests that a pipeline's new work waits, supersedes or is dropped while it is busy, as its policy says (R26)."""

from datetime import timedelta

from functions.core.access import Actor
from functions.core.model import ArrivalState
from functions.services.retry import retry_run
from tests.support.control_plane import World, make_blob, make_pipelines
from tests.support.one_run import only_run, submitted

OPERATOR = Actor(name="ann@contoso.com")


def test_the_pipelines_capacity_holds_arrivals_back_and_none_is_lost() -> None:
    world = World(pipelines=make_pipelines(max_active=2))
    for index in range(4):
        world.deliver(make_blob(f"{index}.parquet"))
    at_first = len(world.databricks_runs())

    for run in world.databricks_runs():
        world.finish(run)
    world.settle_submissions()

    assert at_first == 2
    assert sum(run.arrival_count for run in world.runs()) == 4


def test_a_superseding_run_waits_for_the_cancelled_one() -> None:
    """R26."""
    world = World(pipelines=make_pipelines(policy="supersede"))
    world.deliver(make_blob("old.parquet"))
    (old,) = world.databricks_runs()

    world.deliver(make_blob("new.parquet"))
    started_beside = len(world.databricks_runs())
    world.settle_submissions()

    assert started_beside == 1
    assert old.status.termination_code == "USER_CANCELED"
    assert len(world.databricks_runs()) == 2
    assert world.arrival(make_blob("old.parquet")).state is ArrivalState.FAILED


def test_a_dropping_pipeline_records_what_it_drops() -> None:
    world = World(pipelines=make_pipelines(policy="drop"))
    world.deliver(make_blob("old.parquet"))

    world.deliver(make_blob("new.parquet"))

    arrival = world.arrival(make_blob("new.parquet"))
    assert (arrival.state, len(world.databricks_runs())) == (ArrivalState.IGNORED, 1)
    assert "drops" in (arrival.reason or "")
    assert world.tables.rows["pending"] == {}


def test_the_retry_of_an_older_run_leaves_the_newer_one_alone() -> None:
    world = World(pipelines=make_pipelines(policy="supersede"))
    run = submitted(world)
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.settle()
    old = only_run(world)
    world.clock.advance(timedelta(minutes=1))  # newer is what was decided later
    world.deliver(make_blob("new.parquet"), at=old.cause.at - timedelta(minutes=1))
    newer = world.databricks_runs()[-1]

    retry_run(world.plane, old.id, OPERATOR)
    world.work()

    assert newer.status.verdict.is_open
    (retried,) = [item for item in world.runs() if item.id == old.id]
    assert "superseded by the newer run" in (retried.reason or "")
