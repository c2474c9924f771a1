"""Tests that no limit is ever exceeded, by however many workers, that nothing leaks and that everything drains."""

import random
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from functions.core.access import Actor
from functions.core.errors import LedgerConflictError, ThrottledError
from functions.core.ledger import Run
from functions.core.model import ArrivalState, BlobVersion, DatabricksRunId, Outcome, RunState
from functions.core.reasons import SkipReason
from functions.core.work import WorkItem, WorkKind
from functions.services.arrive import arrive
from functions.services.closing import close_pipeline_batch
from functions.services.dispatch import dispatch
from functions.services.reconcile import reconcile
from functions.services.requests import request_run
from functions.services.retry import retry_run
from tests.support.control_plane import ACCOUNT, SCORING, TRAINING, World, blob_message, make_blob, make_pipelines
from tests.support.in_memory import DatabricksRun, Faults
from tests.support.interleaving import Interleaving

CAPPED = make_pipelines(max_active=2, limits="max_in_flight = 3, max_starts_per_second = 20")
TRAIN = b'{"pipeline": "flight_delay_training"}'


def with_training_data(world: World) -> World:
    blob = BlobVersion(
        account=ACCOUNT, container="input", path="flights/history/a.parquet", etag="0x5", size_bytes=9, sequencer=None
    )
    world.inputs.put(blob)
    return world


def in_flight(world: World) -> list[DatabricksRun]:
    return [run for run in list(world.workspace.runs.values()) if run.status.verdict.is_open]


def of_scoring(runs: list[DatabricksRun]) -> int:
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
    assert len(in_flight(world)) <= 3
    assert of_scoring(in_flight(world)) <= 2


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), deaths=st.integers(0, 3))
@example(seed=0, deaths=0)
def test_neither_cap_is_exceeded_by_rivals_that_die(seed: int, deaths: int) -> None:
    """R14, R26: files and requests over eight workers at once; the caps hold at every single step, and all drains."""
    order = Interleaving(seed, deaths=deaths)
    world = with_training_data(World(pipelines=CAPPED, faults=order))
    exceeded = watch(
        order, world, [0, 0, 0, 2, 7], lambda: len(in_flight(world)) > 3 or of_scoring(in_flight(world)) > 2
    )
    names = [f"{index}.parquet" for index in range(5)]

    order.run(
        [
            *[lambda name=name: arrive(world.make_plane(), blob_message(make_blob(name))) for name in names],
            *[lambda key=key: request_run(world.make_plane(), TRAIN, idempotency_key=key) for key in ("a", "b")],
            lambda: reconcile(world.make_plane()),
        ]
    )
    for name in names:  # what a dead worker had not acknowledged is delivered again
        world.deliver(make_blob(name))
    for key in ("a", "b"):
        request_run(world.plane, TRAIN, idempotency_key=key)
    finish_all(world, check_caps)

    assert exceeded == []
    assert [error for error in order.errors if not isinstance(error, LedgerConflictError)] == []
    assert {world.arrival(make_blob(name)).state for name in names} == {ArrivalState.SCORED}
    assert sum(run.pipeline == TRAINING for run in world.runs()) == 2
    assert world.turnstile().seats == ()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), deaths=st.integers(0, 2))
def test_a_seat_is_given_up_and_taken_by_rivals_exactly(seed: int, deaths: int) -> None:
    """Runs end and begin at the same time: dispatchers, reconcilers and reports over one free seat."""
    order = Interleaving(seed, deaths=deaths)
    pipelines = make_pipelines(policy="queue", limits="max_in_flight = 1, max_starts_per_second = 20")
    world = with_training_data(World(pipelines=pipelines, faults=order))
    world.deliver(make_blob("first.parquet"))
    (first,) = world.databricks_runs()
    for name in ("a", "b", "c"):
        world.deliver(make_blob(f"{name}.parquet"))
    request_run(world.plane, TRAIN, idempotency_key="a")
    exceeded = watch(order, world, [0, 0, 1, 11], lambda: len(in_flight(world)) > 1)
    (waiting,) = [run for run in world.runs() if run.pipeline == TRAINING]
    text = WorkItem(kind=WorkKind.ADVANCE_RUN, pipeline=TRAINING, run_id=waiting.id).to_json()
    world.finish(first, reports=False)

    order.run(
        [
            *[lambda: reconcile(world.make_plane())] * 2,
            *[lambda: close_pipeline_batch(world.make_plane(), SCORING)] * 2,
            *[lambda: dispatch(world.make_plane(), text)] * 2,
        ]
    )
    finish_all(world, check_caps)

    assert exceeded == []
    assert [error for error in order.errors if not isinstance(error, LedgerConflictError)] == []
    assert {run.outcome for run in world.runs()} == {Outcome.COMPLETED}
    assert world.turnstile().seats == ()


def test_a_storm_keeps_under_the_cap_and_loses_nothing() -> None:
    """R14: sixty files one by one, three runs at once at most."""
    world = World(pipelines=make_pipelines(max_files=7, limits="max_in_flight = 3, max_starts_per_second = 20"))
    for index in range(60):
        world.deliver(make_blob(f"{index}.parquet"))

    finish_all(world, lambda world: None if len(in_flight(world)) <= 3 else pytest.fail("beyond the cap"))

    assert {world.arrival(make_blob(f"{index}.parquet")).state for index in range(60)} == {ArrivalState.SCORED}
    assert len(world.runs()) < 15  # what waited became few runs


class MostInFlight(Faults):
    """Notes the most runs that were ever in flight, looking after every submission."""

    def __init__(self) -> None:
        self.world: World
        self.most = 0

    def after(self, call: str) -> None:
        if call == "workspace.submit":
            self.most = max(self.most, len(in_flight(self.world)))


def test_a_burst_of_repeated_events_in_any_order_fills_the_cap_and_loses_none() -> None:
    """R14: 400 files, whose events come shuffled and up to three times each."""
    watching = MostInFlight()
    limits = "max_in_flight = 4, max_starts_per_second = 20"
    world = watching.world = World(pipelines=make_pipelines(max_files=30, limits=limits), faults=watching)
    deliveries = [f"{index}.parquet" for index in range(400) for _ in range(1 + index % 3)]
    random.Random(14).shuffle(deliveries)

    for index, name in enumerate(deliveries):
        world.deliver(make_blob(name))
        if index % 100 == 0:
            world.work(steps=1000)
    finish_all(world, lambda _: None)

    assert watching.most == 4
    assert {arrival.state for arrival in world.arrivals()} == {ArrivalState.SCORED}
    assert len(world.arrivals()) == sum(run.arrival_count for run in world.runs()) == 400
    assert len({run.token for run in world.databricks_runs()}) == len(world.runs()) == len(world.databricks_runs())


class DieAt(Faults):
    """Kills the process at one call."""

    def __init__(self, call: str, *, is_before: bool) -> None:
        self.call = call
        self.is_before = is_before

    def before(self, call: str) -> None:
        if self.is_before:
            self._die(call)

    def after(self, call: str) -> None:
        if not self.is_before:
            self._die(call)

    def _die(self, call: str) -> None:
        if call == self.call:
            self.call = ""
            raise KeyboardInterrupt


def test_a_seat_whose_run_ended_as_its_process_died_is_given_back() -> None:
    """A dead process leaks no seat: the reconciler compares seats with runs."""
    faults = DieAt("publisher.publish", is_before=True)
    world = World(pipelines=make_pipelines(policy="queue"), faults=faults)
    world.deliver(make_blob("a.parquet"))
    (run,) = world.databricks_runs()
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    seat = world.turnstile().seats
    with pytest.raises(KeyboardInterrupt):
        reconcile(world.plane)
    turnstile = world.ledger.read_turnstile()
    world.ledger.update_turnstile(turnstile, turnstile.value.adopt(seat))  # as if it had died a line earlier

    world.plane = world.make_plane()
    world.deliver(make_blob("b.parquet"))
    held_back = len(world.databricks_runs())
    found = reconcile(world.plane)
    world.settle_submissions()

    assert (held_back, found["seats: mended"]) == (1, 1)
    assert len(world.databricks_runs()) == 2


def test_runs_from_before_the_turnstile_get_their_seats() -> None:
    """After an upgrade, or when the row was lost, what Databricks has is counted."""
    world = World(pipelines=make_pipelines(policy="queue"))
    world.deliver(make_blob("a.parquet"))
    del world.tables.rows["marks"]["turnstile", "turnstile"]
    world.plane = world.make_plane()

    found = reconcile(world.plane)
    world.deliver(make_blob("b.parquet"))

    assert found["seats: mended"] == 1
    assert len(world.databricks_runs()) == 1


def test_a_pass_of_the_reconciler_reads_no_row_of_a_run_that_is_active() -> None:
    world = World()
    for index in range(10):
        world.deliver(make_blob(f"{index}.parquet"))
    world.clock.advance(timedelta(minutes=1))
    before = world.tables.calls.counts["tables.runs.get"]

    found = reconcile(world.plane)

    assert (found["active"], found["seats: right"]) == (10, 1)
    assert world.tables.calls.counts["tables.runs.get"] == before


def test_a_start_and_an_end_cost_one_write_each() -> None:
    """One process in a row of files needs no read of the turnstile before it writes it."""
    world = World()
    world.deliver(make_blob("first.parquet"))
    before = world.tables.partitions["marks", "turnstile"]

    for index in range(10):
        world.deliver(make_blob(f"{index}.parquet"))

    assert world.tables.partitions["marks", "turnstile"] - before == 10


def test_a_file_that_comes_while_its_pipeline_is_full_costs_one_read_of_the_turnstile() -> None:
    """No index and no run is read for it, and nobody is asked for a model."""
    world = World(pipelines=make_pipelines(max_active=2))
    for index in range(3):
        world.deliver(make_blob(f"{index}.parquet"))
    world.clock.advance(timedelta(seconds=1))
    before, resolved = world.tables.partitions.copy(), world.workspace.calls.counts["workspace.resolve"]

    world.deliver(make_blob("one-more.parquet"))

    touched = world.tables.partitions - before
    assert touched["marks", "turnstile"] == 1
    assert {table for table, _ in touched} == {"arrivals", "pending", "paths", "timeline", "marks"}
    assert world.workspace.calls.counts["workspace.resolve"] == resolved


def test_a_pipeline_that_storms_leaves_its_seats_to_who_waits() -> None:
    """One pipeline's storm does not keep another waiting for more than one of its runs."""
    world = with_training_data(World(pipelines=make_pipelines(limits="max_in_flight = 1")))
    for index in range(5):
        world.deliver(make_blob(f"{index}.parquet"))
    request_run(world.plane, TRAIN, idempotency_key="a")
    world.work()
    (storming,) = world.databricks_runs()

    world.finish(storming)
    for _ in range(20):  # the pipeline that queued first goes once more, then the other one
        world.deliver(make_blob(f"later-{world.clock.now():%M%S}.parquet"))
        world.work()
        world.clock.advance(timedelta(seconds=10))
        if len(world.databricks_runs()) == 2 and world.clock.now().minute == 2:
            world.finish(world.databricks_runs()[-1])

    assert [run.parameters["pipeline"] for run in world.databricks_runs()] == [SCORING, SCORING, TRAINING]


def test_runs_of_a_queue_go_in_the_order_in_which_they_were_asked_for() -> None:
    """R26: whoever looks first, the oldest goes."""
    world = with_training_data(World())
    for key in "abcd":
        request_run(world.plane, TRAIN, idempotency_key=key)
        world.clock.advance(timedelta(seconds=1))
    wanted = [run.id for run in world.runs()]
    world.queue.messages.reverse()

    finish_all(world, check_caps)

    assert [run.parameters["run_id"] for run in world.databricks_runs()] == wanted


def test_held_files_let_a_run_go_first_that_waits_already() -> None:
    """A retry must not wait for ever behind files that keep coming."""
    world = World(pipelines=make_pipelines(policy="queue"))
    world.deliver(make_blob("a.parquet"))
    (first,) = world.databricks_runs()
    world.finish(first, outcome=Outcome.FAILED)
    world.settle()
    (failed,) = world.runs()
    world.deliver(make_blob("b.parquet"))
    world.deliver(make_blob("c.parquet"))
    retry_run(world.plane, failed.id, Actor(name="ann"))
    world.work()

    world.finish(world.databricks_runs()[-1])
    for _ in range(4):
        world.clock.advance(timedelta(seconds=20))
        world.work()

    assert [run.parameters["attempt"] for run in world.databricks_runs()] == ["1", "1", "2"]


def test_files_that_find_no_seat_stay_held_and_become_one_run() -> None:
    """R14: and nobody is told that they wait for anything else, such as a model."""
    world = World(pipelines=make_pipelines(limits="max_in_flight = 1, max_starts_per_second = 20"))
    world.deliver(make_blob("a.parquet"))
    later = [make_blob(name) for name in ("b.parquet", "c.parquet")]
    for blob in later:
        world.deliver(blob)
    world.work()
    reconcile(world.plane)

    waiting, runs = {(world.arrival(blob).state, world.arrival(blob).reason) for blob in later}, len(world.runs())
    finish_all(world, lambda _: None)

    assert (waiting, runs) == ({(ArrivalState.HELD, None)}, 1)
    assert sorted(run.arrival_count for run in world.runs()) == [1, 2]


def test_files_beyond_the_budget_wait_for_the_next_day() -> None:
    """R77: held, not lost, and in one run together as soon as they may."""
    world = World(pipelines=make_pipelines(budget=2))
    for index in range(5):
        world.deliver(make_blob(f"{index}.parquet"))
        world.clock.advance(timedelta(minutes=1))
    for run in world.databricks_runs():
        world.finish(run)
    for _ in range(5):
        world.work()
        reconcile(world.plane)
        world.clock.advance(timedelta(minutes=2))
    today = len(world.databricks_runs())

    world.clock.advance(timedelta(hours=12))
    world.settle_submissions()

    assert today == 2
    assert [run.arrival_count for run in world.runs()] == [1, 1, 3]


def test_the_budget_of_all_counts_every_pipeline() -> None:
    pipelines = make_pipelines(limits="max_runs_per_day = 2")
    world = with_training_data(World(pipelines=pipelines))
    request_run(world.plane, TRAIN, idempotency_key="a")
    world.work()
    for name in ("a.parquet", "b.parquet"):
        world.deliver(make_blob(name))

    assert len(world.databricks_runs()) == 2
    assert world.arrival(make_blob("b.parquet")).state is ArrivalState.HELD


def test_a_held_budget_reads_one_row_and_no_index() -> None:
    """What waits for days must not be read each minute."""
    world = World(pipelines=make_pipelines(budget=1))
    for name in ("a.parquet", "b.parquet"):
        world.deliver(make_blob(name))
    world.clock.advance(timedelta(minutes=1))
    reads = world.tables.partitions["pending", SCORING]

    progress = close_pipeline_batch(world.plane, SCORING)

    assert progress.what == "budget_spent"  # type: ignore[union-attr] # nothing left to do for now
    assert world.tables.partitions["pending", SCORING] == reads


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), deaths=st.integers(0, 2))
def test_rivals_do_not_overspend_a_budget(seed: int, deaths: int) -> None:
    """R77: counted in the write that takes the seat, so a crash counts nothing twice and nothing too little."""
    order = Interleaving(seed, deaths=deaths)
    world = World(pipelines=make_pipelines(budget=3), faults=order)
    names = [f"{index}.parquet" for index in range(6)]

    order.run([lambda name=name: arrive(world.make_plane(), blob_message(make_blob(name))) for name in names])  # type: ignore[misc] # bound now
    for name in names:
        world.deliver(make_blob(name))
    for _ in range(4):
        world.work()
        reconcile(world.plane)
        world.clock.advance(timedelta(seconds=30))

    assert len(world.databricks_runs()) == 3
    assert [error for error in order.errors if not isinstance(error, LedgerConflictError)] == []


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
    retry_run(world.plane, failed.id, Actor(name="ann"))
    world.work()
    beside = len(world.databricks_runs())

    finish_all(world, check_caps)

    assert beside == 2
    assert {run.outcome for run in world.runs()} == {Outcome.COMPLETED}


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


def test_a_cancelled_run_is_confirmed_without_waiting_for_the_reconciler() -> None:
    world = World(pipelines=make_pipelines(policy="supersede"))
    world.deliver(make_blob("old.parquet"))
    world.deliver(make_blob("new.parquet"))

    world.work()

    assert [run.status.verdict.is_open for run in world.databricks_runs()] == [False, True]


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
