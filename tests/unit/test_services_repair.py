"""Tests that a repair does the failed tasks again: same run, same files, an attempt of its own (R27)."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from functions.core.access import Actor
from functions.core.errors import (
    IllegalTransitionError,
    PublicationError,
    QueueUnavailableError,
    WorkspaceUnavailableError,
)
from functions.core.ledger import Run
from functions.core.model import ArrivalState, Outcome, RunId, RunState
from functions.services.acted import Acted
from functions.services.arrive import arrive
from functions.services.changes import read_run
from functions.services.closing import close_pipeline_batch
from functions.services.plane import ControlPlane
from functions.services.reconcile import reconcile
from functions.services.repair import repair_run
from functions.services.replay import replay
from functions.services.retry import retry_run
from functions.services.submission import advance_run
from tests.support.control_plane import SCORING, World, blob_message, make_blob, make_pipelines
from tests.support.fault_walk import LookBetween
from tests.support.in_memory import DatabricksRun, Faults
from tests.support.one_run import only_run

ANN = Actor(name="ann@contoso.com")


def failed(world: World) -> tuple[Run, DatabricksRun]:
    world.deliver(make_blob())
    (started,) = world.databricks_runs()
    world.finish(started, outcome=Outcome.FAILED)
    world.settle()
    return only_run(world), started


def test_a_repaired_run_completes_under_its_next_attempt_with_the_same_lineage() -> None:
    """R27: the failed tasks run again, with the parameters that were stored."""
    world = World()
    run, started = failed(world)
    first_parameters = dict(started.parameters)

    acted = repair_run(world.plane, run.id, ANN)
    world.work()
    repairing = only_run(world)
    world.finish(started)
    world.settle()

    ended = only_run(world)
    assert acted.did == (f"began attempt 2, a repair of Databricks run {started.id}",)
    assert (repairing.state, repairing.attempt, repairing.databricks_run_id) == (RunState.SUBMITTED, 2, started.id)
    assert (ended.outcome, ended.attempt, ended.databricks_run_id) == (Outcome.COMPLETED, 2, started.id)
    assert [attempt.databricks_run_id for attempt in ended.attempts] == [started.id]
    changed = {name for name in first_parameters if first_parameters[name] != started.parameters[name]}
    assert changed == {"attempt", "token"}
    assert len(world.databricks_runs()) == 1
    assert world.arrival(make_blob()).state is ArrivalState.SCORED
    assert any("asked for by ann@contoso.com" in change.note for change in ended.history)


@pytest.mark.parametrize("sleep", [timedelta(0), timedelta(minutes=12)])
def test_a_reconciler_between_the_writes_of_a_repair_does_not_lose_it(sleep: timedelta) -> None:
    """It finds the index row of the next attempt beside a run that is still over; then the repair's message is lost."""
    faults = LookBetween()
    world = World(faults=faults)
    run, _ = failed(world)

    faults.arm(world, sleep=sleep)
    with pytest.raises(QueueUnavailableError):
        repair_run(world.plane, run.id, ANN)
    world.clock.advance(timedelta(minutes=1))
    reconcile(world.make_plane())

    assert (only_run(world).attempt, only_run(world).state) == (2, RunState.SUBMITTED)


def test_a_worker_that_found_a_file_gone_does_not_end_what_a_rival_has_sent_since() -> None:
    """I2: the file is this run's again by then, and Databricks has the attempt."""

    class RivalAt(Faults):
        reads_left = -1

        def before(self, call: str) -> None:
            if call == "manifests.read":
                self.reads_left -= 1
                if self.reads_left == 0:
                    close_pipeline_batch(world.make_plane(), SCORING)

    faults = RivalAt()
    world = World(faults=faults)
    run, _ = failed(world)
    entry = world.ledger.get_arrival(make_blob())
    assert entry is not None
    replay(world.plane, f'{{"arrival": "{entry.value.id}"}}'.encode(), idempotency_key="again", actor=ANN)
    repair_run(world.plane, run.id, ANN)
    world.clock.advance(timedelta(minutes=1))

    faults.reads_left = 2  # the first one is to take the file back, the second one to say that it is gone
    advance_run(world.plane, read_run(world.ledger, run.id))

    assert (only_run(world).attempt, only_run(world).state) == (2, RunState.SUBMITTED)


@pytest.mark.parametrize("act", [retry_run, repair_run])
def test_who_publishes_an_end_begins_no_attempt_beside_the_one_that_a_rival_began_meanwhile(
    act: Callable[[ControlPlane, RunId, Actor], Acted],
) -> None:
    """I2: the topic was down when the run ended, so each of two people who ask has its event to publish first."""

    class TopicDown(Faults):
        is_down = True

        def before(self, call: str) -> None:
            if call == "publisher.publish" and self.is_down:
                raise PublicationError("publishing", "ServiceUnavailable")

    topic = TopicDown()
    world = World(faults=topic)
    world.deliver(make_blob())
    (started,) = world.databricks_runs()
    world.end_databricks_run(started.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    reconcile(world.plane)
    topic.is_down = False

    def rival(_: object) -> None:
        world.publisher.on_publish = lambda _: None
        world.plane = world.make_plane()
        retry_run(world.plane, only_run(world).id, Actor(name="bob@contoso.com"))
        world.work()

    world.publisher.on_publish = rival
    acted = act(world.make_plane(), only_run(world).id, ANN)
    world.settle_submissions()

    assert (only_run(world).attempt, only_run(world).state) == (2, RunState.SUBMITTED)
    assert len(world.databricks_runs()) == 2
    assert acted.did == ()
    assert "attempt 2 was begun meanwhile" in acted.did_not[0]


def test_a_repair_that_fails_again_is_announced_by_itself() -> None:
    world = World()
    run, started = failed(world)
    repair_run(world.plane, run.id, ANN)
    world.work()
    world.end_databricks_run(started.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.settle()

    assert [event.id for event in world.publisher.published] == [f"{run.id}.2.failed"]


def test_a_second_repair_follows_the_first() -> None:
    world = World()
    run, started = failed(world)
    for _ in range(2):
        repair_run(world.plane, run.id, ANN)
        world.work()
        world.end_databricks_run(started.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
        world.settle()

    assert only_run(world).attempt == 3
    assert len(started.repairs) == 2


def test_asking_again_while_it_is_repaired_repairs_once() -> None:
    world = World()
    run, started = failed(world)
    repair_run(world.plane, run.id, ANN)
    world.work()

    acted = repair_run(world.plane, run.id, ANN)
    world.work()

    assert acted.did_not == ("began no repair: attempt 2 is one, and open",)
    assert len(started.repairs) == 1


@pytest.mark.parametrize("is_before", [True, False])
def test_a_lost_call_or_answer_leaves_one_repair(*, is_before: bool) -> None:
    """The API has no token for repairs: the repair that was the latest before tells whether ours was made."""

    class Lose(Faults):
        is_armed = True

        def before(self, call: str) -> None:
            self._lose(call, is_now=is_before)

        def after(self, call: str) -> None:
            self._lose(call, is_now=not is_before)

        def _lose(self, call: str, *, is_now: bool) -> None:
            if call == "workspace.repair" and is_now and self.is_armed:
                self.is_armed = False
                raise WorkspaceUnavailableError("repairing", "lost")

    world = World(faults=Lose())
    run, started = failed(world)

    repair_run(world.plane, run.id, ANN)
    world.settle_submissions()

    assert only_run(world).state is RunState.SUBMITTED
    assert len(started.repairs) == 1


def test_what_completed_or_runs_is_not_repaired() -> None:
    world = World()
    world.deliver(make_blob())
    run = only_run(world)

    with pytest.raises(IllegalTransitionError, match=r"RepairWhatRan.* wait until it has ended, or cancel it"):
        repair_run(world.plane, run.id, ANN)
    world.finish(world.databricks_runs()[0])
    world.settle()
    with pytest.raises(IllegalTransitionError, match="RejectRetryOfSuccess"):
        repair_run(world.plane, run.id, ANN)


def test_a_run_that_databricks_has_forgotten_is_to_be_retried_instead() -> None:
    """Databricks keeps runs for 60 days, the ledger longer."""
    world = World()
    run, _ = failed(world)
    world.workspace.runs.clear()

    with pytest.raises(IllegalTransitionError, match="retry it instead"):
        repair_run(world.plane, run.id, ANN)

    assert only_run(world) == run


def test_newer_work_does_not_end_a_repair_that_is_being_sent_by_the_end_of_what_it_repairs() -> None:
    """I2: Databricks has the old end until the repair has begun; then it would run without us."""

    class NewWorkBeforeTheRepair(Faults):
        is_armed = True

        def before(self, call: str) -> None:
            if self.is_armed and call == "workspace.repair":
                self.is_armed = False
                world.clock.advance(timedelta(seconds=1))
                arrive(world.make_plane(), blob_message(make_blob("newer.parquet"), at=world.clock.now()))

    world = World(pipelines=make_pipelines(policy="supersede"), faults=NewWorkBeforeTheRepair())
    run, started = failed(world)

    repair_run(world.plane, run.id, ANN)
    world.work()
    repairing = read_run(world.ledger, run.id).value
    world.settle_submissions()

    assert (repairing.state, started.repairs) == (RunState.SUBMITTED, [1002])
    ended = read_run(world.ledger, run.id).value
    assert (ended.attempt, ended.outcome) == (2, Outcome.CANCELLED)
    assert not started.status.verdict.is_open
