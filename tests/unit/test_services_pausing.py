"""Tests that a paused pipeline starts nothing, loses nothing, and goes on in order when it resumes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.core.access import Actor
from functions.core.errors import InvalidRequestError, LedgerConflictError, UnknownPipelineError
from functions.core.manifest import InputManifest
from functions.core.model import ArrivalState, JobKey, Outcome, PipelineKey, RunState
from functions.core.pipelines import Pipelines
from functions.core.pipelines_toml import parse_pipelines
from functions.core.reasons import HoldReason
from functions.core.turnstile import EVERY
from functions.core.turnstile_requests import parse_allowance_request, parse_pause_request
from functions.services.arrive import arrive
from functions.services.closing import close_pipeline_batch
from functions.services.health import check_health
from functions.services.pausing import allow_runs, list_pipelines, pause_pipeline, resume_pipeline, show_pipeline
from functions.services.reconcile import reconcile
from functions.services.requests import request_run
from functions.services.schedule import fire_schedule
from tests.support.control_plane import (
    PIPELINES_TOML,
    SCORING,
    TRAINING,
    World,
    blob_message,
    make_blob,
    make_pipelines,
)
from tests.support.fault_walk import CrashAt, FailAt, settle, survive, walk_faults, work
from tests.support.in_flight import finish_all, in_flight
from tests.support.in_memory import Faults
from tests.support.interleaving import Interleaving
from tests.support.training import TRAIN, with_training_data

ADA, BOB = Actor(name="ada"), Actor(name="bob")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def minutes_pass(world: World, minutes: int) -> None:
    for _ in range(minutes):
        world.work()
        reconcile(world.plane)
        world.clock.advance(timedelta(minutes=1))


def deliver_in_disorder(world: World) -> list[str]:
    """Deliver five files whose events are not in the order of their delivery; return their names in event order."""
    for second in (3, 1, 5, 2, 4):
        world.deliver(make_blob(f"{second}.parquet"), at=NOON + timedelta(seconds=second))
    return [f"flights/new/{second}.parquet" for second in (1, 2, 3, 4, 5)]


@pytest.mark.parametrize("paused", [SCORING, EVERY])
def test_a_paused_pipeline_holds_its_events_and_releases_them_in_order(paused: PipelineKey) -> None:
    """R76: none is lost, none overtakes another, however long it takes."""
    world = World(pipelines=make_pipelines(max_files=1, policy="queue"))
    pause_pipeline(world.plane, paused, ADA, reason="the schema changes")
    in_order = deliver_in_disorder(world)
    minutes_pass(world, 30)
    while_paused = len(world.databricks_runs())

    resume_pipeline(world.plane, paused, BOB)
    finish_all(world, lambda world: None)

    assert while_paused == 0
    started = [run.parameters["manifest_url"] for run in world.databricks_runs()]
    files = [InputManifest.from_bytes(world.manifests.blobs[url]).files[0].blob.path for url in started]
    assert files == in_order
    assert {run.outcome for run in world.runs()} == {Outcome.COMPLETED}


def test_resuming_starts_at_once_without_waiting_for_the_reconciler() -> None:
    world = World()
    pause_pipeline(world.plane, SCORING, ADA)
    world.deliver(make_blob())
    minutes_pass(world, 5)

    resume_pipeline(world.plane, SCORING, ADA)
    world.work()

    assert len(world.databricks_runs()) == 1


def test_a_pause_is_seen_by_every_process_that_remembers_another_turnstile() -> None:
    """Exactly: whoever takes a seat writes the row, and the row has moved on."""
    world = World()
    world.deliver(make_blob("a.parquet"))
    remembering = world.plane
    pause_pipeline(world.make_plane(), SCORING, ADA)

    arrive(remembering, blob_message(make_blob("b.parquet")))

    assert len(world.databricks_runs()) == 1
    assert world.arrival(make_blob("b.parquet")).state in {ArrivalState.HELD, ArrivalState.ASSIGNED}
    resume_pipeline(remembering, SCORING, ADA)
    world.settle_submissions()
    assert len(world.databricks_runs()) == 2


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), deaths=st.integers(0, 2))
def test_nothing_starts_after_a_pause_was_answered(seed: int, deaths: int) -> None:
    """While six files arrive at once, someone pauses: what was not let through by then starts after the resumption."""
    order = Interleaving(seed, deaths=deaths)
    world = World(pipelines=make_pipelines(), faults=order)
    names = [f"{index}.parquet" for index in range(6)]
    let_through: list[set[str]] = []

    def pause() -> None:
        pause_pipeline(world.make_plane(), SCORING, ADA)
        let_through.append({seat.run_id for seat in world.turnstile().seats})

    order.run(
        [
            *[lambda name=name: arrive(world.make_plane(), blob_message(make_blob(name))) for name in names],
            pause,
        ]
    )
    if not let_through:  # whoever paused died, and asks again
        pause()
    for name in names:
        world.deliver(make_blob(name))
    minutes_pass(world, 5)
    while_paused = {run.parameters["run_id"] for run in world.databricks_runs()}
    resume_pipeline(world.plane, SCORING, ADA)
    finish_all(world, lambda world: None)

    assert while_paused <= let_through[0]
    assert [error for error in order.errors if not isinstance(error, LedgerConflictError)] == []
    assert {world.arrival(make_blob(name)).state for name in names} == {ArrivalState.SCORED}


def test_a_request_to_a_paused_pipeline_is_accepted_and_held() -> None:
    world = with_training_data(World())
    pause_pipeline(world.plane, TRAINING, ADA)

    run = request_run(world.plane, TRAIN, idempotency_key="a", actor=ADA)
    minutes_pass(world, 20)
    held = [item.state for item in world.runs()]
    resume_pipeline(world.plane, TRAINING, ADA)
    world.work()

    assert held == [RunState.DECIDED]
    assert [item.id for item in world.runs()] == [run.id]  # type: ignore[union-attr] # a run, not a refusal
    assert len(world.databricks_runs()) == 1


def with_policy(missed: str) -> Pipelines:
    text = PIPELINES_TOML.replace('missed = "latest"', f'missed = "{missed}"').replace("0 0 3 1 * *", "0 0 * * * *")
    for name, value in {
        "QUIET": "0",
        "MAX_WAIT": "0",
        "MAX_FILES": "9",
        "POLICY": "parallel",
        "MAX_ACTIVE": "9",
    }.items():
        text = text.replace(name, value)
    return parse_pipelines(text.encode(), file="pipelines.toml", known_jobs=[JobKey("training"), JobKey("scoring")])


@pytest.mark.parametrize(("missed", "slots"), [("run", [13, 14, 15]), ("latest", [15]), ("skip", [])])
@pytest.mark.parametrize("is_known", [True, False], ids=["known before", "first seen while paused"])
def test_slots_that_come_due_while_paused_follow_the_policy_of_missed_ones(
    missed: str, slots: list[int], *, is_known: bool
) -> None:
    """A pause is to a schedule what an outage is."""
    world = with_training_data(World(pipelines=with_policy(missed)))
    if is_known:
        reconcile(world.plane)
    world.clock.advance(timedelta(minutes=50))
    pause_pipeline(world.plane, TRAINING, ADA)
    for _ in range(3):
        world.clock.advance(timedelta(minutes=10))
        fire_schedule(world.plane, TRAINING, "monthly")
        world.clock.advance(timedelta(minutes=1))
        reconcile(world.plane)
        world.clock.advance(timedelta(minutes=49))
    while_paused = len(world.runs())

    resume_pipeline(world.plane, TRAINING, ADA)
    reconcile(world.plane)

    assert while_paused == 0
    assert [run.cause.at.hour for run in world.runs()] == slots


def test_what_was_let_through_goes_on_and_is_confirmed() -> None:
    world = World()
    world.deliver(make_blob())
    acted = pause_pipeline(world.plane, SCORING, ADA)

    world.finish(world.databricks_runs()[0])
    world.settle()

    assert acted.did == ("paused pipeline flight_delay_scoring",)
    assert acted.did_not == ("left 1 run(s) alone that were let through before",)
    assert world.runs()[0].outcome is Outcome.COMPLETED


def test_a_pause_reads_one_row_a_look_and_no_index() -> None:
    """A pipeline may hold many files for days: a look must cost the same whatever it holds."""
    world = World()
    pause_pipeline(world.plane, SCORING, ADA)
    for index in range(20):
        world.deliver(make_blob(f"{index}.parquet"))
    world.clock.advance(timedelta(minutes=1))
    before = world.tables.partitions.copy()

    close_pipeline_batch(world.plane, SCORING)

    assert dict(world.tables.partitions - before) == {
        ("marks", "turnstile"): 2
    }  # remembered, then read before it counts


def test_pausing_and_resuming_twice_says_what_it_did_not_do() -> None:
    world = World()

    first = pause_pipeline(world.plane, SCORING, ADA, reason="the schema changes")
    world.clock.advance(timedelta(hours=1))
    second = pause_pipeline(world.plane, SCORING, BOB, reason="another")
    resumed = resume_pipeline(world.plane, SCORING, BOB)
    again = resume_pipeline(world.plane, SCORING, BOB)

    told = "by ada since 2026-03-01 12:00:00 UTC (the schema changes)"
    assert first.did == ("paused pipeline flight_delay_scoring",)
    assert (second.did, second.did_not) == (
        (),
        (f"paused nothing: pipeline flight_delay_scoring is paused already, {told}",),
    )
    assert resumed.did == (f"resumed pipeline flight_delay_scoring, paused {told}", "had the dispatcher look")
    assert again.did_not == ("resumed nothing: pipeline flight_delay_scoring was not paused",)
    assert [span.fields["by"] for span in world.telemetry.spans if span.name == "operator"] == ["ada", "bob"]


def test_of_all_pipelines_is_spoken_in_the_plural() -> None:
    world = World()

    pause_pipeline(world.plane, EVERY, ADA)
    second = pause_pipeline(world.plane, EVERY, BOB)
    resume_pipeline(world.plane, EVERY, BOB)
    again = resume_pipeline(world.plane, EVERY, BOB)

    assert second.did_not[0].startswith("paused nothing: all pipelines are paused already, by ada")
    assert again.did_not == ("resumed nothing: all pipelines were not paused",)


def test_of_two_who_say_the_same_at_once_one_is_told_that_it_was_so_already() -> None:
    class Rival(Faults):
        act: Callable[[], object] | None = None

        def before(self, call: str) -> None:
            if call == "tables.marks.replace" and self.act is not None:
                act, self.act = self.act, None
                act()

    rival = Rival()
    world = World(faults=rival)
    pause_pipeline(world.plane, SCORING, BOB)

    rival.act = lambda: resume_pipeline(world.make_plane(), SCORING, BOB)
    resumed = resume_pipeline(world.plane, SCORING, BOB)
    rival.act = lambda: allow_runs(world.make_plane(), SCORING, 7, BOB)
    allowed = allow_runs(world.plane, SCORING, 7, BOB)

    assert (resumed.did, allowed.did) == (("had the dispatcher look",), ("had the dispatcher look",))
    assert resumed.did_not == (f"resumed nothing: pipeline {SCORING} was not paused",)
    assert allowed.did_not[0].startswith("changed nothing: 7 run(s) were allowed")


def test_resuming_one_while_all_are_paused_says_that_it_stays_so() -> None:
    world = World()
    pause_pipeline(world.plane, SCORING, ADA)
    pause_pipeline(world.plane, EVERY, ADA)

    acted = resume_pipeline(world.plane, SCORING, ADA)

    why = "all pipelines are paused, by ada since 2026-03-01 12:00:00 UTC"
    assert acted.did_not == (f"started nothing of pipeline flight_delay_scoring: {why}",)
    assert show_pipeline(world.plane, SCORING).to_json()["are_all_paused"] is True


def test_a_pipeline_that_was_removed_while_paused_can_be_resumed() -> None:
    world = World()
    pause_pipeline(world.plane, SCORING, ADA)
    training_only = Pipelines(pipelines=world.pipelines.pipelines[:1], version="x", limits=world.pipelines.limits)
    world.pipelines = training_only
    plane = world.make_plane()

    listed = [status.pipeline for status in list_pipelines(plane)]
    resume_pipeline(plane, SCORING, ADA)

    assert listed == [EVERY, TRAINING, SCORING]
    assert world.turnstile().pauses == ()
    with pytest.raises(UnknownPipelineError, match="known pipelines: all, flight_delay_training"):
        pause_pipeline(plane, SCORING, ADA)


def test_a_list_tells_what_is_done_and_what_waits() -> None:
    world = World(pipelines=make_pipelines(policy="queue", budget=5, limits="max_in_flight = 7"))
    world.deliver(make_blob("a.parquet"))
    world.deliver(make_blob("b.parquet"))
    pause_pipeline(world.plane, TRAINING, ADA, reason="costs")

    every, training, scoring = (status.to_json() for status in list_pipelines(world.plane))

    assert (every["in_flight"], every["max_in_flight"], every["begun_today"], every["waits"]) == (1, 7, 1, None)
    assert (training["is_paused"], training["paused_by"], training["pause_reason"]) == (True, "ada", "costs")
    assert training["waits"] == "paused"
    assert (scoring["waits"], scoring["held_arrivals"]) == ("at_capacity", 1)
    assert (scoring["begun_today"], scoring["max_runs_today"]) == (1, 5)
    assert check_health(world.plane).held == ((TRAINING, HoldReason.PAUSED),)


def test_a_person_lets_more_through_today_and_tomorrow_is_as_configured() -> None:
    """R77."""
    world = World(pipelines=make_pipelines(budget=1, max_files=1))
    for name in ("a", "b", "c"):
        world.deliver(make_blob(f"{name}.parquet"))
    minutes_pass(world, 2)
    spent = len(world.databricks_runs())

    acted = allow_runs(world.plane, SCORING, 2, ADA)
    repeated = allow_runs(world.plane, SCORING, 2, ADA)
    world.work()
    allowed = len(world.databricks_runs())
    world.clock.advance(timedelta(days=1))
    minutes_pass(world, 2)

    assert (spent, allowed, len(world.databricks_runs())) == (1, 2, 3)
    assert acted.did[0] == "allowed pipeline flight_delay_scoring 2 run(s) on 2026-03-01, of which 1 began"
    assert repeated.did_not[0] == "changed nothing: 2 run(s) were allowed on 2026-03-01 already"


def test_a_person_may_stop_a_day_by_allowing_nothing_more() -> None:
    world = World()

    acted = allow_runs(world.plane, EVERY, 0, ADA)
    world.deliver(make_blob())

    assert acted.did_not == (f"started nothing of all pipelines: {HoldReason.TOTAL_BUDGET_SPENT.sentence}",)
    assert world.databricks_runs() == []
    assert world.arrival(make_blob()).state is ArrivalState.HELD


def pause_and_resume(world: World) -> tuple[object, ...]:
    survive(world, lambda: world.deliver(make_blob("a.parquet")))
    survive(world, lambda: pause_pipeline(world.plane, SCORING, ADA))
    for name in ("b", "c"):
        survive(world, lambda name=name: world.deliver(make_blob(f"{name}.parquet")))  # type: ignore[misc] # bound now
    for _ in range(3):
        work(world)
        world.clock.advance(timedelta(minutes=2))
        survive(world, lambda: reconcile(world.plane))
    survive(world, lambda: resume_pipeline(world.plane, SCORING, ADA))
    for _ in range(4):
        work(world)
        survive(world, lambda: reconcile(world.plane))
        for run in in_flight(world):
            world.publish_scores(run)
            world.finish(run, reports=False)
        world.clock.advance(timedelta(minutes=2))
    settle(world)
    files = sorted(run.arrival_count for run in world.runs())
    states = {world.arrival(make_blob(f"{name}.parquet")).state for name in "abc"}
    return sum(files), states, {run.outcome for run in world.runs()}, world.turnstile().seats, world.turnstile().pauses


def test_a_fault_anywhere_loses_nothing() -> None:
    """I6: around every effect of pausing, holding and resuming."""
    for fault in (CrashAt, FailAt):
        undisturbed, points = walk_faults(pause_and_resume, lambda faults: World(faults=faults), fault)

        assert points > 20
        assert undisturbed == (3, {ArrivalState.SCORED}, {Outcome.COMPLETED}, (), ())


@pytest.mark.parametrize(
    ("body", "mistakes"),
    [
        (b"{", ["body: got 1 bytes, expected JSON in UTF-8, or nothing"]),
        (b"[]", [": got a list of 0, expected an object"]),
        (b'{"why": 1}', ["why: got an unknown key, expected one of by, reason"]),
        (b'{"reason": 1, "by": "a\\nb"}', ["by: got 'a\\nb'", "reason: got 1, expected text"]),
        (b'{"reason": "%s"}' % (b"x" * 501), ["reason: got"]),
        (b" " * 20_000, ["body: got 20000 bytes"]),
    ],
)
def test_every_mistake_in_a_pause_is_listed(body: bytes, mistakes: list[str]) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_pause_request(body)

    found = [str(problem) for problem in refused.value.problems]
    assert len(found) == len(mistakes)
    assert all(text.startswith(mistake) for text, mistake in zip(found, mistakes, strict=True))


def mistakes_in(body: bytes, parse: Callable[[bytes], object]) -> list[str] | None:
    """Return what is wrong with a body, None if nothing is."""
    try:
        parse(body)
    except InvalidRequestError as refused:
        return [str(problem) for problem in refused.problems]
    return None


@given(body=st.binary(max_size=60))
def test_whatever_is_sent_is_read_or_refused(body: bytes) -> None:
    """Nothing else comes out of it, and a refusal says what is wrong."""
    assert mistakes_in(body, parse_pause_request) != []
    assert mistakes_in(body, parse_allowance_request) != []


@pytest.mark.parametrize("body", [b"", b"{}", b'{"runs_today": -1}', b'{"runs_today": 1.5}', b'{"runs_today": true}'])
def test_an_allowance_is_a_whole_number(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="runs_today"):
        parse_allowance_request(body)
