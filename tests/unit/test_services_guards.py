"""Tests guards that only a rival, a stale memory or a service that is down ever meets."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from functions.core.access import Actor
from functions.core.errors import NotFoundError, PublicationError, ThrottledError, WorkspaceUnavailableError
from functions.core.freezing import token_of
from functions.core.model import ArrivalState, Outcome, PipelineKey, RunId, RunState
from functions.core.reasons import HoldReason
from functions.core.run_transitions import persist_token, want_cancel
from functions.core.turnstile import Refusal, Seat, Turnstile
from functions.core.work import WorkItem, WorkKind
from functions.services.closing import close_pipeline_batch
from functions.services.dispatch import dispatch
from functions.services.quarantine import quarantine_message
from functions.services.reconcile import reconcile
from functions.services.replay import replay
from functions.services.requests import request_run
from functions.services.retry import retry_run
from functions.services.submission import advance_run
from functions.services.sweep import sweep
from functions.services.turnstile import bar, change_turnstile, leave_seat, look_at_turnstile
from tests.support.control_plane import SCORING, World, make_blob, make_pipelines
from tests.support.in_memory import Faults

ANN = Actor(name="ann@contoso.com")


class Meanwhile(Faults):
    """Lets something happen once, after the next call of a kind has had its effect and before its caller goes on."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.then: Callable[[], object] | None = None

    def after(self, call: str) -> None:
        then = self.then
        if call == self.call and then is not None:
            self.then = None
            then()


class Refusing(Faults):
    """Refuses one kind of call while it is told to, and counts how often it was asked."""

    def __init__(self, call: str, error: Exception) -> None:
        self.call, self.error = call, error
        self.is_refusing = False
        self.asked = 0

    def before(self, call: str) -> None:
        if call == self.call and self.is_refusing:
            self.asked += 1
            raise self.error


def test_what_a_process_remembers_turns_nobody_away() -> None:
    """R14: another process has given the only seat back; whoever remembers it as taken looks before it refuses."""
    world = World(pipelines=make_pipelines(limits="max_in_flight = 1, max_starts_per_second = 20"))
    world.deliver(make_blob())
    (run,) = world.runs()
    assert look_at_turnstile(world.plane).seats
    leave_seat(world.make_plane(), run, attempt=1)

    def enter(turnstile: Turnstile) -> Turnstile | Refusal:
        full = Refusal(reason=HoldReason.NO_SEAT, wait_s=1)
        return full if turnstile.seats else turnstile.queue_up(SCORING, world.clock.now())

    assert isinstance(change_turnstile(world.plane, enter), Turnstile)


def test_a_seat_does_not_wait_for_event_grid() -> None:
    """R14: an end that cannot be announced yet keeps no other run from starting."""
    topic = Refusing("publisher.publish", PublicationError("publishing", "503"))
    world = World(pipelines=make_pipelines(policy="queue"), faults=topic)
    world.deliver(make_blob("a.parquet"))
    (run,) = world.databricks_runs()
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    topic.is_refusing = True

    reconcile(world.plane)

    assert (topic.asked, world.runs()[0].published_at) == (1, None)
    assert world.turnstile().seats == ()
    world.deliver(make_blob("b.parquet"))
    assert len(world.databricks_runs()) == 2


def test_a_pass_stops_asking_a_workspace_that_refuses() -> None:
    """R23: the next question would be refused too; nothing is lost, because the next pass asks again."""
    workspace = Refusing("workspace.status", ThrottledError("asking", 5.0))
    world = World(faults=workspace)
    for name in ("a.parquet", "b.parquet", "c.parquet"):
        world.deliver(make_blob(name))
    for run in world.databricks_runs():
        world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    workspace.is_refusing = True

    found = reconcile(world.plane)
    workspace.is_refusing = False
    reconcile(world.plane)

    assert (workspace.asked, found["throttled"]) == (1, 1)
    assert {run.outcome for run in world.runs()} == {Outcome.FAILED}


def test_an_answer_that_comes_after_its_attempt_is_over_is_not_the_next_attempts() -> None:
    """R22: a worker sleeps after its call; meanwhile its run is found, lost and begun again under another token."""

    class Story(Meanwhile):
        is_throttled = False

        def before(self, call: str) -> None:
            if call == "workspace.submit" and self.is_throttled:
                raise ThrottledError("starting", 600.0)

    story = Story("workspace.submit")
    world = World(faults=story)

    def others_go_on() -> None:
        plane = world.make_plane()
        (run,) = world.runs()
        item = WorkItem(kind=WorkKind.ADVANCE_RUN, pipeline=run.pipeline, run_id=run.id).to_json()
        dispatch(plane, item)  # sends the same token again, and is told the same run
        (started,) = world.databricks_runs()
        world.end_databricks_run(started.id, "TERMINATED", "FAILED", "CLUSTER_ERROR")
        dispatch(plane, item)
        story.is_throttled = True
        dispatch(plane, item)

    story.then = others_go_on
    world.deliver(make_blob())

    (run,) = world.runs()
    (first,) = world.databricks_runs()
    assert (run.attempt, run.state, run.databricks_run_id) == (2, RunState.SUBMITTING, None)
    assert run.token != first.token


def test_a_run_that_is_being_sent_is_not_dropped() -> None:
    """R26: between being refused a seat and giving the run up, another worker got the seat and sent it."""

    class Story(Meanwhile):
        is_dying = True

        def after(self, call: str) -> None:
            super().after(call)
            if call == "tables.runs.insert" and self.is_dying:
                self.is_dying = False
                raise SystemExit(call)

    story = Story("tables.marks.get")
    world = World(pipelines=make_pipelines(policy="drop"), faults=story)
    with pytest.raises(SystemExit):
        world.deliver(make_blob())
    (unsent,) = world.runs()
    item = WorkItem(kind=WorkKind.ADVANCE_RUN, pipeline=SCORING, run_id=unsent.id).to_json()
    active = RunId("flight_delay_scoring-20260301T110000Z-0123456789ab")
    seat = Seat(run_id=active, attempt=1, pipeline=SCORING, taken_at=world.clock.now())
    change_turnstile(world.plane, lambda turnstile: turnstile.adopt((seat,)))

    happened: list[str] = []

    def others_go_on() -> None:
        happened.append("in between")
        plane = world.make_plane()
        change_turnstile(plane, lambda turnstile: turnstile.leave(active, 1))
        dispatch(plane, item)

    story.then = others_go_on
    dispatch(world.make_plane(), item)

    (run,) = world.runs()
    assert (run.state, run.outcome) == (RunState.SUBMITTED, None)
    assert happened == ["in between"]


@pytest.mark.parametrize("is_forgotten", [True, False])
def test_new_work_supersedes_a_run_that_cannot_be_cancelled(*, is_forgotten: bool) -> None:
    """R26: one that Databricks has forgotten is over; one that it does not cancel now is asked for again."""

    class NoCancel(Faults):
        is_armed = False
        asked = 0

        def before(self, call: str) -> None:
            is_asked = call == ("workspace.status" if is_forgotten else "workspace.cancel")
            if self.is_armed and is_asked:
                self.asked += 1
                self.is_armed = is_forgotten or self.asked < 3
                error = NotFoundError if is_forgotten else WorkspaceUnavailableError
                raise error("asking about a run", "no such run")

    faults = NoCancel()
    world = World(pipelines=make_pipelines(quiet=10, max_wait=10, policy="supersede"), faults=faults)
    older, newer = make_blob("a.parquet"), make_blob("b.parquet")
    world.deliver(older)
    world.clock.advance(timedelta(seconds=11))
    world.work()
    faults.is_armed = True

    world.deliver(newer)
    for _ in range(4):
        world.clock.advance(timedelta(seconds=11))
        world.work()  # no message is given up

    outcomes = {run.arrivals[0]: run.outcome for run in world.runs()}
    expected = Outcome.FAILED if is_forgotten else Outcome.CANCELLED
    assert outcomes == {world.arrival(older).id: expected, world.arrival(newer).id: None}
    assert faults.asked >= (1 if is_forgotten else 2)
    assert world.arrival(newer).state is ArrivalState.ASSIGNED


def test_a_run_whose_cancellation_was_wanted_while_it_was_sent_is_cancelled_at_once() -> None:
    """R22: nobody looks at it again for seconds, and it costs money until then."""
    story = Meanwhile("workspace.submit")
    world = World(faults=story)

    def want() -> None:
        (run,) = world.runs()
        entry = world.ledger.get_run(run.id)
        assert entry is not None
        world.ledger.update_run(entry, want_cancel(entry.value, world.clock.now(), by="ann"))

    story.then = want
    world.deliver(make_blob())

    (started,) = world.databricks_runs()
    assert started.status.result_state == "CANCELED"


def test_an_index_row_that_a_crash_left_starts_nothing_of_another_pipelines_file() -> None:
    """I2: a person moved the file; the row under its former pipeline is stale."""
    world = World(pipelines=make_pipelines(quiet=30, max_wait=60))
    blob = make_blob()
    world.deliver(blob)
    entry = world.ledger.get_arrival(blob)
    assert entry is not None
    ignored = world.ledger.update_arrival(entry, entry.value.ignore(world.clock.now(), "by hand"))
    held = ignored.value.replay(PipelineKey("another"), world.clock.now(), "renamed")
    world.ledger.update_arrival(ignored, held)
    assert {pipeline for pipeline, _ in world.tables.rows["pending"]} == {SCORING, "another"}
    world.clock.advance(timedelta(seconds=61))

    close_pipeline_batch(world.plane, SCORING)

    assert world.databricks_runs() == []
    assert (world.arrival(blob).state, world.arrival(blob).pipeline) == (ArrivalState.HELD, "another")


def test_a_retry_whose_file_another_run_has_ends_and_leaves_it_alone() -> None:
    """I2: the file was replayed and is being scored with another one, so it is that run's."""
    world = World(pipelines=make_pipelines(quiet=30, max_wait=60))
    blob, other = make_blob("a.parquet"), make_blob("b.parquet")
    world.deliver(blob)
    world.clock.advance(timedelta(seconds=31))
    world.work()
    (first,) = world.databricks_runs()
    world.end_databricks_run(first.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.settle()
    (failed,) = world.runs()
    replay(world.plane, f'{{"arrival": "{world.arrival(blob).id}"}}'.encode(), idempotency_key=None, actor=ANN)
    world.deliver(other)
    world.queue.messages.clear()
    world.clock.advance(timedelta(seconds=61))
    close_pipeline_batch(world.plane, SCORING)
    (_, second) = world.databricks_runs()

    retry_run(world.plane, failed.id, ANN)
    world.work()
    reconcile(world.plane)

    outcomes = {run.id: run.outcome for run in world.runs()}
    assert outcomes == {failed.id: Outcome.FAILED, second.parameters["run_id"]: None}
    assert (world.arrival(blob).state, world.arrival(blob).run_id) == (
        ArrivalState.ASSIGNED,
        second.parameters["run_id"],
    )


@pytest.mark.parametrize("is_scored", [True, False])
def test_a_newer_version_of_a_file_that_a_run_has_is_new_work(*, is_scored: bool) -> None:
    """R02, R12: only what is still held is replaced; what is read, or was, stays with its run."""
    world = World()
    older, newer = make_blob(etag="0x1", sequencer="0001"), make_blob(etag="0x2", sequencer="0002")
    world.deliver(older)
    if is_scored:
        world.finish(world.databricks_runs()[0])
        world.settle()

    world.deliver(newer)

    assert len(world.databricks_runs()) == 2
    assert world.arrival(older).state is (ArrivalState.SCORED if is_scored else ArrivalState.ASSIGNED)
    assert world.arrival(newer).state is ArrivalState.ASSIGNED


def test_a_sweep_makes_nothing_of_what_the_ledger_may_have_forgotten() -> None:
    """R13, R73: a file from before the retention may have been scored long ago; a younger one is found."""
    world = World()
    world.plane = replace(world.plane, retention=timedelta(days=60))
    sweep(world.plane, grace=timedelta(minutes=15))
    world.clock.advance(timedelta(days=100))
    for name, days in (("old.parquet", 61), ("young.parquet", 59)):
        world.inputs.put(make_blob(name), at=world.clock.now() - timedelta(days=days))
    counts = sweep(world.plane, grace=timedelta(minutes=15))

    assert counts["older_than_kept"] == 1
    assert [arrival.blob.path for arrival in world.arrivals()] == ["flights/new/young.parquet"]


def test_a_slow_worker_ends_no_attempt_that_followed_a_barred_one() -> None:
    """R08, I2: it was on the way to a seat, was ended as skipped meanwhile, and a person asked for another attempt."""
    world = World()
    world.inputs.put(replace(make_blob(), path="flights/history/a.parquet"))
    request_run(world.plane, b'{"pipeline": "flight_delay_training"}', idempotency_key="a")
    (decided,) = world.runs()
    entry = world.ledger.get_run(decided.id)
    assert entry is not None
    unsent = world.ledger.update_run(entry, persist_token(entry.value, token_of(entry.value), world.clock.now()))
    assert bar(world.plane, unsent.value, "superseded")
    advance_run(world.plane, unsent)
    assert [run.outcome for run in world.runs()] == [Outcome.SKIPPED]
    retry_run(world.plane, decided.id, ANN)
    world.work()

    advance_run(world.make_plane(), unsent)

    (run,) = world.runs()
    assert (run.attempt, run.state, run.outcome) == (2, RunState.SUBMITTED, None)


def test_replayed_work_has_all_its_tries_before_it() -> None:
    """R74: as at the first time; a message that was given up had used them up."""
    world = World(pipelines=make_pipelines(quiet=30, max_wait=60))
    item = WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=SCORING, tries=12)
    url = quarantine_message(world.plane, "dispatch", "m-1", item.to_json().encode(), datetime(2026, 3, 1, tzinfo=UTC))

    replay(world.plane, f'{{"dead_letter": "{url}"}}'.encode(), idempotency_key=None, actor=ANN)

    assert [queued.tries for _, queued in world.queue.messages] == [0]


def test_full_batches_follow_one_another_without_the_reconciler() -> None:
    """R09: whoever has closed a full batch looks whether there is another."""
    world = World(pipelines=make_pipelines(quiet=30, max_wait=120, max_files=10))
    for index in range(25):
        world.deliver(make_blob(f"{index:03d}.parquet"))

    world.clock.advance(timedelta(seconds=31))
    world.work()

    assert sorted(run.arrival_count for run in world.runs()) == [5, 10, 10]
