"""Tests that blobs which no event announced are found, once, within bounds, and wherever a pass is cut short."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.errors import LedgerUnavailableError, StorageUnavailableError
from functions.core.model import ArrivalSource, ArrivalState, BlobVersion, JobKey
from functions.core.pipelines import Pipelines
from functions.core.pipelines_toml import parse_pipelines
from functions.core.sweeping import Place, Sweep, places_of
from functions.services.reconcile import reconcile
from functions.services.sweep import Bounds, sweep
from tests.strategies import instants
from tests.support.control_plane import PIPELINES_TOML, World, make_blob, make_pipelines
from tests.support.fault_walk import CrashAt, FailAt, survive, walk_faults, work
from tests.support.in_memory import Faults

GRACE = timedelta(minutes=15)


class SlowFirstPass(Faults):
    """Lets the grace period pass during the first listing, and loses the answer to the first arrival that is made."""

    def __init__(self) -> None:
        self.to_come = {"inputs.list_page", "tables.arrivals.insert"}
        self.world: World

    def before(self, call: str) -> None:
        if call == "inputs.list_page" and call in self.to_come:
            self.to_come.discard(call)
            self.world.clock.advance(GRACE)

    def after(self, call: str) -> None:
        if call == "tables.arrivals.insert" and call in self.to_come:
            self.to_come.discard(call)
            raise LedgerUnavailableError(call, "scripted")


def swept(world: World, **bounds: int) -> Counter[str]:
    return sweep(world.plane, grace=GRACE, bounds=Bounds(**bounds))  # type: ignore[arg-type] # counts only


def seen_world(**changes: object) -> World:
    """Return a world that has been swept once, so that what comes now is looked for."""
    world = World(**changes)  # type: ignore[arg-type] # a world's own fields
    swept(world)
    world.clock.advance(timedelta(minutes=1))
    return world


def lose(world: World, *names: str) -> list[BlobVersion]:
    """Upload without an event."""
    blobs = [make_blob(name, etag=f"0x{name}") for name in names]
    for blob in blobs:
        world.inputs.put(blob, at=world.clock.now())
    return blobs


def test_a_blob_that_no_event_announced_is_an_arrival_marked_as_swept() -> None:
    """R13."""
    world = seen_world()
    (blob,) = lose(world, "a.parquet")
    world.clock.advance(GRACE)

    counts = swept(world)
    world.work()

    arrival = world.arrival(blob)
    assert (arrival.source, arrival.state, arrival.api) == (ArrivalSource.SWEEP, ArrivalState.ASSIGNED, "")
    assert len(world.databricks_runs()) == 1
    assert (counts["found"], counts["rounds"]) == (1, 1)


def test_a_fresh_blob_is_left_to_its_event() -> None:
    """An event on its way is no lost one."""
    world = seen_world()
    (blob,) = lose(world, "a.parquet")
    world.clock.advance(GRACE - timedelta(seconds=1))

    swept(world)
    assert world.arrivals() == []
    world.clock.advance(timedelta(seconds=1))
    swept(world)

    assert world.arrival(blob).source is ArrivalSource.SWEEP


def test_an_arrival_that_is_known_is_not_made_again() -> None:
    world = seen_world()
    (blob,) = lose(world, "a.parquet")
    world.deliver(blob)
    world.clock.advance(GRACE)

    counts = swept(world)

    arrival = world.arrival(blob)
    assert (arrival.source, arrival.deliveries, counts["found"]) == (ArrivalSource.EVENT, 1, 0)


def test_an_event_that_comes_after_all_is_a_redelivery() -> None:
    world = seen_world()
    (blob,) = lose(world, "a.parquet")
    world.clock.advance(GRACE)
    swept(world)
    world.work()

    world.deliver(replace(blob, sequencer="0007"))

    arrival = world.arrival(blob)
    assert (arrival.deliveries, arrival.source, arrival.blob.sequencer) == (2, ArrivalSource.SWEEP, "0007")
    assert len(world.databricks_runs()) == 1


def test_an_overwrite_whose_event_was_lost_is_found() -> None:
    """R13: a version is looked for, not a name."""
    world = seen_world()
    world.deliver(make_blob("a.parquet", etag="0x1"))
    newer = make_blob("a.parquet", etag="0x2")
    world.inputs.put(newer, at=world.clock.now())
    world.clock.advance(GRACE)

    swept(world)
    world.work()

    assert world.arrival(newer).state is ArrivalState.ASSIGNED
    assert len(world.databricks_runs()) == 2


@pytest.mark.parametrize("path", ["flights/new/a.csv", "flights/old/a.parquet", "flights/new/deep/a.parquet"])
def test_what_no_route_wants_is_not_recorded(path: str) -> None:
    world = seen_world()
    world.inputs.put(replace(make_blob(), path=path), at=world.clock.now())
    world.clock.advance(GRACE)

    swept(world)

    assert world.arrivals() == []


def test_what_was_there_before_the_first_sweep_is_left_to_the_backfill() -> None:
    """To deploy a sweep is not to score the past."""
    world = World()
    lose(world, "old.parquet")
    world.clock.advance(timedelta(days=400))

    swept(world)
    world.clock.advance(timedelta(days=2))
    swept(world)

    assert world.arrivals() == []


def test_a_first_pass_that_dies_half_way_through_an_arrival_is_made_up_for() -> None:
    """Found by the simulation: the next pass began anew, after the blob whose arrival was held without an index row."""
    slow = SlowFirstPass()
    slow.world = world = World(faults=slow)
    (blob,) = lose(world, "a.parquet")
    swept(world)
    world.plane = world.make_plane()
    world.clock.advance(GRACE)
    swept(world)

    world.settle_submissions()

    assert slow.to_come == set()
    assert world.arrival(blob).state is ArrivalState.ASSIGNED
    assert len(world.databricks_runs()) == 1


def test_many_lost_blobs_make_one_run() -> None:
    world = seen_world()
    lose(world, *(f"{number:03d}.parquet" for number in range(120)))
    world.clock.advance(GRACE)

    swept(world)
    world.work()

    (run,) = world.runs()
    assert run.arrival_count == 120


def test_a_lost_marker_is_found_and_completes_its_folder() -> None:
    world = seen_world(
        pipelines=make_pipelines(quiet=10, max_wait=60, glob="**/*.parquet", readiness='kind = "marker"')
    )
    lose(world, "2013-07/a.parquet", "2013-07/b.parquet")
    marker = replace(make_blob("2013-07/_SUCCESS", etag="0xM"), size_bytes=0)
    world.inputs.put(marker, at=world.clock.now())
    world.clock.advance(GRACE)

    swept(world)
    world.clock.advance(timedelta(seconds=11))
    world.work()

    (run,) = world.runs()
    assert run.arrival_count == 2
    assert world.arrival(marker).state is ArrivalState.SEAL


def test_a_pass_is_bounded_and_the_next_one_goes_on() -> None:
    """R13: never more than a page in memory, never more than so much in one pass; another process goes on."""
    world = seen_world()
    lose(world, *(f"{number:03d}.parquet" for number in range(50)))
    world.clock.advance(GRACE)
    found = []

    for _ in range(6):
        world.plane = world.make_plane()
        found.append(swept(world, page=5, found=10)["found"])

    assert found == [10, 10, 10, 10, 10, 0]
    assert world.inputs.calls.counts["inputs.list_page"] == 1 + 10 + 10  # the first sweep, and two rounds


@pytest.mark.parametrize("bound", [{"listed": 7}, {"looked_up": 7}])
def test_each_bound_stops_the_pass_after_its_page(bound: dict[str, int]) -> None:
    """R13: whatever a pass has too much of."""
    world = seen_world()
    lose(world, *(f"{number:03d}.parquet" for number in range(50)))
    world.clock.advance(GRACE)

    counts = swept(world, page=5, **bound)

    assert (counts["listed"], counts["looked_up"], counts["rounds"]) == (10, 10, 0)


def test_what_was_looked_up_is_not_looked_up_in_every_round() -> None:
    """A container of a million known blobs costs its listing, not a million questions to the ledger."""
    world = seen_world()
    for blob in lose(world, *(f"{number:03d}.parquet" for number in range(40))):
        world.deliver(blob)
    world.clock.advance(timedelta(hours=1))

    looked_up = []
    for hours in (1, 1, 24, 0):
        looked_up.append(swept(world)["looked_up"])
        world.clock.advance(timedelta(hours=hours))

    # After a day everything is looked up again: a rename may have kept the time of a file's last change.
    assert looked_up == [40, 0, 0, 0]
    assert [swept(world)["looked_up"] for _ in range(2)] == [40, 0]


def test_a_listing_that_cannot_go_on_begins_again() -> None:
    world = seen_world()
    lose(world, *(f"{number:03d}.parquet" for number in range(20)))
    world.clock.advance(GRACE)
    swept(world, page=5, found=5)
    world.inputs.lost_continuations.add(">flights/new/004.parquet")

    counts = swept(world)
    swept(world)

    assert counts["begun_again"] == 1
    assert len(world.arrivals()) == 20


TWO_PLACES = (
    PIPELINES_TOML
    + """
[[pipelines.flight_delay_scoring.routes]]
name = "others"
container = "other"
prefix = ""
glob = "*.parquet"
"""
)


def two_places() -> World:
    text = TWO_PLACES
    for name, value in {
        "QUIET": "0",
        "MAX_WAIT": "0",
        "MAX_FILES": "9",
        "POLICY": "parallel",
        "MAX_ACTIVE": "9",
    }.items():
        text = text.replace(name, value)
    jobs = [JobKey("training"), JobKey("scoring")]
    return World(pipelines=parse_pipelines(text.encode(), file="p", known_jobs=jobs))


def test_a_place_that_cannot_be_listed_keeps_no_other_waiting() -> None:
    """A container that does not exist yet, for one."""
    world = two_places()
    swept(world)
    (blob,) = lose(world, "a.parquet")
    world.clock.advance(GRACE)

    counts = swept(world)

    assert (counts["NotFoundError"], world.arrival(blob).source) == (1, ArrivalSource.SWEEP)


def test_a_large_place_does_not_starve_a_small_one() -> None:
    world = two_places()
    world.inputs.containers.add("other")
    swept(world)
    lose(world, *(f"{number:03d}.parquet" for number in range(50)))
    blob = BlobVersion(account=make_blob().account, container="other", path="a.parquet", etag="0xo", size_bytes=5)
    world.inputs.put(blob, at=world.clock.now())
    world.clock.advance(GRACE)

    for _ in range(2):
        swept(world, page=5, found=5)
        world.clock.advance(timedelta(minutes=1))

    assert world.arrival(blob).source is ArrivalSource.SWEEP


def one_within_another() -> Pipelines:
    text = TWO_PLACES.replace('container = "other"', 'container = "input"').replace(
        'prefix = ""', 'prefix = "flights/"'
    )
    for name, value in {
        "QUIET": "0",
        "MAX_WAIT": "0",
        "MAX_FILES": "9",
        "POLICY": "parallel",
        "MAX_ACTIVE": "9",
    }.items():
        text = text.replace(name, value)
    return parse_pipelines(text.encode(), file="p", known_jobs=[JobKey("training"), JobKey("scoring")])


def test_places_within_others_are_looked_through_once() -> None:
    assert places_of(one_within_another()) == (Place(container="input", prefix="flights/"),)


def test_a_wider_route_loses_no_file_that_the_narrower_one_had_still_to_find() -> None:
    """Its place is new, and what came before it is past for it; the sweep of the place within goes on until then."""
    world = seen_world()
    (lost,) = lose(world, "a.parquet")
    world.clock.advance(timedelta(hours=1))
    world.pipelines = one_within_another()
    world.plane = world.make_plane()

    rounds = [swept(world)["rounds"]]
    assert world.arrival(lost).source is ArrivalSource.SWEEP
    for _ in range(2):
        world.clock.advance(timedelta(hours=1))
        rounds.append(swept(world)["rounds"])

    assert rounds == [2, 2, 1]


class _StorageIsAway(Faults):
    def before(self, call: str) -> None:
        if call == "inputs.list_page":
            raise StorageUnavailableError(call, "scripted")


def test_a_sweep_without_an_answer_says_so_and_comes_back() -> None:
    world = World(faults=_StorageIsAway())

    assert swept(world)["StorageUnavailableError"] == 1


def lost_files_are_swept(world: World) -> tuple[list[tuple[str, str]], int, int]:
    survive(world, lambda: swept(world))
    world.clock.advance(timedelta(minutes=2))
    lose(world, *(f"{number}.parquet" for number in range(7)))
    world.clock.advance(GRACE)
    for _ in range(12):
        survive(world, lambda: swept(world, page=2, found=4))
        work(world)
        survive(world, lambda: reconcile(world.plane))
        work(world)
        world.clock.advance(timedelta(minutes=1))
    arrivals = sorted((item.blob.path, item.state.value) for item in world.arrivals())
    return arrivals, sum(run.arrival_count for run in world.runs()), len(world.tables.rows["pending"])


@pytest.mark.parametrize("fault", [CrashAt, FailAt], ids=["process dies", "call fails"])
def test_a_fault_anywhere_loses_no_file_and_reads_none_twice(fault: type[CrashAt] | type[FailAt]) -> None:
    """I1, I2, I6: whatever happens around any effect of a sweep, each lost file is in exactly one run."""
    pipelines = make_pipelines(quiet=5, max_wait=30)

    def make_world(faults: Faults) -> World:
        return World(pipelines=pipelines, faults=faults)

    left, points = walk_faults(lost_files_are_swept, make_world, fault)

    assert points >= (20 if fault is CrashAt else 60)
    assert len(left[0]) == left[1] == 7
    assert left[2] == 0


@given(now=instants, grace=st.integers(60, 86_400).map(lambda seconds: timedelta(seconds=seconds)))
def test_a_sweep_is_remembered_as_it_was(now: object, grace: timedelta) -> None:
    state = Sweep.first(now, grace).turn_page("x", now, grace)  # type: ignore[arg-type] # a time, above

    assert Sweep.from_bookmark(state.to_bookmark()) == state
    assert Sweep.from_bookmark({}) is None
    assert Sweep.from_bookmark(state.to_bookmark() | {"since": "?"}) is None


def test_nothing_is_missed_between_two_rounds() -> None:
    """Whatever was too young for a round is looked up in the next one, however the rounds fall."""
    begin = World().clock.now()

    for minute in range(0, 240, 7):
        state, changed_at = Sweep.first(begin, GRACE), begin + timedelta(minutes=minute)
        looked_up = 0
        for later in range(0, 480, 11):
            now = begin + timedelta(minutes=later)
            is_there = changed_at <= now
            looked_up += int(is_there and state.must_look_up(changed_at, now, GRACE))
            state = state.go_on(now).turn_page(None, now, GRACE)
        assert looked_up >= 1, minute
