"""Tests what becomes of a run that Databricks does not take: it waits for what a person mends, or has failed."""

from dataclasses import replace
from datetime import timedelta

import pytest

from functions.core.access import Actor
from functions.core.errors import (
    AccessRefusedError,
    AmbiguousJobError,
    MlopsError,
    RunRejectedError,
    RunSubmissionError,
    UnknownJobError,
)
from functions.core.model import ArrivalState, JobKey, Outcome, RunState
from functions.services.cancel import cancel_run
from functions.services.complete import complete
from functions.services.reconcile import reconcile
from tests.support.control_plane import World, make_blob
from tests.support.in_memory import Faults
from tests.support.one_run import only_run, submitted

OPERATOR = Actor(name="ann@contoso.com")


class Answers(Faults):
    """Raises what it is told to at a call, before its effect or after it."""

    def __init__(self) -> None:
        self.refused: dict[str, MlopsError] = {}
        self.lost: dict[str, MlopsError] = {}

    def before(self, call: str) -> None:
        if call in self.refused:
            raise self.refused[call]

    def after(self, call: str) -> None:
        if call in self.lost:
            raise self.lost[call]


@pytest.mark.parametrize(
    "refusal",
    [
        AccessRefusedError("starting job", "PermissionDenied"),
        UnknownJobError(JobKey("scoring"), ()),
        AmbiguousJobError(JobKey("scoring"), (1, 2)),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("is_first_answer_lost", [False, True])
def test_a_run_waits_for_what_a_person_mends(refusal: MlopsError, *, is_first_answer_lost: bool) -> None:
    """Nothing is announced, whatever became of the first call: its token is sent until role and job are there."""
    faults = Answers()
    world = World(faults=faults)
    if is_first_answer_lost:
        faults.lost["workspace.submit"] = RunSubmissionError("starting job", "ReadTimeout")
        world.deliver(make_blob())
        faults.lost.clear()
    faults.refused["workspace.submit"] = refusal
    world.deliver(make_blob("other.parquet") if is_first_answer_lost else make_blob())
    for _ in range(20):
        world.clock.advance(timedelta(seconds=30))
        world.work()
        reconcile(world.plane)
    while_refused = {(run.state, run.attempt) for run in world.runs()}

    faults.refused.clear()
    world.clock.advance(timedelta(seconds=62))
    world.work()
    reconcile(world.plane)

    assert while_refused == {(RunState.SUBMITTING, 1)}
    assert {run.state for run in world.runs()} == {RunState.SUBMITTED}
    assert {run.token for run in world.runs()} == {run.token for run in world.databricks_runs()}
    assert world.publisher.published == []


def test_a_run_that_waits_for_a_job_is_put_back_for_a_minute() -> None:
    world = World()
    world.workspace.jobs.clear()

    world.deliver(make_blob())

    due = world.queue.next_visible_at()
    assert due is not None
    assert timedelta(seconds=60) <= due - world.clock.now() <= timedelta(seconds=61)


def test_a_run_that_databricks_rejects_has_failed() -> None:
    faults = Answers()
    world = World(faults=faults)
    faults.refused["workspace.submit"] = RunRejectedError("starting job", "InvalidParameterValue")

    world.deliver(make_blob())

    assert only_run(world).outcome is Outcome.FAILED
    assert "InvalidParameterValue" in (only_run(world).reason or "")
    assert world.arrival(make_blob()).state is ArrivalState.FAILED


def test_parameters_that_are_too_large_are_never_sent() -> None:
    """R28: the run fails before any call, and says by how much."""
    faults = Answers()
    world = World(faults=faults)
    faults.refused["workspace.submit"] = RunSubmissionError("starting job", "timeout")
    world.deliver(make_blob())
    entry = world.ledger.get_run(only_run(world).id)
    assert entry is not None
    world.ledger.update_run(entry, replace(entry.value, parameters={"seed": "1" * 10_000}))
    faults.refused.clear()

    world.clock.advance(timedelta(seconds=62))
    world.work()

    assert world.databricks_runs() == []
    assert only_run(world).outcome is Outcome.FAILED
    assert "expected at most 10000" in (only_run(world).reason or "")


@pytest.mark.parametrize("is_to_be_cancelled", [False, True])
def test_a_run_that_reported_without_its_id_ends_when_databricks_refuses_its_token(*, is_to_be_cancelled: bool) -> None:
    """Its answer was lost, and the run was deleted since: nothing else will tell which run it was."""

    class Refuse(Faults):
        is_armed = False

        def before(self, call: str) -> None:
            if self.is_armed and call == "workspace.submit":
                raise RunRejectedError("starting job 'scoring'", "the run of this token was deleted")

        def after(self, call: str) -> None:
            if not self.is_armed and call == "workspace.submit":
                self.is_armed = True
                raise RunSubmissionError("starting job 'scoring'", "no answer")

    world = World(faults=Refuse())
    run = submitted(world)
    world.publish_scores(run)
    report = replace(world.completion_of(run, Outcome.COMPLETED), databricks_run_id=None)
    complete(world.plane, report.to_json())
    if is_to_be_cancelled:
        cancel_run(world.plane, only_run(world).id, OPERATOR)

    world.settle()

    assert only_run(world).outcome is Outcome.FAILED
    assert "was deleted" in (only_run(world).reason or "")
