"""Kills the process around every single effect and delivers again: the result is that of the run without a crash."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from functions.core.access import Actor
from functions.core.model import ArrivalState, Outcome, RunState
from functions.core.work import WorkItem
from functions.services.cancel import cancel_run
from functions.services.complete import complete
from functions.services.dispatch import dispatch
from functions.services.reconcile import reconcile
from functions.services.repair import repair_run
from functions.services.requests import request_run
from functions.services.retry import retry_run
from functions.services.schedule import fire_schedule
from tests.support.control_plane import SCORING, TRAINING, World, make_blob, make_pipelines
from tests.support.fault_walk import CrashAt, FailAt, settle, survive, walk_faults, work
from tests.support.in_memory import Faults

OPERATOR = Actor(name="ann@contoso.com")


@dataclass(frozen=True)
class Result:
    """What is left of a story, whatever happened on the way."""

    runs: tuple[tuple[str, RunState, Outcome | None, int, int], ...]
    arrivals: tuple[tuple[str, ArrivalState], ...]
    started: tuple[tuple[str, str], ...]  # run and attempt of each Databricks run
    announced: tuple[str, ...]  # by either side, without repeats
    leftovers: int = field(default=0)


def result_of(world: World, reported: list[str]) -> Result:
    arrivals = [
        (str(values["path"]), ArrivalState(str(values["state"])))
        for values, _ in world.tables.rows["arrivals"].values()
    ]
    return Result(
        runs=tuple((run.id, run.state, run.outcome, run.attempt, run.arrival_count) for run in world.runs()),
        arrivals=tuple(sorted(arrivals)),
        started=tuple(sorted((run.parameters["run_id"], run.parameters["attempt"]) for run in world.databricks_runs())),
        announced=tuple(sorted({*(event.id for event in world.publisher.published), *reported})),
        leftovers=len(world.tables.rows["pending"]) + len(world.tables.rows["open"]),
    )


def report_all(world: World, outcome: Outcome, reported: list[str]) -> None:
    """Have every active notebook publish its scores, report and end."""
    for run in world.databricks_runs():
        if not run.status.verdict.is_open:
            continue
        if outcome is Outcome.COMPLETED and run.parameters["kind"] == "scoring":
            world.publish_scores(run)
        event = world.completion_of(run, outcome)
        reported.append(event.id)
        text = event.to_json()
        survive(world, lambda text=text: complete(world.plane, text))  # type: ignore[misc] # bound now
        world.finish(run, outcome=outcome, reports=False)


def one_file_completes(world: World) -> Result:
    reported: list[str] = []
    survive(world, lambda: world.deliver(make_blob()))
    work(world)
    world.clock.advance(timedelta(seconds=70))
    survive(world, lambda: reconcile(world.plane))
    report_all(world, Outcome.COMPLETED, reported)
    settle(world)
    return result_of(world, reported)


def one_file_fails_silently_and_is_retried(world: World) -> Result:
    survive(world, lambda: world.deliver(make_blob()))
    survive(world, lambda: reconcile(world.plane))
    world.clock.advance(timedelta(seconds=70))
    survive(world, lambda: reconcile(world.plane))
    for run in world.databricks_runs():
        world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    settle(world)
    (run_row,) = world.runs()
    if run_row.attempt == 1:  # a crash after the retry's own write: the person sees the attempt and does not ask again
        survive(world, lambda: retry_run(world.plane, run_row.id, OPERATOR) if world.runs()[0].attempt == 1 else None)
    work(world)
    world.clock.advance(timedelta(seconds=70))
    survive(world, lambda: reconcile(world.plane))
    reported: list[str] = []
    report_all(world, Outcome.COMPLETED, reported)
    settle(world)
    return result_of(world, reported)


def a_window_of_files_completes(world: World) -> Result:
    reported: list[str] = []
    for name in ("a", "b", "c"):
        survive(world, lambda name=name: world.deliver(make_blob(f"{name}.parquet")))  # type: ignore[misc] # bound now
    world.clock.advance(timedelta(seconds=31))
    work(world)
    for _ in range(4):
        world.clock.advance(timedelta(seconds=20))
        work(world)
        survive(world, lambda: reconcile(world.plane))
    report_all(world, Outcome.COMPLETED, reported)
    settle(world)
    return result_of(world, reported)


def a_lost_cluster_goes_again(world: World) -> Result:
    survive(world, lambda: world.deliver(make_blob()))
    world.clock.advance(timedelta(seconds=70))
    survive(world, lambda: reconcile(world.plane))
    for run in world.databricks_runs():
        world.end_databricks_run(run.id, "INTERNAL_ERROR", "FAILED", "CLOUD_FAILURE")
    for _ in range(4):
        survive(world, lambda: reconcile(world.plane))
        world.clock.advance(timedelta(seconds=20))
        work(world)
    reported: list[str] = []
    report_all(world, Outcome.COMPLETED, reported)
    settle(world)
    return result_of(world, reported)


def a_slot_and_a_request_train(world: World) -> Result:
    blob = make_blob()
    world.inputs.put(
        type(blob)(account=blob.account, container="input", path="flights/history/a.parquet", etag="0x5", size_bytes=9)
    )
    survive(world, lambda: fire_schedule(world.plane, TRAINING, "monthly"))
    work(world)
    body = b'{"pipeline": "flight_delay_training", "parameters": {"learning_rate": "0.1"}}'
    survive(world, lambda: request_run(world.plane, body, idempotency_key="key-1"))
    reported: list[str] = []
    for _ in range(6):
        world.clock.advance(timedelta(seconds=20))
        work(world)
        survive(world, lambda: reconcile(world.plane))
        report_all(world, Outcome.COMPLETED, reported)
    settle(world)
    result = result_of(world, reported)
    # The request's own time is the clock's, which a crash moves on: its run differs in name only.
    return Result(
        runs=tuple(
            (state.value[:0], state, outcome, attempt, count) for _, state, outcome, attempt, count in result.runs
        ),
        arrivals=result.arrivals,
        started=tuple(("", attempt) for _, attempt in result.started),
        announced=tuple(event_id.rsplit(".", 2)[1] + event_id.rsplit(".", 2)[2] for event_id in result.announced),
        leftovers=result.leftovers,
    )


def a_run_is_cancelled(world: World) -> Result:
    survive(world, lambda: world.deliver(make_blob()))
    for _ in range(3):
        world.clock.advance(timedelta(seconds=70))
        survive(world, lambda: reconcile(world.plane))
        work(world)
    (run,) = world.runs()
    survive(world, lambda: cancel_run(world.plane, run.id, OPERATOR))
    settle(world)
    return result_of(world, [])


def a_failed_run_is_repaired(world: World) -> Result:
    survive(world, lambda: world.deliver(make_blob()))
    for _ in range(3):
        world.clock.advance(timedelta(seconds=70))
        survive(world, lambda: reconcile(world.plane))
        work(world)
    (started,) = world.databricks_runs()
    world.end_databricks_run(started.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    settle(world)
    (run,) = world.runs()
    if run.attempt == 1:
        survive(world, lambda: repair_run(world.plane, run.id, OPERATOR) if world.runs()[0].attempt == 1 else None)
    for _ in range(3):
        work(world)
        world.clock.advance(timedelta(seconds=70))
        survive(world, lambda: reconcile(world.plane))
    assert len(started.repairs) == 1
    reported: list[str] = []
    report_all(world, Outcome.COMPLETED, reported)
    settle(world)
    return result_of(world, reported)


STORIES = [
    (one_file_completes, make_pipelines()),
    (one_file_fails_silently_and_is_retried, make_pipelines()),
    (a_window_of_files_completes, make_pipelines(quiet=30, max_wait=90)),
    (a_lost_cluster_goes_again, make_pipelines()),
    (a_slot_and_a_request_train, make_pipelines()),
    (a_run_is_cancelled, make_pipelines()),
    (a_failed_run_is_repaired, make_pipelines()),
]


@pytest.mark.parametrize("fault", [CrashAt, FailAt], ids=["process dies", "call fails"])
@pytest.mark.parametrize(("story", "pipelines"), STORIES, ids=[story.__name__ for story, _ in STORIES])
def test_a_fault_anywhere_converges(
    story: Callable[[World], Result], pipelines: object, fault: type[CrashAt] | type[FailAt]
) -> None:
    """R22: a crash or a lost answer around any effect leaves what an undisturbed story leaves."""
    undisturbed, points = walk_faults(
        story,
        lambda faults: World(pipelines=pipelines, faults=faults),  # type: ignore[arg-type] # from the table above
        fault,
    )

    assert points >= (12 if fault is CrashAt else 40)
    assert undisturbed.leftovers == 0
    wanted = Outcome.CANCELLED if story is a_run_is_cancelled else Outcome.COMPLETED
    assert all(run[2] is wanted for run in undisturbed.runs)


def test_the_token_is_in_the_ledger_before_any_call() -> None:
    """R21, I3: whenever a submission is seen by Databricks, the run's row has that very token."""

    class Watch(Faults):
        world: World
        seen = 0

        def before(self, call: str) -> None:
            if call == "workspace.submit":
                (run,) = self.world.runs()
                assert run.token is not None
                assert run.state is RunState.SUBMITTING
                self.seen += 1

    watch = Watch()
    watch.world = World(faults=watch)

    watch.world.deliver(make_blob())

    assert watch.seen == 1


def test_a_work_item_for_a_run_that_is_over_is_harmless() -> None:
    world = World()
    one_file_completes(world)
    (run,) = world.runs()

    item = WorkItem.from_json(
        f'{{"kind": "advance_run", "pipeline": "{SCORING}", "run_id": "{run.id}", "tries": 0, "traceparent": null}}'
    )
    dispatch(world.plane, item.to_json())

    assert world.runs() == [run]
    assert len(world.databricks_runs()) == 1
