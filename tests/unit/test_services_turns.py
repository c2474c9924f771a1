"""Tests in which order those go who wait for a seat."""

from datetime import timedelta

from functions.core.access import Actor
from functions.core.model import Outcome
from functions.services.requests import request_run
from functions.services.retry import retry_run
from tests.support.control_plane import SCORING, TRAINING, World, make_blob, make_pipelines
from tests.support.in_flight import check_caps, finish_all
from tests.support.training import TRAIN, with_training_data

OPERATOR = Actor(name="ann@contoso.com")


def test_a_pipeline_that_storms_leaves_its_seats_to_who_waits() -> None:
    """One pipeline's storm does not keep another waiting for more than one of its runs."""
    world = with_training_data(World(pipelines=make_pipelines(limits="max_in_flight = 1")))
    for index in range(5):
        world.deliver(make_blob(f"{index}.parquet"))
    request_run(world.plane, TRAIN, idempotency_key="a")
    world.work()
    (storming,) = world.databricks_runs()

    world.finish(storming)
    for _ in range(20):  # the pipeline that queued first goes once more, then the other one
        world.deliver(make_blob(f"later-{world.clock.now():%M%S}.parquet"))
        world.work()
        world.clock.advance(timedelta(seconds=10))
        if len(world.databricks_runs()) == 2 and world.clock.now().minute == 2:
            world.finish(world.databricks_runs()[-1])

    assert [run.parameters["pipeline"] for run in world.databricks_runs()] == [SCORING, SCORING, TRAINING]


def test_runs_of_a_queue_go_in_the_order_in_which_they_were_asked_for() -> None:
    """R26: whoever looks first, the oldest goes."""
    world = with_training_data(World())
    for key in "abcd":
        request_run(world.plane, TRAIN, idempotency_key=key)
        world.clock.advance(timedelta(seconds=1))
    wanted = [run.id for run in world.runs()]
    world.queue.messages.reverse()

    finish_all(world, check_caps)

    assert [run.parameters["run_id"] for run in world.databricks_runs()] == wanted


def test_held_files_let_a_run_go_first_that_waits_already() -> None:
    """A retry must not wait for ever behind files that keep coming."""
    world = World(pipelines=make_pipelines(policy="queue"))
    world.deliver(make_blob("a.parquet"))
    (first,) = world.databricks_runs()
    world.finish(first, outcome=Outcome.FAILED)
    world.settle()
    (failed,) = world.runs()
    world.deliver(make_blob("b.parquet"))
    world.deliver(make_blob("c.parquet"))
    retry_run(world.plane, failed.id, OPERATOR)
    world.work()

    world.finish(world.databricks_runs()[-1])
    for _ in range(4):
        world.clock.advance(timedelta(seconds=20))
        world.work()

    assert [run.parameters["attempt"] for run in world.databricks_runs()] == ["1", "1", "2"]
