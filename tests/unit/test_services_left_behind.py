"""Tests that nothing is lost when a pipeline is removed or renamed while files are held for it."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from functions.core.access import Actor
from functions.core.errors import LedgerConflictError
from functions.core.model import ArrivalState, PipelineKey
from functions.core.pipelines import Pipelines
from functions.services.health import check_health
from functions.services.reconcile import reconcile
from functions.services.replay import replay
from tests.support.control_plane import SCORING, World, make_blob, make_pipelines
from tests.support.fault_walk import CrashAt, DieAt, FailAt, ProcessDiedError, survive, walk_faults, work

OTHER = PipelineKey("flight_scoring_renamed")
WINDOW = make_pipelines(quiet=30, max_wait=60)
SAID = "held for 'flight_delay_scoring', which is not configured"


def without_scoring() -> Pipelines:
    return replace(WINDOW, pipelines=WINDOW.pipelines[:1])


def renamed() -> Pipelines:
    return replace(WINDOW, pipelines=(WINDOW.pipelines[0], replace(WINDOW.pipelines[1], key=OTHER)))


def configure(world: World, pipelines: Pipelines) -> None:
    world.pipelines = pipelines
    world.plane = world.make_plane()


def left_world(pipelines: Pipelines) -> World:
    """Return a world whose scoring pipeline is gone while two files are held for it."""
    world = World(pipelines=WINDOW)
    world.deliver(make_blob("a.parquet"))
    world.deliver(make_blob("b.parquet"))
    reconcile(world.plane)
    configure(world, pipelines)
    world.clock.advance(timedelta(hours=1))
    return world


def replay_for(world: World, pipeline: PipelineKey, *names: str) -> None:
    for name in names:
        entry = world.ledger.get_arrival(make_blob(name))
        assert entry is not None
        world.ledger.update_arrival(entry, entry.value.replay(pipeline, world.clock.now(), "its pipeline was renamed"))


def test_held_files_of_a_pipeline_that_is_gone_are_kept_and_said() -> None:
    world = left_world(without_scoring())

    world.work()
    found = reconcile(world.plane)

    assert found[SAID] == 2
    assert {arrival.state for arrival in world.arrivals()} == {ArrivalState.HELD}
    health = check_health(world.plane)
    assert health.is_green  # nothing else waits for it
    assert health.to_public_json(with_details=True)["left_behind"] == [
        {
            "pipeline": SCORING,
            "what": "2 arrival(s) since 2026-03-01T12:00:00.000000Z are held for 'flight_delay_scoring', which is not "
            "configured; they go on when it is back, or when they are replayed for another pipeline",
        }
    ]


def test_they_go_on_when_the_pipeline_is_back() -> None:
    world = left_world(without_scoring())
    world.work()
    reconcile(world.plane)

    configure(world, WINDOW)
    found = reconcile(world.plane)
    world.work()

    (run,) = world.runs()
    assert run.arrival_count == 2
    assert SAID not in found


def test_they_go_on_when_a_person_replays_them_for_the_renamed_pipeline() -> None:
    world = left_world(renamed())

    replay_for(world, OTHER, "a.parquet", "b.parquet")
    reconcile(world.plane)
    world.work()

    (run,) = world.runs()
    assert (run.pipeline, run.arrival_count) == (OTHER, 2)
    assert world.tables.rows["pending"] == {}
    assert SAID not in reconcile(world.plane)


def test_a_file_that_was_moved_is_not_read_by_its_old_pipeline_too() -> None:
    """A crash may leave the old index row; the entry says whose the file is."""
    world = left_world(renamed())
    stale = dict(world.tables.rows["pending"])
    replay_for(world, OTHER, "a.parquet", "b.parquet")
    world.tables.rows["pending"].update(stale)

    configure(world, replace(WINDOW, pipelines=(*WINDOW.pipelines, replace(WINDOW.pipelines[1], key=OTHER))))
    for _ in range(3):
        reconcile(world.plane)
        world.work()

    (run,) = world.runs()
    assert (run.pipeline, run.arrival_count) == (OTHER, 2)


def moved_away(old: Pipelines) -> World:
    """Return a world whose pipeline is back after its only file was moved to another; a crash left the index row."""
    faults = DieAt("tables.pending.delete", is_armed=False)
    world = World(pipelines=old, faults=faults)
    world.deliver(make_blob("moved.parquet"))
    configure(world, replace(old, pipelines=(old.pipelines[0], replace(old.pipelines[1], key=OTHER))))
    faults.is_armed = True
    with pytest.raises(ProcessDiedError):
        replay_for(world, OTHER, "moved.parquet")
    configure(world, old)
    return world


def deliver_another(world: World) -> ArrivalState:
    """Return what has become of a later file when its window is over."""
    other = make_blob("other.parquet")
    world.deliver(other, at=world.clock.now() + timedelta(seconds=1))
    for _ in range(4):
        world.clock.advance(timedelta(minutes=1))
        work(world)
        reconcile(world.plane)
    moved = world.arrival(make_blob("moved.parquet"))
    assert (moved.state, moved.pipeline) == (ArrivalState.HELD, OTHER)
    return world.arrival(other).state


def test_what_a_move_that_died_has_left_keeps_nothing_of_the_old_pipeline_waiting() -> None:
    """Its row is the oldest of the old pipeline's index, of which a batch takes one."""
    world = moved_away(make_pipelines(quiet=30, max_wait=60, max_files=1))

    assert deliver_another(world) is ArrivalState.ASSIGNED


def test_what_a_move_that_died_has_left_is_no_file_of_a_folder_that_waits_for_two() -> None:
    world = moved_away(make_pipelines(quiet=30, max_wait=60, readiness='kind = "count", count = 2'))

    assert deliver_another(world) is ArrivalState.HELD


def test_an_arrival_of_a_removed_pipeline_that_comes_again_is_counted() -> None:
    world = left_world(without_scoring())

    world.deliver(make_blob("a.parquet"))

    arrival = world.arrival(make_blob("a.parquet"))
    assert (arrival.deliveries, arrival.state) == (2, ArrivalState.HELD)


def move_two_files(world: World) -> tuple[list[tuple[str, str]], int, int]:
    survive(world, lambda: world.deliver(make_blob("a.parquet")))
    survive(world, lambda: world.deliver(make_blob("b.parquet")))
    configure(world, renamed())
    for name in ("a.parquet", "b.parquet"):
        survive(world, lambda name=name: replay_for(world, OTHER, name))  # type: ignore[misc] # bound now
    for _ in range(6):
        world.clock.advance(timedelta(seconds=31))
        survive(world, lambda: reconcile(world.plane))
        work(world)
    runs = [(str(run.pipeline), run.state.value) for run in world.runs()]
    return runs, sum(run.arrival_count for run in world.runs()), len({run.id for run in world.runs()})


@pytest.mark.parametrize("fault", [CrashAt, FailAt], ids=["process dies", "call fails"])
def test_moving_survives_a_fault_anywhere(fault: type[CrashAt] | type[FailAt]) -> None:
    left, points = walk_faults(
        move_two_files, lambda faults: World(pipelines=make_pipelines(quiet=30, max_wait=60), faults=faults), fault
    )

    assert points >= (10 if fault is CrashAt else 30)
    assert left == ([(OTHER, "submitted")], 2, 1)


def test_a_move_that_a_rival_was_faster_than_is_refused() -> None:
    world = left_world(renamed())
    entry = world.ledger.get_arrival(make_blob("a.parquet"))
    assert entry is not None
    replay_for(world, OTHER, "a.parquet")

    with pytest.raises(LedgerConflictError):
        world.ledger.update_arrival(entry, entry.value.replay(OTHER, world.clock.now(), "again"))


def test_what_went_on_before_its_pipeline_was_gone_is_not_said_to_be_held() -> None:
    """A crash left its index row, which only a look at the pipeline would remove."""
    world = World(pipelines=WINDOW, faults=DieAt("tables.pending.delete"))
    reconcile(world.plane)
    world.deliver(make_blob("a.parquet"))
    world.clock.advance(timedelta(minutes=2))
    with pytest.raises(ProcessDiedError):
        world.work()

    configure(world, without_scoring())
    world.finish(world.databricks_runs()[0])
    world.settle()
    found = reconcile(world.plane)

    assert world.arrival(make_blob("a.parquet")).state is ArrivalState.SCORED
    assert SAID not in found
    assert not world.tables.rows["pending"]


def test_who_asks_for_health_sees_the_same_and_removes_nothing() -> None:
    world = World(pipelines=WINDOW, faults=DieAt("tables.pending.delete"))
    reconcile(world.plane)
    world.deliver(make_blob("a.parquet"))
    world.clock.advance(timedelta(minutes=2))
    with pytest.raises(ProcessDiedError):
        world.work()
    configure(world, without_scoring())
    world.finish(world.databricks_runs()[0])
    world.clock.advance(timedelta(seconds=30))  # the confirmation is asked for a little later
    world.work()
    assert world.arrival(make_blob("a.parquet")).state is ArrivalState.SCORED

    health = check_health(world.plane)

    assert health.left_behind == ()
    assert len(world.tables.rows["pending"]) == 1


def test_a_batch_that_was_being_written_when_its_pipeline_was_removed_says_what_helps() -> None:
    """Nobody else may have its files, for the pipeline may come back and finish it."""
    world = World(pipelines=WINDOW)
    world.deliver(make_blob("a.parquet"))
    reconcile(world.plane)
    world.clock.advance(timedelta(minutes=2))
    world.manifests.calls.faults = DieAt("manifests.write", is_after=True)
    with pytest.raises(ProcessDiedError):
        world.work()
    configure(world, renamed())
    arrival = world.arrival(make_blob("a.parquet"))
    body = json.dumps({"arrival": arrival.id}).encode()

    _, acted = replay(world.plane, body, idempotency_key=None, actor=Actor(name="ann@contoso.com"))
    configure(world, WINDOW)
    reconcile(world.plane)
    world.work()

    (said,) = acted.did_not
    assert f"'flight_delay_scoring' was removed before it had written run {arrival.run_id} down" in said
    assert "configure it again" in said
    assert [run.id for run in world.runs()] == [arrival.run_id]
