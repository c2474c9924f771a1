"""What was settled long ago is removed bit by bit, by a setting; what is open or held stays for ever."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from functions.core.access import Actor
from functions.core.alerts import Alert, AlertKind
from functions.core.backfills import BackfillState, Counts
from functions.core.errors import LedgerUnavailableError
from functions.core.model import ArrivalState, PipelineKey, RunId
from functions.core.replays import Replay
from functions.ports import ClaimedRequest, QuarantinedMessage
from functions.services.backfill import request_backfill, show_backfill
from functions.services.reconcile import reconcile
from functions.services.replay import replay
from functions.services.requests import request_run
from functions.services.signals import receive_signal
from tests.support.control_plane import SCORING, World, make_blob, make_pipelines
from tests.support.fault_walk import CrashAt, FailAt, ProcessDiedError
from tests.support.in_memory import Faults, make_ledger
from tests.support.records import make_backfill, make_signal

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
YEAR_LATER = NOON + timedelta(days=365)
TABLES = ("arrivals", "redeliveries", "timeline", "runs")


def make_old_world(faults: Faults | None = None) -> World:
    """Return a world with a scored file, delivered twice, one that is ignored, and one that still waits for a model."""
    world = World(pipelines=make_pipelines(), faults=Faults())
    world.deliver(make_blob("scored.parquet"))
    world.deliver(make_blob("scored.parquet"))
    world.deliver(make_blob("notes.txt"))
    world.finish(world.databricks_runs()[0])
    world.settle()
    world.workspace.models.clear()
    world.deliver(make_blob("held.parquet"))
    world.tables.calls.faults = faults or Faults()
    return world


def forget(world: World, *, before: datetime = YEAR_LATER, limit: int = 100) -> int:
    return sum(world.ledger.forget_before(key, before=before, limit=limit) for key in (SCORING, None))


def paths_left(world: World) -> set[str]:
    return {str(values["path"]).rpartition("/")[2] for values, _ in world.tables.rows["arrivals"].values()}


def test_what_was_settled_before_is_removed_with_all_that_belongs_to_it() -> None:
    world = make_old_world()

    removed = [forget(world) for _ in range(8)]

    assert sum(removed) == 3  # two arrivals and a run
    assert paths_left(world) == {"held.parquet"}
    assert {name: len(world.tables.rows[name]) for name in TABLES} == {
        "arrivals": 1,
        "redeliveries": 0,
        "timeline": 1,
        "runs": 0,
    }
    assert len(world.tables.rows["pending"]) == 1


def test_what_was_settled_since_stays() -> None:
    world = make_old_world()

    removed = [forget(world, before=NOON - timedelta(minutes=1)) for _ in range(8)]

    assert sum(removed) == 0
    assert paths_left(world) == {"scored.parquet", "notes.txt", "held.parquet"}


def test_what_was_open_is_removed_by_a_later_walk_once_it_is_settled() -> None:
    world = make_old_world()
    for _ in range(8):
        forget(world)
    world.workspace.models["main.tidegate.flight_delay", "champion"] = "7"
    world.settle_submissions()
    world.finish(world.databricks_runs()[-1])
    world.settle()

    removed = [forget(world) for _ in range(8)]

    assert sum(removed) == 2
    assert {name: len(world.tables.rows[name]) for name in TABLES} == dict.fromkeys(TABLES, 0)


def test_a_step_removes_no_more_than_it_may() -> None:
    world = World(pipelines=make_pipelines(quiet=30, max_wait=60, max_files=2))
    for index in range(11):
        world.deliver(make_blob(f"{index}.parquet"))
        world.clock.advance(timedelta(days=9))  # over several months
    world.settle_submissions()
    for run in world.databricks_runs():
        world.finish(run)
    world.settle()
    runs = len(world.runs())

    removed = [world.ledger.forget_before(SCORING, before=YEAR_LATER, limit=3) for _ in range(40)]

    assert max(removed) <= 3
    assert sum(removed) == 11 + runs
    assert {name: len(world.tables.rows[name]) for name in TABLES} == dict.fromkeys(TABLES, 0)


@pytest.mark.parametrize("fault", [CrashAt, FailAt], ids=["process dies", "call fails"])
def test_a_fault_anywhere_is_made_up_for_by_the_next_walk(fault: type[CrashAt] | type[FailAt]) -> None:
    at = 0
    while True:
        at += 1
        faults = fault(at=at)
        world = make_old_world(faults)
        for _ in range(10):
            try:
                forget(world)
            except (ProcessDiedError, LedgerUnavailableError):
                world.ledger = make_ledger(world.tables)
        if not faults.where:
            break
        left = {name: len(world.tables.rows[name]) for name in TABLES}
        assert left == {"arrivals": 1, "redeliveries": 0, "timeline": 1, "runs": 0}, faults.where

    assert at > 5


def test_the_reconciler_removes_nothing_unless_it_is_told_to() -> None:
    world = make_old_world()
    world.clock.advance(timedelta(days=400))

    for _ in range(8):
        reconcile(world.plane)
        world.clock.advance(timedelta(minutes=1))

    assert "scored.parquet" in paths_left(world)


def test_the_reconciler_removes_what_is_older_than_the_setting_says() -> None:
    world = make_old_world()
    world.plane = replace(world.plane, retention=timedelta(days=365))
    world.clock.advance(timedelta(days=300))
    for _ in range(16):
        reconcile(world.plane)
        world.clock.advance(timedelta(minutes=1))
    after_300_days = paths_left(world)
    world.clock.advance(timedelta(days=100))

    for _ in range(16):
        reconcile(world.plane)
        world.clock.advance(timedelta(minutes=1))

    assert "scored.parquet" in after_300_days
    assert paths_left(world) == {"held.parquet"}


def test_what_a_pipeline_left_that_is_configured_no_more_is_removed_too() -> None:
    world = make_old_world()
    reconcile(world.plane)  # which remembers what is configured
    known = world.plane.pipelines
    others = replace(known, pipelines=tuple(pipeline for pipeline in known.pipelines if pipeline.key != SCORING))
    world.plane = replace(world.plane, retention=timedelta(days=365), pipelines=others)
    world.clock.advance(timedelta(days=400))

    for _ in range(40):
        reconcile(world.plane)
        world.clock.advance(timedelta(minutes=1))

    assert paths_left(world) == {"held.parquet"}


def test_pipelines_without_a_history_cost_nothing_but_a_look() -> None:
    world = World()

    assert world.ledger.forget_before(PipelineKey("another"), before=YEAR_LATER, limit=10) == 0
    assert ArrivalState.HELD not in {values["state"] for values, _ in world.tables.rows["arrivals"].values()}


@pytest.mark.recipe("What the ledger has forgotten")
def test_a_backfill_further_back_than_the_ledger_remembers_scores_again() -> None:
    """The dry run counts them as new, which is what a person is told to look at."""
    world = make_old_world()
    world.workspace.models["main.tidegate.flight_delay", "champion"] = "7"
    for name in ("scored.parquet", "held.parquet"):
        world.inputs.put(make_blob(name), at=NOON)
    for _ in range(8):
        forget(world)
    world.clock.advance(timedelta(days=365))
    actor, body = Actor(name="ada"), {"pipeline": SCORING, "prefix": "flights/new/scored"}

    counted, _ = request_backfill(world.plane, json.dumps(body).encode(), actor)
    world.work()
    plan = show_backfill(world.plane, counted.id).plan
    request_backfill(world.plane, json.dumps({**body, "yes": True}).encode(), actor)
    world.settle_submissions()

    assert plan == Counts(new=1)
    assert len(world.databricks_runs()) == 2


BESIDE = ("request", "signal", "alert", "quarantined", "replay", "backfill")


def make_world_with_a_past() -> World:
    """Return a world that was asked and told of everything there is once."""
    world = World()
    world.deliver(make_blob("notes.txt"))
    ledger, someone = world.ledger, Actor(name="someone")
    for number in range(5):
        at = NOON + timedelta(seconds=number)
        ledger.claim_request(ClaimedRequest(request_id=f"key-{number}", requested_at=at, fingerprint="f"))
        ledger.record_quarantined(QuarantinedMessage(id=f"m{number}", queue="arrivals", at=at, reason="?", url="u"))
        run_id = RunId(f"{SCORING}-20260301T120000Z-{number:012x}")
        ledger.record_alert(
            Alert(kind=AlertKind.RUN_STALLED, pipeline=SCORING, at=at, detail="late", run_id=run_id, attempt=1)
        )
    arrival = world.arrivals()[0]
    replay(world.plane, f'{{"arrival": "{arrival.id}"}}'.encode(), idempotency_key="replay-1", actor=someone)
    receive_signal(world.plane, make_signal())
    return world


def test_a_key_stands_for_its_run_as_long_as_the_run_is_there() -> None:
    """A run that waits, while its pipeline is paused for one, is not made a second time under the same key."""
    world = World(pipelines=make_pipelines())
    world.inputs.put(make_blob())
    body = b'{"pipeline": "flight_delay_scoring"}'
    first = request_run(world.plane, body, idempotency_key="k")
    world.clock.advance(timedelta(days=70))
    for _ in range(8):
        forget(world, before=world.clock.now() - timedelta(days=61))

    assert request_run(world.plane, body, idempotency_key="k") == first
    assert len(world.runs()) == 1

    world.settle_submissions()
    world.finish(world.databricks_runs()[0])
    world.settle()
    world.clock.advance(timedelta(days=70))
    for _ in range(8):
        forget(world, before=world.clock.now() - timedelta(days=61))
    assert world.runs() == []
    assert not [partition for partition, _ in world.tables.rows["marks"] if partition.startswith("request.")]


def kinds_left(world: World) -> Counter[str]:
    rows = [*world.tables.rows["marks"], *world.tables.rows["operations"]]
    return Counter(kind for kind in (partition.partition(".")[0] for partition, _ in rows) if kind in BESIDE)


def test_what_was_asked_and_told_long_ago_is_removed_a_page_at_a_time() -> None:
    world = make_world_with_a_past()
    others = {place for place in world.tables.rows["marks"] if place[0].partition(".")[0] not in BESIDE}
    assert kinds_left(world) == {"request": 5, "alert": 5, "quarantined": 5, "replay": 1, "signal": 1}

    early = [world.ledger.forget_before(None, before=NOON - timedelta(days=1), limit=3) for _ in range(20)]
    steps = [world.ledger.forget_before(None, before=YEAR_LATER, limit=3) for _ in range(20)]

    assert sum(early) == 0
    assert kinds_left(world) == {}
    assert max(steps) <= 3 + 3 + 3  # of marks, of operations, of arrivals of no pipeline
    assert others <= set(world.tables.rows["marks"])


def test_a_backfill_that_goes_on_and_a_replay_that_was_cut_short_stay() -> None:
    """Whoever repeats them must find how far they came."""
    world = World()
    backfill = make_backfill()
    world.operations.claim_backfill(backfill)
    unfinished = Replay(id="a" * 64, target="arrival:x", actor="someone", requested_at=NOON)
    world.operations.claim_replay(unfinished)

    for _ in range(10):
        world.ledger.forget_before(None, before=YEAR_LATER, limit=50)

    assert kinds_left(world) == {"backfill": 1, "replay": 1}
    entry = world.operations.get_backfill(backfill.id)
    assert entry is not None
    world.operations.update_backfill(entry, replace(entry.value, state=BackfillState.DONE))
    for _ in range(10):
        world.ledger.forget_before(None, before=YEAR_LATER, limit=50)
    assert kinds_left(world) == {"replay": 1}
