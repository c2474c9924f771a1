"""Has a worker fall asleep at one of its calls while others go on: what it does on waking undoes nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from functions.core.access import Actor
from functions.core.model import ArrivalState, Outcome, RunState
from functions.services.reconcile import reconcile
from functions.services.retry import retry_run
from tests.support.control_plane import World, make_blob
from tests.support.in_memory import Faults


@dataclass
class Sleep(Faults):
    """Lets something happen before the next call of a kind, once it is armed."""

    call: str
    meanwhile: Callable[[], object] | None = field(default=None)

    def before(self, call: str) -> None:
        meanwhile, is_the_call = self.meanwhile, call == self.call
        if meanwhile is not None and is_the_call:
            self.meanwhile = None
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
        retry_run(plane, world.runs()[0].id, Actor(name="someone"))
        world.work()

    sleep.meanwhile = others_go_on
    reconcile(world.plane)
    _, second = world.databricks_runs()
    world.finish(second)
    world.settle()

    (run,) = world.runs()
    assert (run.state, run.outcome, run.attempt) == (RunState.ENDED, Outcome.COMPLETED, 2)
    assert world.arrival(make_blob()).state is ArrivalState.SCORED
