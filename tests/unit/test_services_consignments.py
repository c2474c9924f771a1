"""Tests consignments while the configuration changes, and while several workers are at one."""

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from functions.core.errors import LedgerConflictError
from functions.core.model import ArrivalState, RunState
from functions.services.arrive import arrive
from functions.services.closing import close_pipeline_batch
from functions.services.reconcile import reconcile
from tests.support.consignments import (
    LATE,
    MARKER,
    PLACE,
    batches,
    files_of,
    land,
    make_world,
    marker,
    names,
    part,
    pass_time,
    pipelines_of,
)
from tests.support.control_plane import SCORING, World, blob_message, make_pipelines
from tests.support.interleaving import Interleaving


class TestConfigurationChanges:
    """Held files go on when the pipeline's readiness is edited."""

    def test_files_held_before_there_were_consignments_go_on(self) -> None:
        world = World(pipelines=make_pipelines(quiet=10, max_wait=60, glob="**/*.parquet"))
        land(world, part("a"))

        world.pipelines = pipelines_of(MARKER)
        world.plane = world.make_plane()
        pass_time(world)

        assert batches(world) == [names("a")]

    def test_files_of_a_consignment_go_on_without_it(self) -> None:
        world = make_world(MARKER)
        land(world, part("a"), part("b", folder="2013-08"))

        world.pipelines = make_pipelines(quiet=10, max_wait=60, glob="**/*.parquet")
        world.plane = world.make_plane()
        pass_time(world)

        assert batches(world) == [names("a") | names("b", folder="2013-08")]

    def test_a_consignment_waits_for_a_model(self) -> None:
        world = World(pipelines=pipelines_of(MARKER), model_version=None)
        land(world, part("a"), marker())
        pass_time(world)
        assert world.arrival(part("a")).reason == "no_model_yet"

        world.workspace.models["main.tidegate.flight_delay", "champion"] = "1"
        pass_time(world, 20)

        assert batches(world) == [names("a")]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), deaths=st.integers(0, 3))
def test_workers_at_once_freeze_one_version_after_the_other(seed: int, deaths: int) -> None:
    """I1, I2: late files arrive while three dispatchers and the reconciler freeze the same folder; some workers die."""
    order = Interleaving(seed, deaths=deaths)
    world = World(pipelines=pipelines_of(f"{MARKER}, {LATE}"), faults=order)
    order.on_turn = lambda chance: world.clock.advance(timedelta(seconds=chance.choice([0, 0, 0, 2, 7])))
    land(world, part("a"), part("b"), marker())
    world.clock.advance(timedelta(seconds=11))
    late = [part("c"), part("d")]
    for blob in late:
        world.inputs.put(blob)

    order.run(
        [
            *[lambda: close_pipeline_batch(world.make_plane(), SCORING, PLACE)] * 3,
            lambda: reconcile(world.make_plane()),
            *[lambda blob=blob: arrive(world.make_plane(), blob_message(blob)) for blob in late],
        ]
    )
    for blob in late:
        world.deliver(blob)
    for _ in range(30):
        pass_time(world, 20)

    assert [error for error in order.errors if not isinstance(error, LedgerConflictError)] == []
    assert world.tables.rows["pending"] == {}
    assert {run.state for run in world.runs()} == {RunState.SUBMITTED}
    assert len(world.databricks_runs()) == len(world.runs())
    frozen = {run.id: files_of(world, run) for run in world.runs()}
    for blob in (part("a"), part("b"), *late):
        arrival = world.arrival(blob)
        assert arrival.state is ArrivalState.ASSIGNED
        assert arrival.run_id is not None
        assert (blob.path.removeprefix("flights/new/"), blob.etag) in frozen[arrival.run_id]
    assert batches(world)[-1] == names("a", "b", "c", "d")
    assert all(earlier < later for earlier, later in zip(batches(world), batches(world)[1:], strict=False))
