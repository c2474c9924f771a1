"""Tests that a run has succeeded where its scores prove it, nowhere else, and whatever comes meanwhile (I4, I6)."""

from dataclasses import replace
from datetime import timedelta

import pytest

from functions.core.model import ArrivalState, Outcome, RunState
from functions.services.complete import complete
from functions.services.reconcile import reconcile
from tests.support.control_plane import World, make_blob
from tests.support.fault_walk import DieAt, ProcessDiedError
from tests.support.in_memory import Faults
from tests.support.one_run import only_run, submitted


def test_a_report_is_a_claim_until_databricks_confirms_it() -> None:
    world = World()
    run = submitted(world)
    world.publish_scores(run)

    world.report(run, Outcome.COMPLETED)
    world.clock.advance(timedelta(seconds=2))
    world.work()

    assert only_run(world).state is RunState.REPORTED
    assert world.arrival(make_blob()).state is ArrivalState.ASSIGNED


def test_a_confirmed_report_ends_the_run_with_the_notebooks_own_event() -> None:
    """What the notebook published is not published again."""
    world = World()
    run = submitted(world)

    world.finish(run)
    world.settle()

    ended = only_run(world)
    assert (ended.state, ended.outcome) == (RunState.ENDED, Outcome.COMPLETED)
    assert ended.completion is not None
    assert ended.completion.announced_by == "notebook"
    assert world.publisher.published == []
    assert world.arrival(make_blob()).state is ArrivalState.SCORED


def test_success_without_a_report_is_announced_by_us_with_its_proof() -> None:
    world = World()
    run = submitted(world)

    world.finish(run, reports=False)
    world.settle()

    (event,) = world.publisher.published
    assert (event.outcome, event.announced_by) == (Outcome.COMPLETED, "control_plane")
    assert event.outputs is not None
    assert event.outputs.rows_scored == 9
    assert event.id == f"{only_run(world).id}.1.completed"


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"rows_scored": 5}, "rows do not add up"),
        ({"null_scores": 1}, "null or NaN"),
        ({"batch_id": "f" * 16}, "batch_id"),
        ({"score_column": "other"}, "score_column"),
    ],
)
def test_scores_that_do_not_add_up_are_no_success(changes: dict[str, object], doubt: str) -> None:
    """I4: Databricks says success and the notebook too, but the manifest does not prove it."""
    world = World()
    run = submitted(world)
    world.publish_scores(run, **changes)

    world.report(run, Outcome.COMPLETED)
    world.finish(run, reports=False)
    world.settle()

    ended = only_run(world)
    assert ended.outcome is Outcome.FAILED
    assert doubt in (ended.reason or "")
    assert world.arrival(make_blob()).state is ArrivalState.FAILED
    assert [event.outcome for event in world.publisher.published] == [Outcome.FAILED]


def test_success_without_scores_is_no_success() -> None:
    world = World()
    run = submitted(world)

    world.end_databricks_run(run.id, "TERMINATED", "SUCCESS", "SUCCESS")
    world.settle()

    assert only_run(world).outcome is Outcome.FAILED
    assert "there is no manifest" in (only_run(world).reason or "")


def test_a_broken_scores_manifest_is_no_success() -> None:
    world = World()
    run = submitted(world)
    world.manifests.blobs[f"{run.parameters['output_url']}/_manifest.json"] = b"{"

    world.end_databricks_run(run.id, "TERMINATED", "SUCCESS", "SUCCESS")
    world.settle()

    assert only_run(world).outcome is Outcome.FAILED


@pytest.mark.parametrize("call", ["tables.arrivals.replace", "tables.runs.replace"])
@pytest.mark.parametrize("is_true", [True, False])
def test_a_report_that_comes_while_a_success_is_written_does_not_undo_it(call: str, *, is_true: bool) -> None:
    """I6: an arrival that is scored stays so, so its run must not be judged otherwise by what comes next."""

    class Between(Faults):
        report = ""

        def after(self, of: str) -> None:
            if of == call and self.report:
                report, self.report = self.report, ""
                complete(world.make_plane(), report)

    between = Between()
    world = World(faults=between)
    run = submitted(world)
    world.publish_scores(run)
    event = world.completion_of(run, Outcome.COMPLETED)
    assert event.outputs is not None
    outputs = event.outputs if is_true else replace(event.outputs, rows_scored=event.outputs.rows_scored - 1)
    world.end_databricks_run(run.id, "TERMINATED", "SUCCESS", "SUCCESS")

    between.report = replace(event, outputs=outputs, metrics={"rmse": 1.5}).to_json()
    for _ in range(4):
        world.clock.advance(timedelta(minutes=2))
        reconcile(world.plane)
        world.work()

    ended = only_run(world)
    assert between.report == ""
    assert (ended.state, ended.outcome) == (RunState.ENDED, Outcome.COMPLETED)
    assert world.arrival(make_blob()).state is ArrivalState.SCORED
    assert {published.id for published in world.publisher.published} <= {f"{ended.id}.1.completed"}


@pytest.mark.parametrize("reports", [True, False])
def test_a_success_that_arrivals_were_told_of_stays_one_when_its_scores_vanish(*, reports: bool) -> None:
    """I6: who comes after a worker that died between an arrival and the run ends the run as that one began to."""
    died = DieAt("tables.arrivals.replace", is_after=True, is_armed=False)
    world = World(faults=died)
    run = submitted(world)
    world.finish(run, reports=reports)
    died.is_armed = True
    with pytest.raises(ProcessDiedError):
        reconcile(world.plane)
    assert (only_run(world).completion is not None) is reports, "that of an open run is on the topic already"

    del world.manifests.blobs[f"{run.parameters['output_url']}/_manifest.json"]
    del world.workspace.runs[run.id]
    world.settle()

    ended = only_run(world)
    assert (ended.state, ended.outcome) == (RunState.ENDED, Outcome.COMPLETED)
    assert world.arrival(make_blob()).state is ArrivalState.SCORED
    told = [event.id for event in world.publisher.published]
    assert told == ([] if reports else [f"{ended.id}.1.completed"])
    assert ended.published_at is not None


def test_no_attempt_follows_one_that_a_rival_has_proven_meanwhile() -> None:
    """I2, I6: its Databricks run was repaired in the workspace while the worker slept that saw it fail."""

    class Repaired(Faults):
        step = ""

        def after(self, call: str) -> None:
            if (self.step, call) == ("sleep", "manifests.read"):
                self.step = "die"
                world.publish_scores(run)
                world.end_databricks_run(run.id, "TERMINATED", "SUCCESS", "SUCCESS")
                with pytest.raises(ProcessDiedError):
                    reconcile(world.make_plane())
            elif (self.step, call) == ("die", "tables.arrivals.replace"):
                self.step = ""
                raise ProcessDiedError(call)

    repaired = Repaired()
    world = World(faults=repaired)
    run = submitted(world)
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "CLUSTER_ERROR")

    repaired.step = "sleep"
    reconcile(world.plane)
    world.settle()

    ended = only_run(world)
    assert (ended.attempt, ended.outcome) == (1, Outcome.COMPLETED)
    assert world.arrival(make_blob()).state is ArrivalState.SCORED
