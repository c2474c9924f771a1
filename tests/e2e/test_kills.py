"""Processes die and the cloud restarts in the middle of things: each file is still scored once and announced."""

import pytest

from functions.core.model import ArrivalState, Outcome, RunState
from tests.support.whole_cloud import WholeCloud, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_worker_killed_between_the_token_and_the_submission_starts_one_run(world: WholeCloud) -> None:
    """The call hangs in the workspace while the worker is killed: whoever goes on calls with the same token."""
    path = "flights/new/worker-killed.parquet"
    world.workspace(
        "POST", "/_faults", {"method": "POST", "path": "/jobs/run-now$", "times": 1, "action": {"delay_s": 5}}
    )
    etag = world.upload(path, world.month(10, rows=400))
    run = world.in_state(path, etag, RunState.SUBMITTING)

    killed = world.kill_worker()

    ended = world.ended(run)
    assert ended.outcome is Outcome.COMPLETED, ended.reason
    assert len(world.databricks_runs(run)) == 1
    assert ended.token == run.token
    assert world.settled(path, etag).state is ArrivalState.SCORED
    _, status = world.api("GET", "/admin/host/status")
    assert status["worker"]["pid"] != killed
    assert {event["id"] for event in world.completion_events(run)} == {f"{run.id}.1.completed"}


def test_a_lost_answer_starts_one_run(world: WholeCloud) -> None:
    """Databricks starts the run, its answer never arrives: the repeated call finds the run by its token."""
    path = "flights/new/answer-lost.parquet"
    world.workspace(
        "POST", "/_faults", {"method": "POST", "path": "/jobs/run-now$", "times": 1, "action": {"drop_response": True}}
    )

    etag = world.upload(path, world.month(10, rows=410))
    ended = world.ended(world.run_of(path, etag))

    assert ended.outcome is Outcome.COMPLETED, ended.reason
    assert len(world.databricks_runs(ended)) == 1


def test_a_killed_notebook_is_announced_by_the_control_plane(world: WholeCloud) -> None:
    """A notebook that dies cannot report: the reconciler does, and no scores are there to be read."""
    path = "flights/new/notebook-killed.parquet"
    etag = world.upload(path, world.month(11, rows=420))
    run = world.in_state(path, etag, RunState.SUBMITTED)
    assert run.databricks_run_id is not None

    world.workspace("POST", "/_faults/kill-run", {"run_id": run.databricks_run_id})

    ended = world.ended(run, within_s=240)
    events = wait_for(lambda: world.completion_events(run) or None, "the completion event")
    assert ended.outcome is not None
    assert {event["id"] for event in events} == {f"{run.id}.{ended.attempt}.{ended.outcome.value}"}
    if ended.outcome is Outcome.COMPLETED:  # a passing failure: the next attempt scored the file
        assert ended.attempt > 1
    else:
        assert ended.reason
        assert world.settled(path, etag).state is ArrivalState.FAILED


def test_a_restarted_cloud_ends_what_it_had_begun(world: WholeCloud) -> None:
    """Down and up in the middle of a run: the run that died is told, and the file's story ends."""
    path = "flights/new/cloud-restarted.parquet"
    etag = world.upload(path, world.month(12, rows=430))
    run = world.in_state(path, etag, RunState.SUBMITTED)

    world.cloud.down()
    world.cloud.up()

    ended = world.ended(run, within_s=240)
    assert ended.outcome is not None
    assert world.settled(path, etag).state in {ArrivalState.SCORED, ArrivalState.FAILED}
    wait_for(lambda: world.completion_events(run) or None, "the completion event")
