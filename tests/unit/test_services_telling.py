"""Tests that people are told once a pipeline and day that a budget holds its work back."""

from datetime import date, timedelta
from typing import cast

import pytest

from functions.core.alerts import Alert, AlertKind
from functions.core.errors import PublicationError
from functions.core.model import RunId, RunState
from functions.core.reasons import HoldReason
from functions.services.complete import complete
from functions.services.health import check_health
from functions.services.reconcile import reconcile
from functions.services.requests import request_run
from tests.support.control_plane import SCORING, TRAINING, World, make_blob, make_pipelines
from tests.support.fault_walk import CrashAt, FailAt, settle, survive, walk_faults, work
from tests.support.in_memory import Faults
from tests.support.training import TRAIN, with_training_data


def let_pass(world: World, *, minutes: int) -> None:
    for _ in range(minutes):
        world.work()
        reconcile(world.plane)
        world.clock.advance(timedelta(minutes=1))


def test_a_spent_budget_is_told_once_a_day() -> None:
    """R77: an event of its own type, an alert, and what health shows; over many looks, files and processes."""
    world = World(pipelines=make_pipelines(budget=1))
    for name in ("a", "b", "c"):
        world.deliver(make_blob(f"{name}.parquet"))
        let_pass(world, minutes=2)
    world.plane = world.make_plane()
    let_pass(world, minutes=5)

    (event,) = world.publisher.held
    assert (event.id, event.type) == (f"{SCORING}.2026-03-01.held", "tidegate.pipeline.held")
    assert (event.reason, event.begun, event.max_runs_per_day) == (HoldReason.BUDGET_SPENT, 1, 1)
    (alert,) = [fields for name, fields in world.telemetry.alerts if name == "budget_spent"]
    assert (alert["pipeline"], alert["reason"]) == (SCORING, "budget_spent")
    health = check_health(world.plane)
    assert health.is_green
    assert health.to_public_json(with_details=True)["held"] == [
        {"pipeline": SCORING, "reason": "budget_spent", "sentence": HoldReason.BUDGET_SPENT.sentence}
    ]
    assert [(shown["kind"], shown["pipeline"], shown["run_id"]) for shown in _alerts(world)] == [
        ("budget_spent", SCORING, None)
    ]
    assert ": 1 began on 2026-03-01, of 1;" in str(_alerts(world)[0]["detail"])
    assert "held" not in health.to_public_json(with_details=False)


@pytest.mark.parametrize(("raised", "shown", "more"), [(0, 0, 0), (50, 50, 0), (51, 50, 1), (1200, 50, 950)])
def test_health_shows_fifty_alerts_and_says_how_many_there_are_more(raised: int, shown: int, more: int) -> None:
    """It stopped at fifty as if that were all; it counts to a thousand."""
    world = World()
    now = world.clock.now()
    for number in range(raised):
        at = now - timedelta(seconds=number)
        run = RunId(f"{SCORING}-20260301T120000Z-{number:012x}")
        alert = Alert(kind=AlertKind.RUN_STALLED, pipeline=SCORING, at=at, detail="open", run_id=run, attempt=1)
        world.ledger.record_alert(alert)

    document = check_health(world.plane).to_public_json(with_details=True)

    listed = cast("list[dict[str, object]]", document["alerts"])
    assert (len(listed), document["more_alerts"]) == (shown, more)
    assert [alert["at"] for alert in listed] == sorted((str(alert["at"]) for alert in listed), reverse=True)


def _alerts(world: World) -> list[dict[str, object]]:
    shown = check_health(world.plane).to_public_json(with_details=True)["alerts"]
    assert isinstance(shown, list)
    return shown


def test_a_spent_budget_of_all_is_an_alert_of_its_own_kind() -> None:
    """An alert rule, and whoever reads docs/operations.md, tell the two apart by the kind."""
    world = World(pipelines=make_pipelines(max_files=1, limits="max_runs_per_day = 1"))
    for name in ("a", "b"):
        world.deliver(make_blob(f"{name}.parquet"))
    let_pass(world, minutes=2)

    assert [name for name, _ in world.telemetry.alerts] == ["total_budget_spent"]
    assert [shown["kind"] for shown in _alerts(world)] == ["total_budget_spent"]


def test_the_next_day_is_told_anew() -> None:
    world = World(pipelines=make_pipelines(budget=1, max_files=1))
    for name in ("a", "b", "c"):
        world.deliver(make_blob(f"{name}.parquet"))

    world.clock.advance(timedelta(days=1))
    let_pass(world, minutes=2)

    assert [event.day for event in world.publisher.held] == [date(2026, 3, 1), date(2026, 3, 2)]
    assert len(world.databricks_runs()) == 2


def test_nothing_is_told_while_nothing_waits() -> None:
    world = World(pipelines=make_pipelines(budget=1))
    world.deliver(make_blob())
    let_pass(world, minutes=3)

    assert world.publisher.held == []


def test_the_budget_of_all_is_told_for_each_pipeline_that_waits() -> None:
    world = with_training_data(World(pipelines=make_pipelines(limits="max_runs_per_day = 1")))
    world.deliver(make_blob("a.parquet"))
    world.deliver(make_blob("b.parquet"))
    request_run(world.plane, TRAIN, idempotency_key="a")
    let_pass(world, minutes=2)

    assert {(event.pipeline, event.reason) for event in world.publisher.held} == {
        (SCORING, HoldReason.TOTAL_BUDGET_SPENT),
        (TRAINING, HoldReason.TOTAL_BUDGET_SPENT),
    }
    assert len(world.publisher.held) == 2


class Down(Faults):
    """An Event Grid that does not answer."""

    is_down = True

    def before(self, call: str) -> None:
        if self.is_down and call == "publisher.publish":
            raise PublicationError("publishing", "503")


def test_what_the_topic_did_not_take_is_told_later() -> None:
    faults = Down()
    world = World(pipelines=make_pipelines(budget=1), faults=faults)
    for name in ("a", "b"):
        world.deliver(make_blob(f"{name}.parquet"))
    let_pass(world, minutes=2)

    faults.is_down = False
    let_pass(world, minutes=2)

    assert len(world.publisher.held) == 1


def test_our_own_announcement_comes_back_and_changes_nothing() -> None:
    world = World(pipelines=make_pipelines(budget=1))
    taken_in: list[str] = []
    world.publisher.on_publish = lambda event: taken_in.append(complete(world.plane, event.to_json()))
    for name in ("a", "b"):
        world.deliver(make_blob(f"{name}.parquet"))

    assert taken_in == ["our own announcement of work that is held, which the ledger has"]
    assert [run.state for run in world.runs()] == [RunState.SUBMITTED]


def go_on(world: World, time: timedelta) -> None:
    """Let every notebook finish, and time pass."""
    work(world)
    for run in world.databricks_runs():
        if run.status.verdict.is_open:
            world.publish_scores(run)
            world.finish(run, reports=False)
    world.clock.advance(time)
    survive(world, lambda: reconcile(world.plane))


def days_of_files(world: World) -> tuple[object, ...]:
    for name in ("a", "b", "c"):
        survive(world, lambda name=name: world.deliver(make_blob(f"{name}.parquet")))  # type: ignore[misc] # bound now
        go_on(world, timedelta(minutes=2))
    for _ in range(2):
        go_on(world, timedelta(days=1))
        go_on(world, timedelta(minutes=2))
    settle(world)
    # A batch that a crash made smaller than it was decided keeps its id, so runs are compared without their names.
    runs = sorted((run.arrival_count, run.attempt, str(run.state), str(run.outcome)) for run in world.runs())
    turnstile = world.turnstile()
    told = tuple(sorted({event.id for event in world.publisher.held}))
    return runs, told, turnstile.seats, dict(turnstile.begun), len(world.databricks_runs())


def test_a_fault_anywhere_spends_and_tells_the_same() -> None:
    """I6: nothing is counted twice, no seat is left, and everyone is told all the same."""
    for fault in (CrashAt, FailAt):
        (runs, told, seats, begun, started), points = walk_faults(
            days_of_files, lambda faults: World(pipelines=make_pipelines(budget=1), faults=faults), fault
        )

        assert points > 30
        assert runs == [(1, 1, "ended", "completed"), (2, 1, "ended", "completed")]
        assert told == (f"{SCORING}.2026-03-01.held",)
        assert (seats, begun, started) == ((), {SCORING: 1}, 2)
