"""Tests that an attempt past its SLA is announced once, wherever it stands and whatever breaks meanwhile."""

from dataclasses import dataclass
from datetime import timedelta

import pytest

from functions.core.access import Actor
from functions.core.errors import PublicationError, UnknownJobError
from functions.core.model import JobKey, Outcome, RunState
from functions.core.pipelines_toml import parse_pipelines
from functions.services.changes import read_run
from functions.services.complete import complete
from functions.services.ending import settle_run
from functions.services.health import check_health
from functions.services.reconcile import reconcile
from functions.services.retry import retry_run
from tests.support.control_plane import PIPELINES_TOML, World, make_blob, make_pipelines
from tests.support.fault_walk import CrashAt, FailAt, settle, survive, walk_faults
from tests.support.in_memory import Faults
from tests.support.interleaving import Interleaving

SLA = timedelta(minutes=90)


def make_world(faults: Faults | None = None) -> World:
    """Return a world whose scoring pipeline has an SLA of ninety minutes."""
    text = PIPELINES_TOML.replace("retry = { max_attempts = 3 }", "sla = { stalled_after_minutes = 90 }")
    for name, value in {
        "QUIET": "0",
        "MAX_WAIT": "0",
        "MAX_FILES": "10",
        "POLICY": "parallel",
        "MAX_ACTIVE": "9",
    }.items():
        text = text.replace(name, value)
    pipelines = parse_pipelines(text.encode(), file="t", known_jobs=[JobKey("training"), JobKey("scoring")])
    return World(pipelines=pipelines, faults=faults or Faults())


def stall_ids(world: World) -> list[str]:
    return [event.id for event in world.publisher.stalls]


def test_an_attempt_past_its_pipelines_sla_is_announced_once() -> None:
    """R54: with its own event; the run stays open, and the alert is where people look."""
    world = make_world()
    world.deliver(make_blob())
    (run,) = world.runs()
    decided_at = world.clock.now()
    world.clock.advance(SLA)
    reconcile(world.plane)
    at_the_limit = stall_ids(world)

    for _ in range(3):
        world.clock.advance(timedelta(minutes=1))
        reconcile(world.plane)

    (event,) = world.publisher.stalls
    assert at_the_limit == []
    assert (event.id, event.type) == (f"{run.id}.1.stalled", "tidegate.scoring.stalled")
    assert (event.since, event.stalled_after_minutes, event.state) == (decided_at, 90, RunState.SUBMITTED)
    assert world.runs()[0].state is RunState.SUBMITTED
    assert world.publisher.published == []
    assert [name for name, _ in world.telemetry.alerts] == ["run_stalled"]
    (shown,) = check_health(world.plane).alerts
    assert (shown.kind, shown.run_id) == ("run_stalled", run.id)


def test_a_run_within_its_sla_costs_no_look_at_its_row() -> None:
    """The reconciler asks for the rows of active runs only once they may be stalled."""
    world = make_world()
    world.deliver(make_blob())
    reconcile(world.plane)
    before = world.tables.calls.counts["tables.runs.get"]

    reconcile(world.plane)

    assert world.tables.calls.counts["tables.runs.get"] == before


def test_a_pipeline_without_an_sla_has_a_day() -> None:
    world = World(pipelines=make_pipelines())
    world.deliver(make_blob())
    world.clock.advance(timedelta(hours=24))
    reconcile(world.plane)
    early = len(world.publisher.stalls)

    world.clock.advance(timedelta(minutes=1))
    reconcile(world.plane)

    assert (early, len(world.publisher.stalls)) == (0, 1)


def test_a_run_that_cannot_be_submitted_is_announced_as_stalled_too() -> None:
    """A missing job keeps it from Databricks; the SLA is the user's, not Databricks'."""
    world = make_world()
    world.workspace.jobs.clear()
    world.deliver(make_blob())
    world.clock.advance(SLA + timedelta(minutes=1))

    assert reconcile(world.plane)[UnknownJobError.__name__] == 1

    (event,) = world.publisher.stalls
    assert (event.state, event.databricks_run_id) == (RunState.SUBMITTING, None)


def test_a_run_that_has_ended_meanwhile_is_not_announced_as_stalled() -> None:
    """A reconciler that was away for a day asks Databricks before it complains."""
    world = make_world()
    world.deliver(make_blob())
    (run,) = world.databricks_runs()
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")

    world.clock.advance(timedelta(days=1))
    reconcile(world.plane)

    assert stall_ids(world) == []
    assert [event.outcome for event in world.publisher.published] == [Outcome.FAILED]


def test_each_attempt_has_its_own_sla() -> None:
    world = make_world()
    world.deliver(make_blob())
    (first,) = world.databricks_runs()
    world.clock.advance(SLA + timedelta(minutes=1))
    reconcile(world.plane)
    world.end_databricks_run(first.id, "TERMINATED", "CANCELED", "USER_CANCELED")
    world.settle()

    retry_run(world.plane, world.runs()[0].id, Actor(name="ann"))
    world.settle_submissions()
    within = len(world.publisher.stalls)
    world.clock.advance(SLA + timedelta(minutes=1))
    reconcile(world.plane)

    (run,) = world.runs()
    assert within == 1
    assert stall_ids(world) == [f"{run.id}.1.stalled", f"{run.id}.2.stalled"]


def test_our_own_stalled_event_comes_back_and_changes_nothing() -> None:
    """The completions queue gets every event of the topic."""
    world = make_world()
    world.deliver(make_blob())
    world.clock.advance(SLA + timedelta(minutes=1))
    reconcile(world.plane)
    before = world.runs()

    complete(world.plane, world.publisher.stalls[0].to_json())

    assert world.runs() == before
    assert world.quarantine.documents == {}


class TopicDown(Faults):
    """Refuses to publish while it is told to."""

    is_down = False

    def before(self, call: str) -> None:
        if call == "publisher.publish" and self.is_down:
            raise PublicationError("publishing", "ServiceUnavailable")


def test_a_stall_that_the_topic_did_not_take_leaves_before_the_end() -> None:
    """The run ends while the topic is down: both events are owed, and the stall comes first."""
    topic = TopicDown()
    world = make_world(topic)
    world.deliver(make_blob())
    (run,) = world.databricks_runs()
    topic.is_down = True
    world.clock.advance(SLA + timedelta(minutes=1))
    reconcile(world.plane)
    world.end_databricks_run(run.id, "TERMINATED", "TIMEDOUT", "CANCELED")
    reconcile(world.plane)
    owed = [run.is_story_over for run in world.runs()]
    order: list[str] = []
    world.publisher.on_publish = lambda event: order.append(event.type)

    topic.is_down = False
    reconcile(world.plane)
    reconcile(world.plane)

    assert owed == [False]
    assert order == ["tidegate.scoring.stalled", "tidegate.scoring.timed_out"]
    assert world.runs()[0].is_story_over
    assert not world.tables.rows["open"]


def test_who_publishes_a_stall_begins_no_attempt_beside_the_one_that_a_rival_began_meanwhile() -> None:
    """I2: the next attempt is at Databricks already, and nothing was judged of it."""
    topic = TopicDown()
    world = World(faults=topic)  # a day is its SLA
    world.deliver(make_blob())
    (started,) = world.databricks_runs()
    topic.is_down = True
    world.clock.advance(timedelta(days=1, minutes=1))
    reconcile(world.plane)
    world.end_databricks_run(started.id, "TERMINATED", "FAILED", "CLUSTER_ERROR")
    topic.is_down = False

    def rival(_: object) -> None:
        world.publisher.on_publish = lambda _: None
        world.plane = world.make_plane()
        reconcile(world.plane)
        world.clock.advance(timedelta(seconds=20))
        world.work()

    world.publisher.on_publish = rival
    settle_run(world.make_plane(), read_run(world.ledger, world.runs()[0].id))
    world.settle_submissions()

    assert (world.runs()[0].attempt, world.runs()[0].state) == (2, RunState.SUBMITTED)
    assert len(world.databricks_runs()) == 2


def test_a_stall_is_owed_even_when_the_notebook_announced_its_end_itself() -> None:
    topic = TopicDown()
    world = make_world(topic)
    world.deliver(make_blob())
    (run,) = world.databricks_runs()
    topic.is_down = True
    world.clock.advance(SLA + timedelta(minutes=1))
    reconcile(world.plane)
    world.finish(run)
    world.clock.advance(timedelta(seconds=5))
    world.work()
    topic.is_down = False

    world.settle()

    assert len(world.publisher.stalls) == 1
    assert world.publisher.published == []
    assert world.runs()[0].outcome is Outcome.COMPLETED


@dataclass(frozen=True)
class Told:
    """What subscribers and the ledger are left with."""

    stalls: tuple[str, ...]
    ends: tuple[str, ...]
    runs: tuple[tuple[str, int, Outcome | None, bool], ...]
    alerts: tuple[str, ...]
    leftovers: int


def a_stalled_run_is_cancelled_by_hand(world: World) -> Told:
    survive(world, lambda: world.deliver(make_blob()))
    for _ in range(3):
        survive(world, lambda: reconcile(world.plane))
        world.clock.advance(timedelta(seconds=30))
    world.clock.advance(SLA)
    for _ in range(3):
        survive(world, lambda: reconcile(world.plane))
        world.clock.advance(timedelta(seconds=30))
    for run in world.databricks_runs():
        world.end_databricks_run(run.id, "TERMINATED", "CANCELED", "USER_CANCELED")
    settle(world)
    return Told(
        stalls=tuple(sorted({event.id for event in world.publisher.stalls})),
        ends=tuple(sorted({event.id for event in world.publisher.published})),
        runs=tuple((run.id, run.attempt, run.outcome, run.owes_stall) for run in world.runs()),
        alerts=tuple(sorted({key.rsplit(".", 1)[1] for of, key in world.tables.rows["marks"] if of == "alert"})),
        leftovers=len(world.tables.rows["open"]),
    )


@pytest.mark.parametrize("fault", [CrashAt, FailAt], ids=["process dies", "call fails"])
def test_a_fault_anywhere_announces_the_stall_once_in_effect(fault: type[CrashAt] | type[FailAt]) -> None:
    """R54, R55: a crash or a lost answer around any effect leaves the same events under the same ids."""
    undisturbed, points = walk_faults(a_stalled_run_is_cancelled_by_hand, make_world, fault)

    assert points >= 12
    assert (len(undisturbed.stalls), len(undisturbed.ends), undisturbed.leftovers) == (1, 1, 0)


@pytest.mark.parametrize("seed", range(12))
def test_rival_reconcilers_announce_one_stall(seed: int) -> None:
    """Two instances see the same stalled run at once: whoever writes first words the event."""
    order = Interleaving(seed, deaths=1)
    world = make_world(order)
    world.deliver(make_blob())
    world.clock.advance(SLA + timedelta(minutes=1))

    order.run([lambda: reconcile(world.make_plane())] * 3)
    reconcile(world.plane)

    (run,) = world.runs()
    assert set(stall_ids(world)) == {f"{run.id}.1.stalled"}
    assert set(world.publisher.stalls) == {run.stall}
    assert not run.owes_stall
