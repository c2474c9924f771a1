"""Walks a fault over every effect of each concurrency policy: what it promises holds, and no seat is left behind."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from functions.core.access import Actor
from functions.core.model import ArrivalState, Outcome
from functions.core.reasons import SkipReason
from functions.services.reconcile import reconcile
from functions.services.requests import request_run
from tests.support.control_plane import World, make_blob, make_pipelines
from tests.support.fault_walk import CrashAt, FailAt, settle, survive, walk_faults, work
from tests.support.in_flight import in_flight
from tests.support.training import TRAIN, with_training_data

ANN = Actor(name="ann")


def deliver(world: World, name: str) -> None:
    survive(world, lambda: world.deliver(make_blob(f"{name}.parquet")))


def go_on(world: World, *, rounds: int, finishes: bool) -> None:
    """Let time pass; `finishes`: every notebook publishes its scores and ends."""
    for _ in range(rounds):
        work(world)
        survive(world, lambda: reconcile(world.plane))
        assert len(in_flight(world)) <= 1
        for run in in_flight(world) if finishes else ():
            if run.parameters["kind"] == "scoring":
                world.publish_scores(run)
            world.finish(run, reports=False)
        world.clock.advance(timedelta(seconds=40))


def a_queue_through_one_seat(world: World) -> object:
    """Two files and a request of another pipeline, one seat for all: each goes, one after the other."""
    with_training_data(world)
    deliver(world, "a")
    survive(world, lambda: request_run(world.plane, TRAIN, idempotency_key="r", actor=ANN))
    deliver(world, "b")
    go_on(world, rounds=8, finishes=True)
    settle(world)
    states = [world.arrival(make_blob(f"{name}.parquet")).state for name in "ab"]
    return states, {run.outcome for run in world.runs()}, len(world.databricks_runs()), world.turnstile().seats


def a_newer_file_supersedes(world: World) -> object:
    """One run completes, never two at once; a file of another one says why it is not scored.

    A fault may bring both files into one run, or have the older one come last: that is for the queue to decide.
    """
    deliver(world, "old")
    deliver(world, "new")
    go_on(world, rounds=6, finishes=False)
    go_on(world, rounds=3, finishes=True)
    settle(world)
    arrivals = [world.arrival(make_blob(f"{name}.parquet")) for name in ("old", "new")]
    completed = [run.id for run in world.runs() if run.outcome is Outcome.COMPLETED]
    is_told = all(
        arrival.run_id in completed if arrival.state is ArrivalState.SCORED else bool(arrival.reason)
        for arrival in arrivals
    )
    return (
        is_told,
        {arrival.state for arrival in arrivals} >= {ArrivalState.SCORED},
        len(completed),
        world.turnstile().seats,
    )


def a_file_is_dropped(world: World) -> object:
    """The first file's run completes; the second one says that it was dropped."""
    deliver(world, "first")
    go_on(world, rounds=3, finishes=False)
    deliver(world, "second")
    go_on(world, rounds=3, finishes=True)
    settle(world)
    first, second = (world.arrival(make_blob(f"{name}.parquet")) for name in ("first", "second"))
    is_said = SkipReason.DROPPED_WHILE_ACTIVE.sentence in (second.reason or "")
    return first.state, second.state, is_said, len(world.databricks_runs()), world.turnstile().seats


STORIES: list[tuple[Callable[[World], object], str, object]] = [
    (a_queue_through_one_seat, "queue", ([ArrivalState.SCORED] * 2, {Outcome.COMPLETED}, 3, ())),
    (a_newer_file_supersedes, "supersede", (True, True, 1, ())),
    (a_file_is_dropped, "drop", (ArrivalState.SCORED, ArrivalState.IGNORED, True, 1, ())),
]


@pytest.mark.parametrize("fault", [CrashAt, FailAt], ids=["process dies", "call fails"])
@pytest.mark.parametrize(("story", "policy", "promised"), STORIES, ids=[story.__name__ for story, _, _ in STORIES])
def test_a_policy_keeps_its_promise_whatever_breaks(
    story: Callable[[World], object], policy: str, promised: object, fault: type[CrashAt] | type[FailAt]
) -> None:
    """R26, I6."""
    pipelines = make_pipelines(policy=policy, limits="max_in_flight = 1, max_starts_per_second = 20")

    undisturbed, points = walk_faults(story, lambda faults: World(pipelines=pipelines, faults=faults), fault)

    assert undisturbed == promised
    assert points >= (15 if fault is CrashAt else 40)
