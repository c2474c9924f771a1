"""Tests that a pipeline's new work supersedes what is active or is dropped while something is, by its policy (R26)."""

from datetime import timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st

from functions.core.access import Actor
from functions.core.errors import LedgerConflictError
from functions.core.ledger import Run
from functions.core.model import ArrivalState, DatabricksRunId, Outcome, RunState
from functions.core.reasons import SkipReason
from functions.services.arrive import arrive
from functions.services.reconcile import reconcile
from functions.services.requests import request_run
from functions.services.retry import retry_run
from tests.support.control_plane import World, blob_message, make_blob, make_pipelines
from tests.support.in_flight import check_caps, finish_all, in_flight, watch
from tests.support.interleaving import Interleaving
from tests.support.one_run import only_run, submitted

OPERATOR = Actor(name="ann@contoso.com")


def test_a_dropping_pipeline_records_what_it_drops() -> None:
    world = World(pipelines=make_pipelines(policy="drop"))
    world.deliver(make_blob("old.parquet"))

    world.deliver(make_blob("new.parquet"))

    arrival = world.arrival(make_blob("new.parquet"))
    assert (arrival.state, len(world.databricks_runs())) == (ArrivalState.IGNORED, 1)
    assert "drops" in (arrival.reason or "")
    assert world.tables.rows["pending"] == {}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), deaths=st.integers(0, 2))
def test_rivals_under_drop_start_one_run_and_record_the_others(seed: int, deaths: int) -> None:
    """R26: of files that arrive at the same moment one is scored; each other one says that it was dropped."""
    order = Interleaving(seed, deaths=deaths)
    world = World(pipelines=make_pipelines(policy="drop"), faults=order)
    names = [f"{index}.parquet" for index in range(4)]

    order.run([lambda name=name: arrive(world.make_plane(), blob_message(make_blob(name))) for name in names])  # type: ignore[misc] # bound now
    for name in names:
        world.deliver(make_blob(name))
    for _ in range(4):
        world.work()
        reconcile(world.plane)
        world.clock.advance(timedelta(seconds=30))

    assert len(world.databricks_runs()) == 1
    dropped = [
        arrival for name in names if (arrival := world.arrival(make_blob(name))).state is not ArrivalState.ASSIGNED
    ]
    assert {arrival.state for arrival in dropped} <= {ArrivalState.IGNORED, ArrivalState.FAILED}
    assert all(SkipReason.DROPPED_WHILE_ACTIVE.sentence in (arrival.reason or "") for arrival in dropped)
    assert {run.outcome for run in world.runs() if run.state is RunState.ENDED} <= {Outcome.SKIPPED}


def test_the_next_attempt_under_drop_waits_and_is_not_dropped() -> None:
    """A person who asks for it again means it."""
    world = World(pipelines=make_pipelines(policy="drop"))
    world.deliver(make_blob("a.parquet"))
    world.finish(world.databricks_runs()[0], outcome=Outcome.FAILED)
    world.settle()
    (failed,) = world.runs()
    world.deliver(make_blob("b.parquet"))
    retry_run(world.plane, failed.id, OPERATOR)
    world.work()
    beside = len(world.databricks_runs())

    finish_all(world, check_caps)

    assert beside == 2
    assert {run.outcome for run in world.runs()} == {Outcome.COMPLETED}


def test_a_superseding_run_waits_for_the_cancelled_one() -> None:
    """R26."""
    world = World(pipelines=make_pipelines(policy="supersede"))
    world.deliver(make_blob("old.parquet"))
    (old,) = world.databricks_runs()

    world.deliver(make_blob("new.parquet"))
    started_beside = len(world.databricks_runs())
    world.settle_submissions()

    assert started_beside == 1
    assert old.status.termination_code == "USER_CANCELED"
    assert len(world.databricks_runs()) == 2
    assert world.arrival(make_blob("old.parquet")).state is ArrivalState.FAILED


def test_supersede_waits_until_the_cancellation_is_confirmed() -> None:
    """Asking Databricks to cancel is not the end of a run: its cluster may write for minutes."""
    world = World(pipelines=make_pipelines(policy="supersede"))
    world.deliver(make_blob("old.parquet"))
    (old,) = world.databricks_runs()
    asked: list[DatabricksRunId] = []
    world.workspace.cancel = asked.append  # type: ignore[method-assign,assignment] # a workspace that is slow to obey
    world.deliver(make_blob("new.parquet"))
    for _ in range(10):
        world.work()
        reconcile(world.plane)
        world.clock.advance(timedelta(seconds=20))
    while_it_ends = len(world.databricks_runs())

    world.end_databricks_run(old.id, "TERMINATED", "CANCELED", "USER_CANCELED")
    world.clock.advance(timedelta(seconds=20))
    world.settle_submissions()

    assert while_it_ends == 1
    assert set(asked) == {old.id}
    assert len(world.databricks_runs()) == 2


def test_a_cancelled_run_is_confirmed_without_waiting_for_the_reconciler() -> None:
    world = World(pipelines=make_pipelines(policy="supersede"))
    world.deliver(make_blob("old.parquet"))
    world.deliver(make_blob("new.parquet"))

    world.work()

    assert [run.status.verdict.is_open for run in world.databricks_runs()] == [False, True]


def test_a_request_supersedes_the_run_that_is_active() -> None:
    """R26: as new files do; what was decided before it gives way, not the other way round."""
    world = World(pipelines=make_pipelines(policy="supersede"))
    world.inputs.put(make_blob())
    world.deliver(make_blob())
    world.clock.advance(timedelta(seconds=1))

    asked = request_run(world.plane, b'{"pipeline": "flight_delay_scoring"}', idempotency_key="a")
    assert isinstance(asked, Run)
    world.settle_submissions()

    (old,) = [run for run in world.runs() if run.id != asked.id]
    (new,) = [run for run in world.runs() if run.id == asked.id]
    assert (old.outcome, new.state, new.outcome) == (Outcome.CANCELLED, RunState.SUBMITTED, None)


def test_the_retry_of_an_older_run_leaves_the_newer_one_alone() -> None:
    world = World(pipelines=make_pipelines(policy="supersede"))
    run = submitted(world)
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.settle()
    old = only_run(world)
    world.clock.advance(timedelta(minutes=1))  # newer is what was decided later
    world.deliver(make_blob("new.parquet"), at=old.cause.at - timedelta(minutes=1))
    newer = world.databricks_runs()[-1]

    retry_run(world.plane, old.id, OPERATOR)
    world.work()

    assert newer.status.verdict.is_open
    (retried,) = [item for item in world.runs() if item.id == old.id]
    assert "superseded by the newer run" in (retried.reason or "")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), deaths=st.integers(0, 2))
@example(seed=4248046090, deaths=0)  # an older file that came late cancelled a run, and then gave way to it
@example(seed=1911393667, deaths=2)  # a slow worker cancelled the run of the very files that it was to make room for
@example(seed=961946281, deaths=0)  # a run was skipped as superseded by one worker while another was sending it
@example(seed=1977352, deaths=1)  # what a rescuer found waited for the active run instead of superseding it
@example(seed=1646, deaths=1)  # an index row that its dead writer left had the run of its own file cancelled
def test_rivals_under_supersede_leave_one(seed: int, deaths: int) -> None:
    """R26: never two at once, and one of them is what completes in the end."""
    order = Interleaving(seed, deaths=deaths)
    world = World(pipelines=make_pipelines(policy="supersede"), faults=order)
    exceeded = watch(order, world, [0, 0, 1, 6], lambda: len(in_flight(world)) > 1)
    at = world.clock.now()
    names = {f"{index}.parquet": at + timedelta(seconds=index) for index in range(4)}

    order.run(
        [
            *[
                lambda name=name, time=time: arrive(world.make_plane(), blob_message(make_blob(name), at=time))
                for name, time in names.items()
            ],
            lambda: reconcile(world.make_plane()),
        ]
    )
    for name, time in names.items():
        world.deliver(make_blob(name), at=time)
    for _ in range(12):
        world.work()
        reconcile(world.plane)
        assert len(in_flight(world)) <= 1
        world.clock.advance(timedelta(seconds=15))
    finish_all(world, check_caps)

    assert exceeded == []
    assert [error for error in order.errors if not isinstance(error, LedgerConflictError)] == []
    completed = [run for run in world.runs() if run.outcome is Outcome.COMPLETED]
    assert len(completed) == 1
    assert {run.outcome for run in world.runs()} <= {Outcome.COMPLETED, Outcome.CANCELLED, Outcome.SKIPPED}
