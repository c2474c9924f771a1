"""Tests which attempts follow a first one: those that Databricks owes, those that people ask for, and no more (R08)."""

from datetime import timedelta

from functions.core.access import Actor
from functions.core.model import ArrivalState, Outcome, RunState
from functions.services.reconcile import reconcile
from functions.services.retry import retry_run
from tests.support.control_plane import World, make_blob
from tests.support.one_run import only_run, submitted

OPERATOR = Actor(name="ann@contoso.com")


def test_a_skipped_run_goes_again_with_the_next_attempt() -> None:
    """R25: nothing is announced, and the token is a new one."""
    world = World()
    run = submitted(world)

    world.end_databricks_run(run.id, "TERMINATED", "MAXIMUM_CONCURRENT_RUNS_REACHED", "MAX_CONCURRENT_RUNS_EXCEEDED")
    reconcile(world.plane)
    world.clock.advance(timedelta(seconds=30))
    world.work()

    first, second = world.databricks_runs()
    assert (first.parameters["attempt"], second.parameters["attempt"]) == ("1", "2")
    assert first.token != second.token
    assert world.publisher.published == []
    assert world.arrival(make_blob()).state is ArrivalState.ASSIGNED


def test_attempts_are_bounded() -> None:
    """R08: a cluster that is lost time and again ends as failed after max_attempts."""
    world = World()
    world.deliver(make_blob())

    for _ in range(20):
        for run in world.databricks_runs():
            world.end_databricks_run(run.id, "INTERNAL_ERROR", "FAILED", "CLOUD_FAILURE")
        reconcile(world.plane)
        world.clock.advance(timedelta(seconds=20))
        world.work()

    assert len(world.databricks_runs()) == 3
    assert (only_run(world).outcome, only_run(world).attempt) == (Outcome.FAILED, 3)
    assert [event.id for event in world.publisher.published] == [f"{only_run(world).id}.3.failed"]


def test_a_person_may_ask_for_another_attempt_and_asking_twice_is_one() -> None:
    """R08."""
    world = World()
    run = submitted(world)
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.settle()

    retry_run(world.plane, only_run(world).id, OPERATOR)
    retry_run(world.plane, only_run(world).id, OPERATOR)
    world.work()

    assert [item.parameters["attempt"] for item in world.databricks_runs()] == ["1", "2"]
    assert world.arrival(make_blob()).state is ArrivalState.ASSIGNED


def test_a_retry_does_not_take_files_that_were_replayed() -> None:
    """I2: the file is held again on a person's word, so the retry fails unstarted and the replay has the file."""
    world = World()
    run = submitted(world)
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.settle()
    entry = world.ledger.get_arrival(make_blob())
    assert entry is not None
    assert entry.value.pipeline is not None
    world.ledger.update_arrival(entry, entry.value.replay(entry.value.pipeline, world.clock.now(), "by hand"))

    retry_run(world.plane, only_run(world).id, OPERATOR)
    world.settle_submissions()

    refused = world.publisher.published[-1]
    assert (refused.attempt, refused.outcome) == (2, Outcome.FAILED)
    assert "went to other runs" in (refused.reason or "")
    assert [item.parameters["attempt"] for item in world.databricks_runs()] == ["1", "3"]


def test_a_replayed_batch_is_the_next_attempt_of_its_run() -> None:
    world = World()
    run = submitted(world)
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.settle()
    entry = world.ledger.get_arrival(make_blob())
    assert entry is not None
    assert entry.value.pipeline is not None

    world.ledger.update_arrival(entry, entry.value.replay(entry.value.pipeline, world.clock.now(), "by hand"))
    world.settle_submissions()

    assert [item.parameters["attempt"] for item in world.databricks_runs()] == ["1", "2"]
    assert (only_run(world).attempt, only_run(world).state) == (2, RunState.SUBMITTED)


def test_a_retry_without_its_input_manifest_fails() -> None:
    world = World()
    run = submitted(world)
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.settle()
    del world.manifests.blobs[run.parameters["manifest_url"]]

    retry_run(world.plane, only_run(world).id, OPERATOR)
    world.work()

    assert (only_run(world).attempt, only_run(world).outcome) == (2, Outcome.FAILED)
    assert "its input manifest is gone or changed" in (only_run(world).reason or "")
