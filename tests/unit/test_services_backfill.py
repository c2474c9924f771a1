"""Tests that a backfill hands existing blobs over once, at its rate, and survives anything (R75)."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.core.access import Actor
from functions.core.backfills import Backfill, BackfillState, Counts
from functions.core.errors import IllegalTransitionError, InvalidRequestError
from functions.core.model import ArrivalSource, ArrivalState, Outcome, RunState
from functions.core.work import WorkItem, WorkKind
from functions.services import backfill as backfill_service
from functions.services import backfill_steps
from functions.services.backfill import list_backfills, request_backfill, show_backfill
from functions.services.dispatch import dispatch
from functions.services.reconcile import reconcile
from tests.support.control_plane import SCORING, World, make_blob, make_pipelines
from tests.support.fault_walk import (
    CrashAt,
    DieAt,
    FailAt,
    LoseRunWrite,
    ProcessDiedError,
    settle,
    survive,
    walk_faults,
)
from tests.support.in_memory import Faults
from tests.support.records import make_backfill

ANN = Actor(name="ann@contoso.com")
OLD = datetime(2026, 1, 1, tzinfo=UTC)


def ask(world: World, **body: Any) -> Backfill:
    document = {"pipeline": SCORING, **body}
    backfill, _ = request_backfill(world.plane, json.dumps(document).encode(), ANN)
    return backfill


def put(world: World, *names: str, at: datetime = OLD) -> None:
    """Have blobs in storage that no event has announced."""
    for name in names:
        world.inputs.put(make_blob(name), at=at)


def test_the_default_is_a_dry_run_that_changes_nothing() -> None:
    """R75: nobody scores the past by mistake."""
    world = World()
    put(world, "a.parquet", "b.parquet", "c.csv")
    world.deliver(make_blob("b.parquet"))
    runs = world.runs()

    backfill = ask(world)
    world.work()

    counted = show_backfill(world.plane, backfill.id)
    assert counted.state is BackfillState.COUNTED
    assert counted.plan == Counts(new=1, known=1, unwanted=1)
    assert world.runs() == runs
    assert len(world.tables.rows["arrivals"]) == 1


def test_a_confirmed_backfill_hands_over_what_is_new() -> None:
    """R75: what the dry run counted, and only that."""
    world = World()
    put(world, "a.parquet", "b.parquet")
    backfill = ask(world)
    world.work()
    counted = show_backfill(world.plane, backfill.id)

    ask(world, confirm=counted.confirmation)
    world.settle_submissions()

    done = show_backfill(world.plane, backfill.id)
    assert (done.state, done.counts) == (BackfillState.DONE, Counts(new=2))
    assert {world.arrival(make_blob(name)).state for name in ("a.parquet", "b.parquet")} == {ArrivalState.ASSIGNED}
    assert world.arrival(make_blob("a.parquet")).source is ArrivalSource.BACKFILL
    assert [run.file_count for run in world.runs()] == [2]


def test_another_plan_or_none_is_not_confirmed() -> None:
    world = World()
    put(world, "a.parquet")
    ask(world)

    with pytest.raises(IllegalTransitionError, match="CountThenConfirm"):
        ask(world, confirm="00000000")
    world.work()
    with pytest.raises(InvalidRequestError, match="confirm"):
        ask(world, confirm="00000000")


def test_a_wrong_confirmation_changes_nothing() -> None:
    """R75: an answer that refuses it must not have the backfill begin, go on, or go faster."""
    world = World()
    put(world, *(f"{number:02}.parquet" for number in range(20)))
    with pytest.raises(IllegalTransitionError, match="CountThenConfirm"):
        ask(world, confirm="00000000")
    unknown = list_backfills(world.plane, limit=5)
    backfill = ask(world, yes=True, per_minute=30)
    world.work()
    ask(world, stop=True)
    stopped = show_backfill(world.plane, backfill.id)

    with pytest.raises(InvalidRequestError, match="confirm"):
        ask(world, confirm="00000000", per_minute=6000)

    assert list(unknown) == []
    assert show_backfill(world.plane, backfill.id) == stopped


def test_the_confirmation_of_a_backfill_that_is_done_does_not_begin_it_anew() -> None:
    world = World()
    put(world, "a.parquet")
    backfill = ask(world)
    world.work()
    seen = show_backfill(world.plane, backfill.id).confirmation
    ask(world, confirm=seen)
    world.settle_submissions()
    done = show_backfill(world.plane, backfill.id)

    with pytest.raises(IllegalTransitionError, match="CountThenConfirm"):
        ask(world, confirm=seen, fresh=True)

    assert show_backfill(world.plane, backfill.id) == done


def test_the_second_request_goes_on_and_a_finished_one_is_not_begun_again() -> None:
    world = World()
    put(world, "a.parquet")
    one = ask(world, yes=True)
    world.settle_submissions()
    put(world, "late.parquet")

    again = ask(world, yes=True)
    world.settle_submissions()
    world.clock.advance(timedelta(minutes=1))
    fresh = ask(world, yes=True, fresh=True)
    world.settle_submissions()

    assert (one.id, again.state) == (again.id, BackfillState.DONE)
    assert fresh.id == one.id
    assert show_backfill(world.plane, one.id).counts == Counts(new=1, known=1)


def test_time_and_prefix_bound_it() -> None:
    world = World()
    put(world, "2013-01.parquet", "2013-02.parquet", "2014-01.parquet")
    put(world, "2013-03.parquet", at=datetime(2025, 1, 1, tzinfo=UTC))

    backfill = ask(world, prefix="flights/new/2013-", since="2025-06-01T00:00:00Z", until="2026-06-01T00:00:00Z")
    world.work()

    assert show_backfill(world.plane, backfill.id).plan == Counts(new=2, outside=1)


def test_the_rate_is_kept_by_the_delay_of_the_next_step() -> None:
    """R75: no worker sleeps: 30 a minute are 5 a step, and the next step 10 seconds later."""
    world = World()
    put(world, *(f"{number:02}.parquet" for number in range(20)))
    backfill = ask(world, yes=True, per_minute=30)
    world.work()

    first = show_backfill(world.plane, backfill.id)
    for _ in range(3):
        world.clock.advance(timedelta(seconds=10))
        world.work()
    last = show_backfill(world.plane, backfill.id)

    assert (first.counts.new, first.state) == (5, BackfillState.RUNNING)
    assert (last.counts.new, last.state) == (20, BackfillState.DONE)


def test_the_rate_is_kept_however_often_someone_asks_and_a_message_is_delivered() -> None:
    """R75: each message too many was a step more, with a next step of its own."""
    world = World()
    put(world, *(f"{number:03}.parquet" for number in range(100)))
    backfill = ask(world, yes=True, per_minute=30)
    world.work()

    for _ in range(6):
        ask(world, yes=True, per_minute=30)
        taken = [item for _, item in world.queue.messages]
        world.clock.advance(timedelta(seconds=10))
        world.work()
        for item in taken:  # delivered again, as after a crash before it was acknowledged
            dispatch(world.plane, item.to_json())
        world.work()
    after_a_minute = show_backfill(world.plane, backfill.id)
    for _ in range(20):
        world.clock.advance(timedelta(seconds=10))
        world.work()

    assert after_a_minute.counts.new == 5 + 6 * 5
    assert show_backfill(world.plane, backfill.id).state is BackfillState.DONE


def test_whoever_says_no_rate_leaves_it_as_it_is() -> None:
    """R75: to ask how far it is, or to stop it, does not have it go faster."""
    world = World()
    put(world, *(f"{number:02}.parquet" for number in range(20)))
    backfill = ask(world, yes=True, per_minute=30)
    world.work()

    ask(world)
    asked = show_backfill(world.plane, backfill.id).per_minute
    ask(world, per_minute=60)
    ask(world, stop=True)
    ask(world)

    assert (asked, show_backfill(world.plane, backfill.id).per_minute) == (30, 60)
    assert ask(world, prefix="flights/new/0").per_minute == 600


def test_known_blobs_are_left_alone_unless_they_are_wanted_again() -> None:
    world = World()
    for name in ("failed.parquet", "scored.parquet"):
        put(world, name)
        world.deliver(make_blob(name))
    runs = world.databricks_runs()
    world.finish(runs[0], outcome=Outcome.FAILED)
    world.finish(runs[1])
    world.settle()

    plain = ask(world, yes=True)
    world.settle()
    again = ask(world, yes=True, again=True)
    world.settle_submissions()

    assert show_backfill(world.plane, plain.id).counts == Counts(known=2)
    assert show_backfill(world.plane, again.id).counts == Counts(again=1, known=1)
    assert world.arrival(make_blob("failed.parquet")).state is ArrivalState.ASSIGNED
    assert world.arrival(make_blob("scored.parquet")).state is ArrivalState.SCORED


def test_stopped_it_stays_where_it_is_until_someone_goes_on() -> None:
    world = World()
    put(world, *(f"{number:02}.parquet" for number in range(10)))
    backfill = ask(world, yes=True, per_minute=30)
    world.work()

    ask(world, stop=True)
    for _ in range(5):
        world.clock.advance(timedelta(minutes=3))
        reconcile(world.plane)
        world.work()
    stopped = show_backfill(world.plane, backfill.id)
    ask(world, per_minute=6000)
    world.settle_submissions()

    assert (stopped.state, stopped.counts.new, stopped.note) == (BackfillState.STOPPED, 5, "stopped by ann@contoso.com")
    assert show_backfill(world.plane, backfill.id).counts == Counts(new=10)


def test_the_reconciler_goes_on_with_one_whose_message_was_lost() -> None:
    world = World()
    put(world, "a.parquet")
    backfill = ask(world, yes=True)
    world.queue.messages.clear()

    world.clock.advance(timedelta(minutes=3))
    reconcile(world.plane)
    world.settle_submissions()

    assert show_backfill(world.plane, backfill.id).state is BackfillState.DONE
    assert list(world.plane.operations.active_backfills()) == []


def test_a_listing_that_lost_its_place_begins_again_and_hands_over_nothing_twice() -> None:
    world = World()
    put(world, *(f"{number:02}.parquet" for number in range(12)))
    backfill = ask(world, yes=True, per_minute=30)
    world.work()
    lost = show_backfill(world.plane, backfill.id).continuation
    assert lost is not None
    world.inputs.lost_continuations.add(lost)
    world.clock.advance(timedelta(seconds=11))
    item = next(item for _, item in world.queue.messages if item.kind is WorkKind.BACKFILL)
    dispatch(world.plane, item.to_json())
    begun_again = show_backfill(world.plane, backfill.id)
    world.inputs.lost_continuations.clear()

    for _ in range(6):
        world.clock.advance(timedelta(seconds=20))
        world.work()

    assert (begun_again.pages, begun_again.counts) == (0, Counts())

    done = show_backfill(world.plane, backfill.id)
    assert (done.state, done.counts) == (BackfillState.DONE, Counts(new=12))
    assert len(world.tables.rows["arrivals"]) == 12


def test_a_pipeline_or_container_that_is_gone_stops_it_with_the_reason() -> None:
    world = World()
    put(world, "a.parquet")
    backfill = ask(world, yes=True)
    world.inputs.containers.discard("input")
    world.work()

    stopped = show_backfill(world.plane, backfill.id)

    assert stopped.state is BackfillState.STOPPED
    assert "input" in stopped.note


def test_a_work_item_of_no_backfill_is_harmless() -> None:
    world = World()

    dispatch(world.plane, WorkItem(kind=WorkKind.BACKFILL, pipeline=SCORING, backfill_id="0" * 16).to_json())

    assert world.queue.messages == []


def test_backfills_are_listed_latest_first() -> None:
    world = World()
    ask(world, prefix="flights/")
    world.clock.advance(timedelta(minutes=1))
    ask(world, prefix="flights/new/")

    assert [backfill.prefix for backfill in list_backfills(world.plane, limit=5)] == ["flights/new/", "flights/"]


def test_the_latest_backfill_is_listed_and_looked_after_beside_a_thousand_others() -> None:
    """Their ids are in no order, so a bounded part of them need not have it."""
    world = World()
    for number in range(1001):
        began = OLD + timedelta(minutes=number)
        world.operations.claim_backfill(make_backfill(id=f"{number:016x}", created_at=began, updated_at=began))

    (latest,) = list_backfills(world.plane, limit=1)

    assert latest.id == f"{1000:016x}"
    assert latest.id in {entry.value.id for entry in world.operations.active_backfills()}


@pytest.mark.parametrize("fault", [CrashAt, FailAt], ids=["process dies", "call fails"])
def test_a_fault_anywhere_in_a_backfill_converges(
    fault: type[CrashAt] | type[FailAt], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R75: it goes on wherever it was cut short."""
    monkeypatch.setattr(backfill_service, "_COUNTED_AT_ONCE", 2)

    def story(world: World) -> object:
        put(world, "a.parquet", "b.parquet", "c.parquet", "d.csv")
        failed = make_blob("b.parquet")
        survive(world, lambda: world.deliver(failed))
        for _ in range(3):
            world.clock.advance(timedelta(seconds=70))
            survive(world, lambda: reconcile(world.plane))
        for run in world.databricks_runs():
            world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
        settle(world)
        survive(world, lambda: ask(world, yes=True, again=True, per_minute=12, until="2026-06-01T00:00:00Z"))
        for _ in range(12):
            world.clock.advance(timedelta(seconds=70))
            survive(world, lambda: reconcile(world.plane))
            for _ in range(20):
                item = world.queue.take()
                if item is None:
                    break
                survive(world, lambda taken=item: dispatch(world.plane, taken.to_json()))  # type: ignore[misc] # bound now
        world.tables.calls.faults = Faults()  # the story is over; what follows only looks
        (backfill,) = list_backfills(world.plane, limit=2)
        arrivals = sorted(
            (str(values["path"]), str(values["state"])) for values, _ in world.tables.rows["arrivals"].values()
        )
        files = sum(run.file_count for run in world.runs() if run.outcome is None)
        return backfill.state, backfill.counts, backfill.plan, arrivals, files

    undisturbed, points = walk_faults(
        story, lambda faults: World(pipelines=make_pipelines(quiet=30, max_wait=60), faults=faults), fault
    )

    assert undisturbed[:2] == (BackfillState.DONE, Counts(new=2, again=1, unwanted=1))  # type: ignore[index] # the tuple above
    assert points > 20


def test_what_failed_is_not_taken_again_before_its_run_has_ended() -> None:
    """I2: its run may still be judged anew, while another one would have the file."""
    loss = LoseRunWrite()
    world = World(faults=loss)
    put(world, "a.parquet")
    world.deliver(make_blob("a.parquet"))
    world.end_databricks_run(world.databricks_runs()[0].id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    loss.is_armed = True
    reconcile(world.plane)
    assert world.arrival(make_blob("a.parquet")).state is ArrivalState.FAILED

    backfill = ask(world, yes=True, again=True)
    for _ in range(2):  # it counts, then it hands over
        backfill_steps.step_backfill(world.plane, backfill.id)

    assert (world.runs()[0].state, world.arrival(make_blob("a.parquet")).state) == (
        RunState.SUBMITTED,
        ArrivalState.FAILED,
    )
    done = show_backfill(world.plane, backfill.id)
    assert (done.state, done.counts) == (BackfillState.DONE, Counts(known=1))


def test_a_file_that_was_half_recorded_when_its_backfill_was_stopped_goes_on() -> None:
    """No event repeats it, and nobody takes a stopped backfill further."""
    world = World(faults=DieAt("tables.arrivals.insert", is_after=True))
    put(world, "a.parquet")
    ask(world, yes=True)
    with pytest.raises(ProcessDiedError):
        world.work()
    world.plane = world.make_plane()

    ask(world, stop=True)
    reconcile(world.plane)
    world.work()

    assert world.arrival(make_blob("a.parquet")).state is ArrivalState.ASSIGNED
    assert [run.file_count for run in world.runs()] == [1]
