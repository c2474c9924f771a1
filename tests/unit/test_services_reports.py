"""Tests what becomes of a notebook's report that is late, early, foreign or our own."""

from dataclasses import replace
from datetime import timedelta

import pytest

from functions.core.errors import InvalidDocumentError, UnknownRunError
from functions.core.model import DatabricksRunId, JobKey, Outcome, RunId, RunState
from functions.services.complete import complete
from functions.services.reconcile import reconcile
from tests.support.control_plane import World
from tests.support.one_run import only_run, submitted


def test_a_late_report_of_an_earlier_attempt_changes_nothing() -> None:
    world = World()
    run = submitted(world)
    world.end_databricks_run(run.id, "INTERNAL_ERROR", "FAILED", "CLUSTER_ERROR")
    reconcile(world.plane)

    what = complete(world.plane, world.completion_of(run, Outcome.FAILED).to_json())

    assert "RejectForeignCompletion" in what
    assert only_run(world).attempt == 2


def test_our_own_announcement_comes_back_and_changes_nothing() -> None:
    """The completions queue gets every event of the topic, ours too."""
    world = World()
    run = submitted(world)
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    reconcile(world.plane)
    before = only_run(world)

    complete(world.plane, world.publisher.published[0].to_json())

    assert only_run(world) == before


def test_an_event_of_another_environment_is_left_alone() -> None:
    world = World()
    run = submitted(world)

    what = complete(world.plane, replace(world.completion_of(run, Outcome.FAILED), environment="prod").to_json())

    assert "not this one" in what
    assert only_run(world).state is RunState.SUBMITTED


def test_an_event_of_an_unknown_run_is_refused() -> None:
    world = World()
    run = submitted(world)
    event = world.completion_of(run, Outcome.FAILED)

    with pytest.raises(UnknownRunError):
        complete(
            world.plane, replace(event, run_id=RunId("flight_delay_scoring-20200101T000000Z-0123456789ab")).to_json()
        )
    with pytest.raises(InvalidDocumentError):
        complete(world.plane, b"no event")


def test_a_report_that_overtakes_the_answer_to_the_submission_is_kept() -> None:
    """The notebook may end before the worker has recorded that it started."""
    world = World()
    run = submitted(world)
    entry = world.ledger.get_run(only_run(world).id)
    assert entry is not None
    before = replace(entry.value, state=RunState.SUBMITTING, databricks_run_id=None, submitted_at=None)
    world.ledger.update_run(entry, before)
    event = replace(world.completion_of(run, Outcome.COMPLETED), databricks_run_id=None)
    world.publish_scores(run)

    complete(world.plane, replace(event, outputs=None).to_json())
    world.finish(run, reports=False)
    world.settle()

    ended = only_run(world)
    assert (ended.outcome, ended.databricks_run_id) == (Outcome.COMPLETED, DatabricksRunId(run.id))


def test_a_report_whose_job_cannot_be_looked_up_is_asked_about_again() -> None:
    """The work item goes back instead of to the poison queue."""
    world = World()
    run = submitted(world)
    entry = world.ledger.get_run(only_run(world).id)
    assert entry is not None
    world.ledger.update_run(entry, replace(entry.value, state=RunState.SUBMITTING, databricks_run_id=None))
    world.finish(run)
    world.workspace.jobs.clear()
    world.clock.advance(timedelta(seconds=2))
    world.work()
    world.workspace.jobs[JobKey("scoring")] = 1

    world.clock.advance(timedelta(seconds=62))
    world.work()

    assert only_run(world).outcome is Outcome.COMPLETED
