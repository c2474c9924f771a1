"""Interleaves workers effect by effect: whoever goes first, each file is in one run and each run is started once."""

from collections import Counter
from datetime import timedelta
from functools import partial

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from functions.core.errors import LedgerConflictError
from functions.core.manifest import InputManifest
from functions.core.model import ArrivalState, RunState
from functions.services.arrive import arrive
from functions.services.closing import close_pipeline_batch
from functions.services.reconcile import reconcile
from tests.support.control_plane import SCORING, World, blob_message, make_blob, make_pipelines
from tests.support.interleaving import Interleaving

ALONE = make_pipelines()
WINDOW = make_pipelines(quiet=10, max_wait=20, max_files=3)


def let_time_pass(order: Interleaving, world: World) -> None:
    """Have the clock move now and then, so that a worker may be asleep for longer than its rivals wait."""
    order.on_turn = lambda chance: world.clock.advance(timedelta(seconds=chance.choice([0, 0, 0, 2, 7])))


def check_invariants(world: World, names: set[str]) -> None:
    """I1, I2, I3 and that nothing is left behind."""
    frozen = {
        run.id: InputManifest.from_bytes(world.manifests.blobs[run.manifest.url]).files
        for run in world.runs()
        if run.manifest is not None
    }
    in_batches = Counter(file.blob.path for files in frozen.values() for file in files)
    assert in_batches == Counter({f"flights/new/{name}": 1 for name in names})
    assert len(world.tables.rows["arrivals"]) == len(names)
    for name in names:
        arrival = world.arrival(make_blob(name))
        assert arrival.state is ArrivalState.ASSIGNED
        assert arrival.run_id is not None
        assert arrival.id in {file.arrival_id for file in frozen[arrival.run_id]}
    assert all(run.state is RunState.SUBMITTED for run in world.runs())
    assert Counter(run.token for run in world.databricks_runs()) == Counter(run.token for run in world.runs())
    assert world.tables.rows["pending"] == {}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), deaths=st.integers(0, 2))
@example(seed=0, deaths=0)
def test_redeliveries_at_once_start_one_run_per_file(seed: int, deaths: int) -> None:
    """R07: two files, each delivered three times at once over six workers, some of which die."""
    order = Interleaving(seed, deaths=deaths)
    world = World(pipelines=ALONE, faults=order)
    let_time_pass(order, world)
    names = ["a.parquet", "b.parquet"] * 3

    order.run([lambda name=name: arrive(world.make_plane(), blob_message(make_blob(name))) for name in names])  # type: ignore[misc] # bound now
    for name in set(names):  # what a dead worker had not acknowledged is delivered again
        world.deliver(make_blob(name))
    world.settle_submissions()

    assert [error for error in order.errors if not isinstance(error, LedgerConflictError)] == []
    check_invariants(world, set(names))


@settings(max_examples=2, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 2**32), deaths=st.integers(0, 4))
def test_a_thousand_deliveries_over_eight_workers_start_one_run(seed: int, deaths: int) -> None:
    """R07: one event, 1,000 deliveries, 8 workers that take turns at each effect: one run id, sent once."""
    order = Interleaving(seed, deaths=deaths)
    world = World(pipelines=ALONE, faults=order)
    message, acknowledged = blob_message(make_blob("a.parquet")), Counter[str]()

    def deliver(times: int) -> None:
        plane = world.make_plane()
        for _ in range(times):
            arrive(plane, message, is_first_try=True)
            acknowledged["deliveries"] += 1  # the turns let one worker go at a time

    order.run([partial(deliver, 125) for _ in range(8)])
    for _ in range(1000 - acknowledged["deliveries"]):  # what a dead worker had not acknowledged is delivered again
        arrive(world.plane, message)
    world.settle_submissions()

    assert [error for error in order.errors if not isinstance(error, LedgerConflictError)] == []
    check_invariants(world, {"a.parquet"})
    assert len({run.id for run in world.runs()}) == len(world.databricks_runs()) == 1
    assert world.arrival(make_blob("a.parquet")).deliveries >= 1000


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), deaths=st.integers(0, 3))
def test_dispatchers_at_once_share_no_file(seed: int, deaths: int) -> None:
    """I2: late files arrive while three dispatchers and the reconciler close the same window."""
    order = Interleaving(seed, deaths=deaths)
    world = World(pipelines=WINDOW, faults=order)
    let_time_pass(order, world)
    early, late = [f"{name}.parquet" for name in "abcd"], ["e.parquet", "f.parquet"]
    for name in early:
        world.deliver(make_blob(name))
    world.clock.advance(timedelta(seconds=21))

    order.run(
        [
            *[lambda: close_pipeline_batch(world.make_plane(), SCORING)] * 3,
            lambda: reconcile(world.make_plane()),
            *[lambda name=name: arrive(world.make_plane(), blob_message(make_blob(name))) for name in late],
        ]
    )
    for name in late:
        world.deliver(make_blob(name))
    world.clock.advance(timedelta(seconds=30))
    world.settle_submissions()

    assert [error for error in order.errors if not isinstance(error, LedgerConflictError)] == []
    check_invariants(world, {*early, *late})
