"""Walks crashes and lost answers over every kind of end: each is announced once in effect, by whoever is left."""

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import pytest

from functions.core.databricks_states import status_of
from functions.core.model import ArrivalState, Outcome, RunKind, RunState
from functions.services.complete import complete
from functions.services.reconcile import reconcile
from functions.services.schedule import fire_schedule
from tests.support.control_plane import TRAINING, World, make_blob
from tests.support.fault_walk import CrashAt, FailAt, settle, survive, walk_faults, work
from tests.support.in_memory import DatabricksRun


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What Databricks says of each attempt, what its notebook said before, and what must follow."""

    states: tuple[str, str, str]
    outcome: Outcome
    reports: Outcome | None = None  # what the notebook announces before it ends
    goes_again: bool = False  # until the pipeline's attempts are used up
    alerts: tuple[str, ...] = ()


ENDINGS = {
    "completed and reported": Ending(
        states=("TERMINATED", "SUCCESS", "SUCCESS"), outcome=Outcome.COMPLETED, reports=Outcome.COMPLETED
    ),
    "completed in silence": Ending(states=("TERMINATED", "SUCCESS", "SUCCESS"), outcome=Outcome.COMPLETED),
    "degraded in silence": Ending(states=("TERMINATED", "SUCCESS_WITH_FAILURES", ""), outcome=Outcome.COMPLETED),
    "failed and reported": Ending(
        states=("TERMINATED", "FAILED", "RUN_EXECUTION_ERROR"), outcome=Outcome.FAILED, reports=Outcome.FAILED
    ),
    "a notebook that never started": Ending(
        states=("TERMINATED", "FAILED", "LIBRARY_INSTALLATION_ERROR"), outcome=Outcome.FAILED
    ),
    "a cluster that died each time": Ending(
        states=("INTERNAL_ERROR", "FAILED", "CLUSTER_ERROR"), outcome=Outcome.FAILED, goes_again=True
    ),
    "cancelled by hand": Ending(states=("TERMINATED", "CANCELED", "USER_CANCELED"), outcome=Outcome.CANCELLED),
    "cancelled by hand after a report of failure": Ending(
        states=("TERMINATED", "CANCELED", "USER_CANCELED"), outcome=Outcome.CANCELLED, reports=Outcome.FAILED
    ),
    "timed out": Ending(states=("TERMINATED", "TIMEDOUT", "CANCELED"), outcome=Outcome.TIMED_OUT),
    "skipped each time": Ending(
        states=("SKIPPED", "", "MAX_CONCURRENT_RUNS_EXCEEDED"), outcome=Outcome.SKIPPED, goes_again=True
    ),
    "switched off": Ending(states=("TERMINATED", "EXCLUDED", "DISABLED"), outcome=Outcome.SKIPPED),
    "a state that nobody knows": Ending(
        states=("TERMINATED", "ASCENDED", ""), outcome=Outcome.FAILED, alerts=("unknown_databricks_state",)
    ),
}


@dataclass(frozen=True)
class Told:
    """What is left when the story is over."""

    events: tuple[str, ...]  # ours and the notebooks', each id once
    runs: tuple[tuple[RunState, Outcome | None, int], ...]
    arrivals: tuple[ArrivalState, ...]
    attempts: tuple[str, ...]
    alerts: tuple[str, ...]
    leftovers: int


def tell(world: World, ending: Ending, kind: RunKind) -> Told:
    """Ask for one run, have each of its attempts end in this way, and let time pass until nothing is left to do."""
    reported: set[str] = set()
    if kind is RunKind.SCORING:
        survive(world, lambda: world.deliver(make_blob()))
    else:
        world.inputs.put(replace(make_blob(), path="flights/history/a.parquet"))
        survive(world, lambda: fire_schedule(world.plane, TRAINING, "monthly"))
    for _ in range(8):
        work(world)
        survive(world, lambda: reconcile(world.plane))
        for run in world.databricks_runs():
            if run.status.verdict.is_open:
                end(world, run, ending, reported)
        world.clock.advance(timedelta(seconds=20))
    settle(world)
    rows = world.tables.rows
    return Told(
        events=tuple(sorted({event.id for event in world.publisher.published} | reported)),
        runs=tuple((run.state, run.outcome, run.attempt) for run in world.runs()),
        arrivals=tuple(sorted(ArrivalState(str(values["state"])) for values, _ in rows["arrivals"].values())),
        attempts=tuple(sorted(run.parameters["attempt"] for run in world.databricks_runs())),
        alerts=tuple(sorted({str(values["kind"]) for (of, _), (values, _) in rows["marks"].items() if of == "alert"})),
        leftovers=len(rows["open"]) + len(rows["pending"]),
    )


def end(world: World, run: DatabricksRun, ending: Ending, reported: set[str]) -> None:
    """Have a Databricks run end as told, its notebook's report before it if there is one."""
    if ending.outcome is Outcome.COMPLETED and run.parameters["kind"] == "scoring":
        world.publish_scores(run)
    if ending.reports is not None:
        event = world.completion_of(run, ending.reports)
        reported.add(event.id)
        text = event.to_json()
        survive(world, lambda: complete(world.plane, text))
    run.status = status_of(*ending.states)


@pytest.mark.parametrize("fault", [CrashAt, FailAt], ids=["process dies", "call fails"])
@pytest.mark.parametrize("kind", RunKind)
@pytest.mark.parametrize("name", ENDINGS)
def test_every_end_is_announced_once_in_effect(name: str, kind: RunKind, fault: type[CrashAt] | type[FailAt]) -> None:
    """R53, R54, R55, R24: whoever dies and whatever answer is lost, subscribers are told the same, once an id."""
    ending = ENDINGS[name]

    told, points = walk_faults(partial(tell, ending=ending, kind=kind), lambda faults: World(faults=faults), fault)

    attempts = {RunKind.SCORING: 3, RunKind.TRAINING: 2}[kind] if ending.goes_again else 1
    assert points >= 8
    assert told.runs == ((RunState.ENDED, ending.outcome, attempts),)
    wanted = {ending.outcome} | ({ending.reports} if ending.reports is not None else set())
    assert [event.rsplit(".", 2)[1:] for event in told.events] == sorted([str(attempts), one.value] for one in wanted)
    is_scored = ending.outcome is Outcome.COMPLETED
    assert set(told.arrivals) <= {ArrivalState.SCORED if is_scored else ArrivalState.FAILED}
    assert told.alerts == ending.alerts
    assert told.leftovers == 0
