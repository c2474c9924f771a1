"""Tests that each slot of a schedule starts at most one run, whatever timers, clocks and processes do."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import azure.functions as func
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from functions.core.errors import LedgerConflictError
from functions.core.model import JobKey
from functions.core.pipelines import Pipelines
from functions.core.pipelines_toml import parse_pipelines
from functions.ports import NotedSlot
from functions.services.reconcile import reconcile
from functions.services.schedule import fire_schedule
from functions.settings import parse_settings
from functions.triggers.timers import timer_functions
from tests.support.control_plane import PIPELINES_TOML, TRAINING, World, make_blob
from tests.support.fault_walk import CrashAt, FailAt, survive, walk_faults, work
from tests.support.in_memory import Faults
from tests.support.interleaving import Interleaving
from tests.unit.test_settings import APP, LOCAL


def make_pipelines(cron: str, missed: str = "latest", timezone: str | None = None) -> Pipelines:
    """Return the test pipelines with another schedule for training, whose runs do not wait for each other."""
    text = PIPELINES_TOML.replace('cron = "0 0 3 1 * *"', f'cron = "{cron}"').replace('"latest"', f'"{missed}"')
    if timezone is not None:
        text = text.replace(f'missed = "{missed}"', f'missed = "{missed}"\ntimezone = "{timezone}"')
    text = text.replace('concurrency = { policy = "queue" }', "concurrency = { max_active = 1000 }")
    for name, value in {
        "QUIET": "0",
        "MAX_WAIT": "0",
        "MAX_FILES": "10",
        "POLICY": "parallel",
        "MAX_ACTIVE": "9",
    }.items():
        text = text.replace(name, value)
    return parse_pipelines(text.encode(), file="t", known_jobs=[JobKey("training"), JobKey("scoring")])


def make_world(pipelines: Pipelines, at: str = "2026-03-01T12:00:00", faults: Faults | None = None) -> World:
    """Return a world at a time, with training data."""
    world = World(pipelines=pipelines, faults=faults or Faults())
    world.clock.advance(datetime.fromisoformat(at + "+00:00") - world.clock.now())
    world.inputs.put(replace(make_blob(), path="flights/history/a.parquet"))
    return world


def slots_run(world: World) -> list[str]:
    """Return the slots that have a run, in order, each as day and time in UTC."""
    return [f"{run.cause.at:%m-%d %H:%M}" for run in world.runs()]


def fire(world: World) -> None:
    fire_schedule(world.make_plane(), TRAINING, "monthly")


@pytest.mark.parametrize("missed", ["run", "latest", "skip"])
def test_a_timer_that_fires_again_is_told_of_the_run_that_there_is(missed: str) -> None:
    """R05: whatever becomes of missed slots, this one was dealt with."""
    world = make_world(make_pipelines("0 0 3 * * *", missed), "2026-03-02T03:00:01")

    first, again = (fire_schedule(world.make_plane(), TRAINING, "monthly") for _ in range(2))

    assert [outcome.what for outcome in again] == [f"run {world.runs()[0].id}"]
    assert first == again


def test_a_timer_that_fires_twice_early_and_late_means_one_slot() -> None:
    """R05: the slot comes from the schedule, never from the moment of the tick."""
    world = make_world(make_pipelines("0 0 3 * * *"), "2026-03-02T02:59:58.500000")

    for _ in range(3):
        fire(world)
        world.clock.advance(timedelta(seconds=90))
    world.work()

    assert slots_run(world) == ["03-02 03:00"]
    assert len(world.databricks_runs()) == 1


def test_a_timer_that_is_early_does_not_start_the_slot_before() -> None:
    """R05: what came before the schedule was first seen has no run, and it gets none a month later."""
    world = make_world(make_pipelines("0 0 3 1 * *"), "2026-03-15T12:00:00")
    reconcile(world.plane)
    world.clock.advance(datetime(2026, 4, 1, 2, 59, 56, tzinfo=UTC) - world.clock.now())

    fire(world)
    assert slots_run(world) == []

    world.clock.advance(timedelta(minutes=1))
    reconcile(world.make_plane())
    assert slots_run(world) == ["04-01 03:00"]


def test_a_slot_of_before_the_schedule_was_first_seen_is_run_if_a_person_fires_its_timer() -> None:
    world = make_world(make_pipelines("0 0 3 1 * *"), "2026-03-15T12:00:00")
    reconcile(world.plane)

    fire(world)

    assert slots_run(world) == ["03-01 03:00"]


def test_a_timer_that_is_early_does_not_repeat_a_slot_whose_run_is_forgotten() -> None:
    """R05: retention takes the run of a quarter before the next one is due; its slot stays dealt with."""
    world = make_world(make_pipelines("0 0 3 1 */3 *"), "2026-04-01T03:00:00")
    fire(world)
    world.work()
    world.finish(world.databricks_runs()[0])
    world.settle()
    world.clock.advance(datetime(2026, 7, 1, 2, 59, 56, tzinfo=UTC) - world.clock.now())
    for _ in range(7):  # two years of months a step
        world.ledger.forget_before(TRAINING, before=world.clock.now() - timedelta(days=61), limit=100)
    assert world.runs() == []

    fire(world)

    assert slots_run(world) == []


@pytest.mark.parametrize(
    ("missed", "slots"),
    [
        ("run", ["03-27 01:30", "03-28 01:30", "03-29 01:00", "03-30 00:30", "03-31 00:30"]),
        ("latest", ["03-31 00:30"]),
        ("skip", []),
    ],
)
def test_missed_slots_of_an_outage_over_a_change_of_the_clock(missed: str, slots: list[str]) -> None:
    """R05: half past two in Berlin: skipped on 29 March, when it comes due as the clock leaps."""
    world = make_world(make_pipelines("0 30 2 * * *", missed, "Europe/Berlin"), "2026-03-26T12:00:00")
    reconcile(world.plane)

    world.clock.advance(timedelta(days=5))
    for _ in range(3):
        reconcile(world.make_plane())

    assert slots_run(world) == slots


def test_the_repeated_hour_of_autumn_starts_a_daily_run_once() -> None:
    world = make_world(make_pipelines("0 30 2 * * *", "run", "Europe/Berlin"), "2026-10-24T12:00:00")
    for _ in range(2 * 24 * 4):
        reconcile(world.make_plane())
        world.clock.advance(timedelta(minutes=15))

    assert slots_run(world) == ["10-25 00:30", "10-26 01:30"]


def test_a_schedule_with_a_zone_is_the_reconcilers_and_has_no_timer() -> None:
    """A timer of the host knows UTC only; the reconciler comes by each minute and waits for no timer."""
    pipelines = make_pipelines("0 30 2 * * *", "latest", "America/New_York")
    app = func.FunctionApp()
    app.register_functions(timer_functions(parse_settings(LOCAL, app_dir=APP), pipelines))
    world = make_world(pipelines, "2026-06-01T06:29:00")
    reconcile(world.plane)

    world.clock.advance(timedelta(seconds=61))
    reconcile(world.plane)

    assert [found.get_function_name() for found in app.get_functions()] == ["reconciler", "sweep"]
    assert slots_run(world) == ["06-01 06:30"]


def test_no_missed_slot_is_left_out_however_many_there_are() -> None:
    """The policy to run each of them means each: what is too much for one pass comes in the next."""
    world = make_world(make_pipelines("0 0 * * * *", "run"))
    reconcile(world.plane)

    world.clock.advance(timedelta(days=10, minutes=1))
    for _ in range(4):
        reconcile(world.make_plane())

    assert len(slots_run(world)) == 240
    assert slots_run(world)[0] == "03-01 13:00"


@pytest.mark.parametrize("missed", ["run", "latest", "skip"])
def test_the_first_slot_of_another_timetable_has_none_before_it(missed: str) -> None:
    world = make_world(make_pipelines("0 0 3 * * *", missed), "2026-03-02T03:00:00")
    fire(world)

    world.pipelines = make_pipelines("0 15 * * * *", missed)
    world.clock.advance(timedelta(hours=12, minutes=15))
    fire(world)

    assert slots_run(world) == ["03-02 03:00", "03-02 15:15"]


@pytest.mark.parametrize(
    ("missed", "slots"), [("run", ["03-02 15:15", "03-02 16:15"]), ("latest", ["03-02 16:15"]), ("skip", [])]
)
def test_what_is_missed_is_counted_from_when_the_timetable_changed(missed: str, slots: list[str]) -> None:
    """Deploying does not run the past, and what is missed from then on follows the policy."""
    world = make_world(make_pipelines("0 0 3 * * *", missed), "2026-03-02T03:00:00")
    fire(world)

    world.pipelines = make_pipelines("0 15 * * * *", missed)
    world.clock.advance(timedelta(hours=12))
    reconcile(world.make_plane())
    world.clock.advance(timedelta(hours=2))
    reconcile(world.make_plane())

    assert slots_run(world) == ["03-02 03:00", *slots]


def test_a_later_timetable_that_names_the_slot_before_is_known_when_it_comes_due() -> None:
    """From daily to monthly: the month's first is behind the last day, and the next one is not lost."""
    world = make_world(make_pipelines("0 0 3 * * *", "run"), "2026-03-20T03:00:00")
    reconcile(world.plane)
    fire(world)

    world.pipelines = make_pipelines("0 0 3 1 * *", "run")
    world.clock.advance(timedelta(minutes=5))
    reconcile(world.make_plane())
    world.clock.advance(timedelta(days=65))
    reconcile(world.make_plane())

    assert slots_run(world) == ["03-20 03:00", "04-01 03:00", "05-01 03:00"]


def test_a_schedule_whose_slot_was_noted_by_an_earlier_release_goes_on() -> None:
    world = make_world(make_pipelines("0 0 3 * * *", "run"))
    before = NotedSlot(slot=datetime(2026, 2, 27, 3, tzinfo=UTC), timetable="")
    world.ledger.note_slot(TRAINING, "monthly", before, "done")

    reconcile(world.plane)

    assert slots_run(world) == ["02-28 03:00", "03-01 03:00"]


@pytest.mark.recipe("A clock jumped")
def test_a_clock_that_leapt_ahead_and_came_back_does_not_silence_a_schedule() -> None:
    """Left alone, a slot noted by a wrong clock would keep the schedule quiet for a year."""
    world = make_world(make_pipelines("0 0 3 * * *"))
    reconcile(world.plane)
    world.clock.advance(timedelta(days=365))
    reconcile(world.plane)
    world.clock.advance(-timedelta(days=365))
    reconcile(world.plane)

    for _ in range(2):
        world.clock.advance(timedelta(days=1))
        reconcile(world.plane)

    assert [f"{run.cause.at:%Y-%m-%d}" for run in world.runs()] == ["2026-03-02", "2026-03-03", "2027-03-01"]


def test_clocks_of_instances_that_differ_by_minutes_do_not_take_slots_back() -> None:
    world = make_world(make_pipelines("0 * * * * *"))
    fire(world)
    before = world.ledger.last_slot(TRAINING, "monthly")

    world.clock.advance(-timedelta(minutes=4))
    reconcile(world.plane)

    assert before is not None
    assert world.ledger.last_slot(TRAINING, "monthly") == before


steps = st.lists(
    st.tuples(
        st.sampled_from(["timer", "timer", "reconciler", "nothing"]),
        st.sampled_from([0, 1, 59, 61, 600, 3600, 4 * 3600, 26 * 3600, -30, -3600, -30 * 3600]),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(
    what=steps,
    cron=st.sampled_from(["0 0 3 * * *", "0 */30 * * * *", "0 30 2 * * *"]),
    missed=st.sampled_from(["run", "latest", "skip"]),
    zone=st.sampled_from([None, "Europe/Berlin", "Australia/Lord_Howe"]),
)
@example(what=[("timer", 26 * 3600), ("timer", -30 * 3600), ("timer", 0)], cron="0 0 3 * * *", missed="run", zone=None)
def test_no_slot_ever_starts_two_runs(what: list[tuple[str, int]], cron: str, missed: str, zone: str | None) -> None:
    """R05: however often timers fire, on whichever instance, and wherever clocks leap."""
    world = make_world(make_pipelines(cron, missed, zone), "2026-03-28T20:00:00")
    latest = world.clock.now()

    for act, seconds in what:
        if act == "timer":
            fire(world)
        elif act == "reconciler":
            reconcile(world.make_plane())
        world.work()
        world.clock.advance(timedelta(seconds=seconds))
        latest = max(latest, world.clock.now())

    schedule = world.pipelines.get(TRAINING).schedules[0]
    slots = [run.cause.at for run in world.runs()]
    assert all(schedule.timetable.last_until(slot) == slot for slot in slots)
    assert all(slot <= latest + timedelta(seconds=2) for slot in slots)
    assert set(Counter(slots).values()) <= {1}
    assert set(Counter(run.parameters["run_id"] for run in world.databricks_runs()).values()) <= {1}


@pytest.mark.parametrize("seed", range(10))
def test_instances_that_fire_at_once_start_one_run(seed: int) -> None:
    """R05: two timers and a reconciler deal with the same three missed slots, and one of them may die."""
    order = Interleaving(seed, deaths=1)
    world = make_world(make_pipelines("0 0 3 * * *", "run"), faults=order)
    reconcile(world.plane)
    world.clock.advance(timedelta(days=3))
    calls: list[Callable[[], object]] = [
        lambda: fire(world),
        lambda: fire(world),
        lambda: reconcile(world.make_plane()),
    ]

    order.run(calls)
    reconcile(world.plane)
    world.settle_submissions()

    assert [error for error in order.errors if not isinstance(error, LedgerConflictError)] == []
    assert slots_run(world) == ["03-02 03:00", "03-03 03:00", "03-04 03:00"]
    assert len(world.databricks_runs()) == 3


def an_outage_is_caught_up(world: World) -> tuple[list[str], list[str]]:
    for _ in range(2):
        survive(world, lambda: reconcile(world.plane))
    world.clock.advance(datetime(2026, 3, 4, 12, tzinfo=UTC) - world.clock.now())
    survive(world, lambda: fire_schedule(world.plane, TRAINING, "monthly"))
    for _ in range(4):
        work(world)
        survive(world, lambda: reconcile(world.plane))
        world.clock.advance(timedelta(seconds=20))
    started = sorted(run.parameters["run_id"] + run.parameters["attempt"] for run in world.databricks_runs())
    return slots_run(world), started


@pytest.mark.parametrize("fault", [CrashAt, FailAt], ids=["process dies", "call fails"])
def test_a_fault_anywhere_leaves_one_run_per_missed_slot(fault: type[CrashAt] | type[FailAt]) -> None:
    (slots, started), points = walk_faults(
        an_outage_is_caught_up, lambda faults: make_world(make_pipelines("0 0 3 * * *", "run"), faults=faults), fault
    )

    assert points >= 15
    assert slots == ["03-02 03:00", "03-03 03:00", "03-04 03:00"]
    assert len(started) == 3
