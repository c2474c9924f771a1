"""Tests that the reconciler finds what ended without a word, and announces it once (R54)."""

from datetime import timedelta

import pytest
from azure.core.exceptions import HttpResponseError

from functions.core.model import ArrivalState, Outcome, RunState
from functions.services.reconcile import reconcile
from tests.support.control_plane import World, make_blob, make_pipelines
from tests.support.fault_walk import DieAt, ProcessDiedError
from tests.support.in_memory import Faults
from tests.support.one_run import only_run, submitted


@pytest.mark.parametrize(
    ("states", "outcome"),
    [
        (("TERMINATED", "FAILED", "RUN_EXECUTION_ERROR"), Outcome.FAILED),
        (("TERMINATED", "CANCELED", "USER_CANCELED"), Outcome.CANCELLED),
        (("TERMINATED", "TIMEDOUT", "CANCELED"), Outcome.TIMED_OUT),
        (("TERMINATED", "EXCLUDED", "DISABLED"), Outcome.SKIPPED),
        (("TERMINATED", "NOBODY_KNOWS", ""), Outcome.FAILED),
        (("LIMBO", "", ""), Outcome.FAILED),
    ],
)
def test_every_silent_end_is_announced_once(states: tuple[str, str, str], outcome: Outcome) -> None:
    """R54, I7: killed, cancelled by hand, never started or unknown: announced by the next look of the reconciler."""
    world = World()
    run = submitted(world)

    world.end_databricks_run(run.id, *states)
    reconcile(world.plane)
    reconcile(world.plane)

    assert [event.outcome for event in world.publisher.published] == [outcome]
    assert only_run(world).is_story_over
    assert world.arrival(make_blob()).state is ArrivalState.FAILED


def test_a_run_that_databricks_forgot_has_failed() -> None:
    world = World()
    run = submitted(world)

    del world.workspace.runs[run.id]
    reconcile(world.plane)

    assert only_run(world).outcome is Outcome.FAILED
    assert "does not know the run" in (only_run(world).reason or "")


def lose_manifest(world: World, url: str, *, is_gone: bool) -> None:
    """Delete an input manifest, or put something else in its place."""
    if is_gone:
        del world.manifests.blobs[url]
    else:
        world.manifests.blobs[url] = b"{}"


@pytest.mark.parametrize("is_gone", [True, False])
@pytest.mark.parametrize("result", ["SUCCESS", "FAILED"])
def test_a_lost_input_manifest_does_not_keep_a_run_open(result: str, *, is_gone: bool) -> None:
    world = World()
    run = submitted(world)
    lose_manifest(world, run.parameters["manifest_url"], is_gone=is_gone)

    world.end_databricks_run(run.id, "TERMINATED", result, "")
    reconcile(world.plane)

    assert only_run(world).is_story_over
    assert only_run(world).outcome is Outcome.FAILED
    assert "its input manifest is gone or changed" in (only_run(world).reason or "")
    assert world.arrival(make_blob()).state is ArrivalState.FAILED


def test_a_failure_that_nobody_knows_keeps_nothing_else_waiting() -> None:
    """An answer that is refused for good, such as an event that the topic does not take, comes back with each look."""

    class RefuseEvents(Faults):
        def before(self, call: str) -> None:
            if call == "publisher.publish":
                raise HttpResponseError("413 Payload Too Large")

    world = World(pipelines=make_pipelines(quiet=10, max_wait=20), faults=RefuseEvents())
    for name in ("a.parquet", "b.parquet"):
        world.deliver(make_blob(name))
        world.clock.advance(timedelta(seconds=21))
        world.work()
    for run in world.databricks_runs():
        world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.deliver(make_blob("c.parquet"))
    world.queue.messages.clear()
    world.clock.advance(timedelta(minutes=1))

    with pytest.raises(HttpResponseError, match="413"):
        reconcile(world.plane)

    assert {run.state for run in world.runs() if run.arrivals != (world.arrival(make_blob("c.parquet")).id,)} == {
        RunState.ENDED
    }
    assert world.arrival(make_blob("c.parquet")).state is ArrivalState.ASSIGNED


def test_the_index_row_of_a_run_whose_worker_died_behind_its_end_is_removed_at_once() -> None:
    """Until then each pass reads the run's row again."""
    world = World(faults=DieAt("tables.open.delete"))
    world.finish(submitted(world))
    world.clock.advance(timedelta(seconds=30))  # the confirmation is asked for a little later
    with pytest.raises(ProcessDiedError):
        world.work()
    assert only_run(world).is_story_over
    assert world.tables.rows["open"]

    reconcile(world.plane)

    assert not world.tables.rows["open"]


def test_an_index_row_without_a_run_is_kept_for_a_day() -> None:
    """Its writer may be slow: closing it early would hide the run from the reconciler for ever."""
    world = World()
    world.tables.table("open").put(
        "open", "flight_delay_scoring-20260301T120000Z-0123456789ab", {"opened_at": "2026-03-01T12:00:00.000000Z"}
    )

    reconcile(world.plane)
    early = len(world.tables.rows["open"])
    world.clock.advance(timedelta(days=1, minutes=1))
    reconcile(world.plane)

    assert (early, len(world.tables.rows["open"])) == (1, 0)
