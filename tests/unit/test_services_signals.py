"""Tests that a signal starts at most one retraining per window, however often it comes and whatever breaks."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from functions.core.errors import InvalidDocumentError, InvalidRequestError, LedgerConflictError
from functions.core.listing import RunFilter
from functions.core.model import JobKey, ModelSignal, SignalType
from functions.core.pipelines_toml import parse_pipelines
from functions.core.signals import signal_to_document
from functions.services import decided_runs
from functions.services.complete import complete
from functions.services.listing import list_runs
from functions.services.reconcile import reconcile
from tests.support.control_plane import MODEL, PIPELINES_TOML, TRAINING, World, make_blob
from tests.support.fault_walk import CrashAt, FailAt, survive, walk_faults, work
from tests.support.in_memory import Faults
from tests.support.interleaving import Interleaving

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULE = """
[[pipelines.flight_delay_training.signals]]
name = "drift"
event_type = "tidegate.model.drift_detected.v1"
cooldown_hours = 24
threshold = { metric = "psi", at_least = 0.2 }
"""


def make_world(faults: Faults | None = None, *, has_data: bool = True) -> World:
    """Return a world whose training pipeline listens to drift, with training data or without."""
    text = PIPELINES_TOML + RULE
    for name, value in {
        "QUIET": "0",
        "MAX_WAIT": "0",
        "MAX_FILES": "10",
        "POLICY": "parallel",
        "MAX_ACTIVE": "9",
    }.items():
        text = text.replace(name, value)
    pipelines = parse_pipelines(text.encode(), file="t", known_jobs=[JobKey("training"), JobKey("scoring")])
    world = World(pipelines=pipelines, faults=faults or Faults())
    if has_data:
        world.inputs.put(replace(make_blob(), path="flights/history/a.parquet"))
    return world


def make_signal(event_id: str = "e-1", *, day: int = 1, psi: float = 0.3, environment: str = "local") -> str:
    """Return the message of a signal about the week before a day of March."""
    end = datetime(2026, 3, day, tzinfo=UTC)
    signal = ModelSignal(
        event_id=event_id,
        source="/monitors/weekly",
        type=SignalType.DRIFT_DETECTED,
        time=NOON,
        environment=environment,
        model_name=MODEL,
        model_version="7",
        window_start=end - timedelta(days=7),
        window_end=end,
        metrics={"psi": psi},
    )
    return json.dumps(signal_to_document(signal))


def recorded(world: World) -> dict[str, str]:
    """Return what became of each signal: its reason, or "run"."""
    return {record.event_id: record.reason or "run" for record in world.signals.recent(limit=100)}


def test_a_signal_retrains_once_however_often_it_comes() -> None:
    """R51: delivered three times, and said again under another id about the same window."""
    world = make_world()

    for _ in range(3):
        complete(world.make_plane(), make_signal("e-1"))
    complete(world.plane, make_signal("e-2"))
    world.settle_submissions()

    (run,) = world.runs()
    (record, other) = world.signals.recent(limit=10)
    assert (run.pipeline, run.cause.kind.value, run.cause.name) == (TRAINING, "signal", "drift")
    assert len(world.databricks_runs()) == 1
    assert {record.run_id, other.run_id} == {run.id}
    assert record.rule == "drift"


def test_the_run_of_a_window_that_is_not_over_is_listed() -> None:
    """A monitor may find drift in the month that has just begun."""
    world = make_world()
    complete(world.plane, make_signal(day=31))

    listed = list_runs(
        world.ledger, world.pipelines, RunFilter(), pipeline=None, since=None, limit=10, now=world.clock.now()
    )

    assert [run.cause.at.day for run in listed] == [31]


def test_the_next_window_waits_for_the_cooldown_and_the_one_after_retrains() -> None:
    world = make_world()
    complete(world.plane, make_signal("e-1", day=1))
    world.clock.advance(timedelta(hours=23))
    complete(world.plane, make_signal("e-2", day=2))
    world.clock.advance(timedelta(hours=2))

    complete(world.plane, make_signal("e-3", day=3))

    assert recorded(world) == {"e-1": "run", "e-2": "cooldown", "e-3": "run"}
    assert [run.cause.at.day for run in world.runs()] == [1, 3]


def test_a_signal_that_was_refused_stays_refused_when_it_comes_again() -> None:
    """A dead letter that is replayed after the cooldown is old news."""
    world = make_world()
    complete(world.plane, make_signal("e-1", day=1))
    complete(world.plane, make_signal("e-2", day=2))
    world.clock.advance(timedelta(days=3))

    complete(world.plane, make_signal("e-2", day=2))

    assert recorded(world) == {"e-1": "run", "e-2": "cooldown"}
    assert len(world.runs()) == 1


def test_an_old_window_that_is_said_again_later_finds_its_run() -> None:
    world = make_world()
    complete(world.plane, make_signal("e-1", day=1))
    world.clock.advance(timedelta(days=2))
    complete(world.plane, make_signal("e-2", day=3))
    mark = world.signals.mark_of(TRAINING, "drift")

    complete(world.plane, make_signal("e-3", day=1))

    assert recorded(world) == {"e-1": "run", "e-2": "run", "e-3": "run"}
    assert len(world.runs()) == 2
    assert world.signals.mark_of(TRAINING, "drift") == mark


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (make_signal(psi=0.1), "below_threshold"),
        (make_signal(environment="prod"), "foreign_environment"),
        (make_signal().replace(MODEL, "main.tidegate.other"), "no_signal_rule"),
    ],
)
def test_every_signal_is_recorded_with_its_reason(message: str, reason: str) -> None:
    """R20: what starts nothing says why, and a threshold that is not reached begins no cooldown."""
    world = make_world()

    complete(world.plane, message)
    complete(world.plane, make_signal("e-9", day=5))

    assert recorded(world) == {"e-1": reason, "e-9": "run"}


def test_a_claim_without_a_run_is_given_up() -> None:
    """There is nothing to train on: the next window must not wait for a run that never was."""
    world = make_world(has_data=False)
    complete(world.plane, make_signal("e-1", day=1))
    world.inputs.put(replace(make_blob(), path="flights/history/a.parquet"))

    complete(world.plane, make_signal("e-2", day=2))

    assert recorded(world) == {"e-1": "no_training_data", "e-2": "run"}


def test_a_claim_of_which_the_run_cannot_be_written_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """More files than a run may read are mended by a person; until then no other window waits for that."""
    world = make_world()
    monkeypatch.setattr(decided_runs, "_MOST_FILES", 0)
    with pytest.raises(InvalidRequestError):
        complete(world.plane, make_signal("e-1", day=1))
    monkeypatch.undo()

    complete(world.plane, make_signal("e-2", day=2))

    assert recorded(world) == {"e-2": "run"}


@dataclass
class RivalAt(Faults):
    """Has something happen once, around the first call of a name."""

    call: str
    is_after: bool = False
    act: Callable[[], object] | None = None

    def before(self, call: str) -> None:
        self._act(call, is_after=False)

    def after(self, call: str) -> None:
        self._act(call, is_after=True)

    def _act(self, call: str, *, is_after: bool) -> None:
        if self.act is not None and call == self.call and is_after == self.is_after:
            act, self.act = self.act, None
            act()


def test_a_claim_stays_that_another_signal_about_the_window_had_a_run_by() -> None:
    """This delivery sees no data yet, and its rival does: the cooldown holds from the rival's run on."""
    between = RivalAt("inputs.list_page", is_after=True)
    world = make_world(between, has_data=False)

    def rival() -> None:
        world.inputs.put(replace(make_blob(), path="flights/history/a.parquet"))
        complete(world.make_plane(), make_signal("e-2", day=1))

    between.act = rival
    complete(world.plane, make_signal("e-1", day=1))
    complete(world.plane, make_signal("e-3", day=2))

    assert recorded(world) == {"e-1": "run", "e-2": "run", "e-3": "cooldown"}
    assert len(world.runs()) == 1


def test_a_claim_that_a_rival_gives_up_before_the_run_is_written_is_taken_back() -> None:
    """The rival saw no data; this delivery has, and is about to write the run."""
    between = RivalAt("tables.runs.insert")
    world = make_world(between)

    def rival() -> None:
        stored, world.inputs.blobs = world.inputs.blobs, {}
        complete(world.make_plane(), make_signal("e-2", day=1))
        world.inputs.blobs = stored

    between.act = rival
    complete(world.plane, make_signal("e-1", day=1))
    complete(world.plane, make_signal("e-3", day=2))

    assert recorded(world) == {"e-1": "run", "e-2": "no_training_data", "e-3": "cooldown"}
    assert len(world.runs()) == 1


def test_a_signal_that_is_none_is_refused() -> None:
    world = make_world()

    with pytest.raises(InvalidDocumentError):
        complete(world.plane, make_signal().replace("drift_detected", "rain_detected"))

    assert recorded(world) == {}


@dataclass(frozen=True)
class Left:
    """What is left of a story."""

    records: dict[str, str]
    runs: tuple[str, ...]
    started: tuple[str, ...]


def two_windows_and_a_repeat(world: World) -> Left:
    for message in (make_signal("e-1"), make_signal("e-2", day=2), make_signal("e-1"), make_signal("e-3", psi=0.1)):
        survive(world, lambda message=message: complete(world.plane, message))  # type: ignore[misc] # bound now
    for _ in range(4):
        work(world)
        survive(world, lambda: reconcile(world.plane))
        world.clock.advance(timedelta(seconds=20))
    rows = world.tables.rows["marks"]
    return Left(
        records={
            str(values["event_id"]): str(values["reason"]) or "run"
            for (of, _), (values, _) in rows.items()
            if of == "signal"
        },
        runs=tuple(run.id for run in world.runs()),
        started=tuple(sorted(run.parameters["run_id"] for run in world.databricks_runs())),
    )


@pytest.mark.parametrize("fault", [CrashAt, FailAt], ids=["process dies", "call fails"])
def test_a_fault_anywhere_leaves_one_run_per_window(fault: type[CrashAt] | type[FailAt]) -> None:
    """I6: a crash or a lost answer around any effect, and a redelivery, leave the same records and the same run."""
    undisturbed, points = walk_faults(two_windows_and_a_repeat, make_world, fault)

    assert points >= 10
    assert undisturbed.records == {"e-1": "run", "e-2": "cooldown", "e-3": "below_threshold"}
    assert (len(undisturbed.runs), len(undisturbed.started)) == (1, 1)


@pytest.mark.parametrize("seed", range(15))
def test_signals_at_once_start_one_run_within_a_cooldown(seed: int) -> None:
    """Two windows and a repeat over three workers, one of which may die: one of them gets the cooldown's only run."""
    order = Interleaving(seed, deaths=1)
    world = make_world(order)
    messages = [make_signal("e-1", day=1), make_signal("e-1", day=1), make_signal("e-2", day=2)]

    order.run([lambda message=message: complete(world.make_plane(), message) for message in messages])  # type: ignore[misc] # bound now
    for message in messages:  # what a dead worker had not acknowledged is delivered again
        complete(world.plane, message)
    world.settle_submissions()

    assert [error for error in order.errors if not isinstance(error, LedgerConflictError)] == []
    assert len(world.runs()) == 1
    assert len(world.databricks_runs()) == 1
    assert sorted(recorded(world).values()) == ["cooldown", "run"]
