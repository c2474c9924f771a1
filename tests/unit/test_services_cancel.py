"""Tests that a run ends when a person wants it to, wherever it stands, and once (R08)."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from functions.core.access import Actor
from functions.core.databricks_states import status_of
from functions.core.errors import AccessRefusedError, IllegalTransitionError, ThrottledError, WorkspaceUnavailableError
from functions.core.ledger import Run
from functions.core.model import ArrivalState, Outcome, RunState
from functions.core.run_transitions import begin_next_attempt, want_cancel
from functions.services.cancel import cancel_run
from functions.services.complete import complete
from functions.services.dispatch import dispatch
from functions.services.pausing import pause_pipeline
from functions.services.reconcile import reconcile
from functions.services.repair import repair_run
from functions.services.retry import retry_run
from functions.services.submission import advance_run
from tests.support.control_plane import SCORING, World, make_blob, make_pipelines
from tests.support.fault_walk import ProcessDiedError
from tests.support.in_memory import Faults
from tests.support.one_run import only_run

ANN = Actor(name="ann@contoso.com")


def submitted(world: World) -> Run:
    world.deliver(make_blob())
    return only_run(world)


def decided(world: World) -> Run:
    """Return a run whose second attempt is decided and not sent."""
    run = submitted(world)
    world.end_databricks_run(world.databricks_runs()[0].id, "INTERNAL_ERROR", "FAILED", "CLOUD_FAILURE")
    world.clock.advance(timedelta(minutes=1))
    reconcile(world.plane)
    assert only_run(world).state is RunState.DECIDED
    return run


def test_a_submitted_run_is_cancelled_at_databricks_and_announced_once() -> None:
    world = World()
    run = submitted(world)

    acted = cancel_run(world.plane, run.id, ANN)
    world.settle()

    ended = only_run(world)
    assert (ended.state, ended.outcome, ended.attempt) == (RunState.ENDED, Outcome.CANCELLED, 1)
    assert [event.id for event in world.publisher.published] == [f"{run.id}.1.cancelled"]
    assert world.arrival(make_blob()).state is ArrivalState.FAILED
    assert any("asked for by ann@contoso.com" in change.note for change in ended.history)
    assert acted.did[0] == "noted that it is to be cancelled"


def test_a_run_that_was_not_sent_ends_without_ever_being_sent() -> None:
    world = World()
    run = decided(world)

    acted = cancel_run(world.plane, run.id, ANN)
    world.settle()

    assert (only_run(world).outcome, only_run(world).attempt) == (Outcome.CANCELLED, 2)
    assert len(world.databricks_runs()) == 1
    assert acted.did == ("noted that it is to be cancelled", "ended it as cancelled")


def test_a_run_that_waits_for_its_pipeline_to_resume_ends_while_that_is_paused() -> None:
    """Nobody resumes a pipeline for what is not to run."""
    world = World()
    run = decided(world)
    pause_pipeline(world.plane, SCORING, ANN)

    acted = cancel_run(world.plane, run.id, ANN)

    assert only_run(world).outcome is Outcome.CANCELLED
    assert acted.did == ("noted that it is to be cancelled", "ended it as cancelled")


def test_a_run_whose_token_may_have_been_sent_is_found_by_its_token_and_cancelled() -> None:
    """R22: Databricks may have started it; only the token tells which run it is."""

    class LoseAnswer(Faults):
        is_armed = True

        def after(self, call: str) -> None:
            if call == "workspace.submit" and self.is_armed:
                self.is_armed = False
                raise WorkspaceUnavailableError("submitting", "lost")

    world = World(faults=LoseAnswer())
    run = submitted(world)
    assert run.state is RunState.SUBMITTING

    cancel_run(world.plane, run.id, ANN)
    world.settle()

    (started,) = world.databricks_runs()
    assert started.status.result_state == "CANCELED"
    assert only_run(world).outcome is Outcome.CANCELLED


def test_a_run_without_a_seat_was_never_sent_and_never_is() -> None:
    """Its token is persisted, and no call is made without a seat; a rival on the way to one finds it barred."""

    class DieBeforeItsSeat(Faults):
        is_armed = True

        def after(self, call: str) -> None:
            if call == "tables.runs.insert" and self.is_armed:
                self.is_armed = False
                raise SystemExit(call)

    world = World(faults=DieBeforeItsSeat())
    with pytest.raises(SystemExit):
        world.deliver(make_blob())
    run = only_run(world)
    assert run.state is RunState.SUBMITTING

    rival = world.ledger.get_run(run.id)
    acted = cancel_run(world.plane, run.id, ANN)
    assert rival is not None
    advance_run(world.make_plane(), rival)  # it read the run before the wish was written
    world.settle()

    assert acted.did == ("noted that it is to be cancelled", "ended it as cancelled")
    assert only_run(world).outcome is Outcome.CANCELLED
    assert world.databricks_runs() == []


def test_cancelling_again_changes_nothing_and_says_so() -> None:
    world = World()
    run = submitted(world)
    cancel_run(world.plane, run.id, ANN)
    world.settle()
    ended = only_run(world)

    acted = cancel_run(world.plane, run.id, ANN)

    assert acted.did == ()
    assert acted.did_not == ("cancelled nothing: it has ended already as cancelled",)
    assert only_run(world) == ended
    assert len(world.publisher.published) == 1


def test_the_wish_to_cancel_a_repair_that_waits_to_be_sent_says_so() -> None:
    """Its row has the id of the run that it repairs, which has ended and was not asked to."""

    class TooMany(Faults):
        def before(self, call: str) -> None:
            if call == "workspace.repair":
                raise ThrottledError("repairing", 60.0)

    world = World(faults=TooMany())
    run = submitted(world)
    world.end_databricks_run(world.databricks_runs()[0].id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.settle()
    repair_run(world.plane, run.id, ANN)
    world.work()

    acted = cancel_run(world.plane, run.id, ANN)

    assert only_run(world).state is RunState.SUBMITTING
    assert acted.did == ("noted that it is to be cancelled",)
    assert acted.did_not == ("ended it not yet: Databricks asked for patience",)
    assert world.workspace.calls.counts["workspace.cancel"] == 0


def test_a_wish_that_meets_a_missing_role_is_noted_all_the_same() -> None:
    """It is carried out when the role is there, so the answer must not look as if nothing had been done."""

    class RoleMissing(Faults):
        is_missing = True

        def before(self, call: str) -> None:
            if call == "workspace.cancel" and self.is_missing:
                raise AccessRefusedError("cancelling", "the identity lacks a role")

    role = RoleMissing()
    world = World(faults=role)
    run = submitted(world)

    acted = cancel_run(world.plane, run.id, ANN)
    role.is_missing = False
    world.settle()

    assert acted.did == ("noted that it is to be cancelled",)
    assert "lacks a role" in acted.did_not[0]
    assert only_run(world).outcome is Outcome.CANCELLED


def test_a_late_report_does_not_revive_it() -> None:
    world = World()
    run = submitted(world)
    (started,) = world.databricks_runs()
    cancel_run(world.plane, run.id, ANN)
    world.settle()
    ended = only_run(world)
    world.publish_scores(started)

    said = complete(world.plane, world.completion_of(started, Outcome.COMPLETED).to_json())

    assert said.startswith("ignored")
    assert only_run(world) == ended
    assert world.arrival(make_blob()).state is ArrivalState.FAILED


def test_a_run_that_had_completed_before_databricks_heard_of_it_has_completed() -> None:
    """Its scores are there; to call it cancelled would be a lie about what readers see."""
    world = World()
    run = submitted(world)
    world.finish(world.databricks_runs()[0], reports=False)

    cancel_run(world.plane, run.id, ANN)
    world.settle()

    assert only_run(world).outcome is Outcome.COMPLETED


def test_no_attempt_follows_by_itself_after_one_that_is_to_be_cancelled() -> None:
    world = World()
    run = submitted(world)
    (started,) = world.databricks_runs()
    started.status = status_of("TERMINATING")
    cancel_run(world.plane, run.id, ANN)
    world.end_databricks_run(started.id, "INTERNAL_ERROR", "FAILED", "CLOUD_FAILURE")

    world.settle()

    assert (only_run(world).outcome, only_run(world).attempt) == (Outcome.CANCELLED, 1)


def test_a_cancelled_run_can_be_retried_by_a_person() -> None:
    world = World()
    run = submitted(world)
    cancel_run(world.plane, run.id, ANN)
    too_early = retry_run(world.plane, run.id, ANN)
    world.settle()

    acted = retry_run(world.plane, run.id, ANN)
    world.work()

    assert (only_run(world).state, only_run(world).attempt) == (RunState.SUBMITTED, 2)
    assert not only_run(world).is_cancel_wanted
    assert acted.did == ("began attempt 2",)
    assert too_early.did_not[0].endswith("it is submitted, and is being cancelled: ask again when it has ended")


def test_the_reconciler_cancels_what_a_dying_process_only_noted() -> None:
    """Databricks lists the run as active, and still it is looked at."""
    world = World()
    run = submitted(world)
    entry = world.ledger.get_run(run.id)
    assert entry is not None
    world.ledger.update_run(entry, want_cancel(entry.value, world.clock.now(), by="ann"))  # and then it died

    world.clock.advance(timedelta(minutes=1))
    reconcile(world.plane)
    reconcile(world.plane)

    assert only_run(world).outcome is Outcome.CANCELLED


def test_a_rival_that_is_about_to_send_it_sees_the_wish() -> None:
    """The dispatcher has read the run; the wish arrives before its token is persisted."""
    world = World(pipelines=make_pipelines())
    run = decided(world)

    class CancelMeanwhile(Faults):
        is_armed = True

        def before(self, call: str) -> None:
            if call == "tables.runs.replace" and self.is_armed:
                self.is_armed = False
                cancel_run(world.plane, run.id, ANN)

    world.tables.calls.faults = CancelMeanwhile()
    item = next(item for _, item in world.queue.messages if item.run_id == run.id)
    dispatch(world.plane, item.to_json())
    world.settle()

    assert only_run(world).outcome is Outcome.CANCELLED
    assert len(world.databricks_runs()) == 1


@pytest.mark.parametrize("state", ["decided", "submitting"])
def test_the_core_refuses_to_send_or_repeat_what_is_to_be_cancelled(state: str) -> None:
    world = World()
    make: Callable[[World], Run] = decided if state == "decided" else submitted
    make(world)
    wanted = want_cancel(only_run(world), world.clock.now(), by="ann")

    with pytest.raises(IllegalTransitionError):
        begin_next_attempt(wanted, world.clock.now(), after=wanted.attempt, reason="by itself")


def test_a_wish_that_dies_while_the_submission_is_noted_is_seen_to_all_the_same() -> None:
    """The index row that lets the reconciler pass over what Databricks lists as active comes last, and too late."""

    class WishBeforeTheHint(Faults):
        is_armed = True

        def before(self, call: str) -> None:
            if self.is_armed and call in {"tables.open.put", "tables.open.replace"}:
                self.is_armed = False
                with pytest.raises(ProcessDiedError):
                    cancel_run(world.make_plane(), world.runs()[0].id, ANN)

        def after(self, call: str) -> None:
            if not self.is_armed and call == "tables.runs.replace" and world.runs()[0].is_cancel_wanted:
                world.tables.calls.faults = Faults()
                raise ProcessDiedError(call)

    world = World()
    world.tables.calls.faults = WishBeforeTheHint()
    world.deliver(make_blob())
    assert (only_run(world).state, only_run(world).is_cancel_wanted) == (RunState.SUBMITTED, True)

    world.settle()

    assert only_run(world).outcome is Outcome.CANCELLED


@pytest.mark.parametrize("life_cycle", ["TERMINATED", "INTERNAL_ERROR"])
def test_a_run_that_databricks_means_to_repeat_by_itself_can_be_cancelled(life_cycle: str) -> None:
    """It refuses to cancel what is terminated, and may never repeat it: the run was open for ever."""
    world = World()
    world.deliver(make_blob())
    (run,) = world.databricks_runs()
    world.end_databricks_run(run.id, life_cycle, "FAILED", "BREAKING_CHANGE")
    world.clock.advance(timedelta(minutes=1))
    reconcile(world.plane)
    state = world.runs()[0].state

    cancel_run(world.plane, world.runs()[0].id, Actor(name="ann@contoso.com"))
    world.settle()

    assert state is RunState.SUBMITTED
    assert world.runs()[0].outcome is Outcome.CANCELLED
    assert "BREAKING_CHANGE" in (world.runs()[0].reason or "")
