"""Tests that a throttled submission is tried again when Databricks asked for it, neither earlier nor much later."""

from datetime import timedelta

from functions.core.errors import ThrottledError
from functions.core.model import RunState
from functions.services.reconcile import reconcile
from tests.support.control_plane import World, make_blob, make_pipelines
from tests.support.in_flight import in_flight
from tests.support.in_memory import Faults


class OnceThrottled(Faults):
    """Refuses the first submission."""

    has_refused = False

    def before(self, call: str) -> None:
        if call == "workspace.submit" and not self.has_refused:
            self.has_refused = True
            raise ThrottledError("starting a run", 30.0)


def test_the_patience_that_a_wrong_clock_wrote_down_holds_nothing_until_its_time() -> None:
    """The worker that was refused had a clock a year ahead: its attempt, and its seat, must not wait for a year."""
    world = World(faults=OnceThrottled())
    world.clock.advance(timedelta(days=365))
    world.deliver(make_blob())
    world.work()
    world.clock.advance(timedelta(days=-365))
    world.plane = world.make_plane()

    world.settle_submissions()

    assert len(world.databricks_runs()) == 1


class NineInTen(Faults):
    """Refuses nine of ten submissions, asking for another patience each time."""

    def __init__(self) -> None:
        self.calls = 0

    def before(self, call: str) -> None:
        if call != "workspace.submit":
            return
        self.calls += 1
        if self.calls % 10:
            raise ThrottledError("starting a run", float(1 + self.calls * 7 % 50))


def test_a_storm_of_refusals_drains_and_every_patience_is_kept() -> None:
    """R23: no worker sleeps, no call comes before the time that was asked for, and every run starts once."""
    faults = NineInTen()
    world = World(faults=faults, pipelines=make_pipelines(limits="max_in_flight = 50, max_starts_per_second = 5"))
    asked: dict[str, float] = {}
    too_early: list[str] = []
    submit, clock = world.workspace.submit, world.clock

    def watched(job: object, token: str, parameters: object) -> object:
        now = clock.now().timestamp()
        if now < asked.get(token, 0.0):
            too_early.append(token)
        try:
            return submit(job, token, parameters)  # type: ignore[arg-type] # passed on as it came
        except ThrottledError as error:
            asked[token] = now + (error.after_s or 0.0)
            raise

    world.workspace.submit = watched  # type: ignore[assignment,method-assign] # a workspace that is watched
    for index in range(100):
        world.deliver(make_blob(f"{index}.parquet"))
        if index % 10 == 9:
            world.clock.advance(timedelta(seconds=2))
    started = world.clock.now()

    while not world.is_quiet() and world.clock.now() - started < timedelta(hours=3):
        world.work(steps=1000)
        for run in in_flight(world):
            world.finish(run)
        world.clock.advance(timedelta(seconds=1))
        if world.clock.now().second == 0:
            reconcile(world.plane)

    assert world.is_quiet()
    assert too_early == []
    assert {run.state for run in world.runs()} == {RunState.ENDED}
    assert sum(run.arrival_count for run in world.runs()) == 100
    assert len(world.databricks_runs()) == len(world.runs())
    assert world.clock.now() - started < timedelta(hours=2)
