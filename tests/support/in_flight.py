"""Watches how many runs are in flight, and lets time pass until all have landed."""

import random
from collections.abc import Callable
from datetime import timedelta

from functions.services.reconcile import reconcile
from tests.support.control_plane import SCORING, World
from tests.support.in_memory import DatabricksRun
from tests.support.interleaving import Interleaving

__all__ = ["check_caps", "finish_all", "in_flight", "of_scoring", "watch"]


def in_flight(world: World) -> list[DatabricksRun]:
    """Return the runs that have not ended at Databricks."""
    return [run for run in list(world.workspace.runs.values()) if run.status.verdict.is_open]


def of_scoring(runs: list[DatabricksRun]) -> int:
    """Return how many of the runs score."""
    return sum(run.parameters["pipeline"] == SCORING for run in runs)


def finish_all(world: World, check: Callable[[World], None], *, rounds: int = 80) -> None:
    """Let time pass, with every notebook finishing, until every story is over."""
    for _ in range(rounds):
        world.work(steps=1000)
        reconcile(world.plane)
        world.work(steps=1000)
        check(world)
        for run in in_flight(world):
            world.finish(run)
        if world.is_quiet():
            return
        world.clock.advance(timedelta(seconds=20))
    raise AssertionError(f"not drained: {[(run.id, run.state) for run in world.runs()]} {world.queue.messages[:3]}")


def watch(order: Interleaving, world: World, seconds: list[int], is_exceeded: Callable[[], bool]) -> list[int]:
    """Have time pass now and then, and look at every single step whether too many runs are in flight; list when."""
    exceeded: list[int] = []

    def turn(chance: random.Random) -> None:
        world.clock.advance(timedelta(seconds=chance.choice(seconds)))
        if is_exceeded():
            exceeded.append(len(in_flight(world)))

    order.on_turn = turn
    return exceeded


def check_caps(world: World) -> None:
    """Check that at most three runs are in flight, at most two of them of scoring."""
    assert len(in_flight(world)) <= 3
    assert of_scoring(in_flight(world)) <= 2
