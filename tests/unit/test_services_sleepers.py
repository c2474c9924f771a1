"""Has a worker fall asleep at one of its calls while others go on: what it does on waking undoes nothing."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from functions.core.access import Actor
from functions.core.model import ArrivalState, Outcome, RunState
from functions.services.cancel import cancel_run
from functions.services.dispatch import dispatch
from functions.services.reconcile import reconcile
from functions.services.replay import replay
from functions.services.requests import request_run
from functions.services.retry import retry_run
from tests.support.control_plane import World, make_blob
from tests.support.fault_walk import ProcessDiedError
from tests.support.in_memory import Faults

SOMEONE = Actor(name="someone")


@dataclass
class Sleep(Faults):
    """Lets something happen before the next call of a kind, once it is armed."""

    call: str
    meanwhile: Callable[[], object] | None = field(default=None)
    has_slept: bool = False

    def before(self, call: str) -> None:
        meanwhile, is_the_call = self.meanwhile, call == self.call
        if meanwhile is not None and is_the_call:
            self.meanwhile, self.has_slept = None, True
            meanwhile()


@pytest.mark.parametrize("call", ["manifests.read", "runs.get", "arrivals.get", "arrivals.replace"])
def test_a_worker_that_slept_since_an_earlier_attempt_does_not_fail_the_files_of_the_next(call: str) -> None:
    """Found by the simulation: it marked files as failed that the next attempt was scoring, and so they stayed."""
    sleep = Sleep(call=call if call.startswith("manifests") else f"tables.{call}")
    world = World(faults=sleep)
    world.deliver(make_blob())
    world.work()
    (first,) = world.databricks_runs()
    world.end_databricks_run(first.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")

    def others_go_on() -> None:
        plane = world.make_plane()
        reconcile(plane)
        retry_run(plane, world.runs()[0].id, SOMEONE)
        world.work()

    sleep.meanwhile = others_go_on
    reconcile(world.plane)
    _, second = world.databricks_runs()
    world.finish(second)
    world.settle()

    (run,) = world.runs()
    assert (run.state, run.outcome, run.attempt) == (RunState.ENDED, Outcome.COMPLETED, 2)
    assert world.arrival(make_blob()).state is ArrivalState.SCORED


def retried_world(sleep: Sleep) -> World:
    """Return a world whose run has failed and is decided again, with its work item in the queue."""
    world = World(faults=sleep)
    world.deliver(make_blob())
    world.work()
    (first,) = world.databricks_runs()
    world.end_databricks_run(first.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    reconcile(world.plane)
    retry_run(world.plane, world.runs()[0].id, SOMEONE)
    return world


@pytest.mark.parametrize("call", ["manifests.read", "tables.arrivals.get", "tables.arrivals.replace"])
def test_a_worker_that_slept_since_its_attempt_was_cancelled_keeps_no_files(call: str) -> None:
    """Found by the simulation: it took the files back for an attempt that was over, and nobody came back for them."""
    sleep = Sleep(call=call)
    world = retried_world(sleep)
    sleep.meanwhile = lambda: cancel_run(world.make_plane(), world.runs()[0].id, SOMEONE)

    world.settle()

    (run,) = world.runs()
    assert sleep.has_slept
    assert (run.state, run.outcome, run.attempt) == (RunState.ENDED, Outcome.CANCELLED, 2)
    assert world.arrival(make_blob()).state is ArrivalState.FAILED


def test_a_worker_that_dies_after_such_a_sleep_is_made_up_for_by_the_redelivery() -> None:
    class ProcessDiedError(BaseException):
        pass

    class Dying(Sleep):
        is_woken = False

        def after(self, call: str) -> None:
            if call == self.call and self.is_woken:
                self.is_woken = False
                raise ProcessDiedError

    sleep = Dying(call="tables.arrivals.replace")
    world = retried_world(sleep)

    def someone_cancels() -> None:
        cancel_run(world.make_plane(), world.runs()[0].id, SOMEONE)
        sleep.is_woken = True

    sleep.meanwhile = someone_cancels
    item = world.queue.take()
    assert item is not None

    with pytest.raises(ProcessDiedError):
        dispatch(world.plane, item.to_json())
    assert world.arrival(make_blob()).state is ArrivalState.ASSIGNED
    dispatch(world.make_plane(), item.to_json())

    assert world.arrival(make_blob()).state is ArrivalState.FAILED


def test_a_replayed_file_is_not_forgotten_by_whoever_looked_before_it_was_held() -> None:
    """Found by the simulation: the index row came first, was taken for a stale one, and the file was held for ever."""
    sleep = Sleep(call="tables.arrivals.replace")
    world = World(faults=sleep)
    world.deliver(make_blob())
    world.work()
    world.finish(world.databricks_runs()[0], outcome=Outcome.FAILED)
    world.settle()
    asked = json.dumps({"arrival": world.arrival(make_blob()).id}).encode()
    sleep.meanwhile = lambda: reconcile(world.make_plane())

    replay(world.plane, asked, idempotency_key=None, actor=SOMEONE)
    world.settle_submissions()
    world.finish(world.databricks_runs()[-1])
    world.settle()

    assert sleep.has_slept
    assert world.arrival(make_blob()).state is ArrivalState.SCORED


def test_a_run_that_is_written_late_stays_in_the_index_while_the_reconciler_tidies_up() -> None:
    """A writer died after the index row, a day ago. Whoever makes the run now must not lose that row to the tidying.

    Nobody would look after the run: if its notebook could not report, it would keep its seat for ever.
    """
    sleep = Sleep(call="tables.runs.insert")
    world = World(faults=sleep)
    world.inputs.put(make_blob())

    def ask() -> None:
        request_run(world.plane, b'{"pipeline": "flight_delay_scoring"}', idempotency_key="k")

    def die() -> None:
        raise ProcessDiedError

    sleep.meanwhile = die
    with pytest.raises(ProcessDiedError):
        ask()
    world.clock.advance(timedelta(days=1, minutes=1))
    sleep.meanwhile = lambda: reconcile(world.make_plane())

    ask()
    world.settle_submissions()
    (run,) = world.databricks_runs()
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.settle()

    assert sleep.has_slept
    assert [run.outcome for run in world.runs()] == [Outcome.FAILED]
    assert world.turnstile().seats == ()
