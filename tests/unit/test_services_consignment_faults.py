"""Kills the process and loses calls around every effect of a consignment's story: nothing but delay comes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from functions.core.manifest import InputManifest
from functions.core.model import ArrivalState, BlobVersion, Outcome, RunState
from functions.core.pipelines import Pipelines
from functions.services.reconcile import reconcile
from tests.support.consignments import LATE, MARKER, PLACE, files_of, marker, part
from tests.support.control_plane import SCORING, World, make_blob, make_pipelines
from tests.support.fault_walk import CrashAt, FailAt, ProcessDiedError, settle, survive, walk_faults, work
from tests.support.in_memory import Faults


def pipelines_of(readiness: str) -> Pipelines:
    return make_pipelines(quiet=10, max_wait=60, glob="**/*.parquet", readiness=readiness)


def blob(name: str, *, etag: str = "0x1") -> BlobVersion:
    return make_blob(f"2013-07/{name}", etag=etag)


LISTS = {"0x1": b'["a.parquet", "b.parquet"]', "0x3": b'["a.parquet", "b.parquet", "x.parquet"]'}


@dataclass(frozen=True)
class Left:
    """What is left of a story: what each run read, in the order of versions, and what became of each arrival."""

    versions: tuple[tuple[frozenset[str], RunState, Outcome | None], ...]
    replaces: tuple[bool, ...]
    arrivals: tuple[tuple[str, str, ArrivalState], ...]
    started: int
    leftovers: int


def left_by(world: World) -> Left:
    by_replaced = {run.replaces: run for run in world.runs()}
    chain, run = [], by_replaced.get(None)
    while run is not None:
        chain.append(run)
        run = by_replaced.get(run.id)
    assert len(chain) == len(world.runs())
    return Left(
        versions=tuple(
            (
                frozenset(
                    f"{file.blob.path}@{file.blob.etag}"
                    for file in InputManifest.from_bytes(world.manifests.blobs[run.manifest.url]).files
                ),
                run.state,
                run.outcome,
            )
            for run in chain
            if run.manifest is not None
        ),
        replaces=tuple(run.replaces is not None for run in chain),
        arrivals=tuple(sorted((item.blob.path, item.blob.etag, item.state) for item in world.arrivals())),
        started=len(world.databricks_runs()),
        leftovers=len(world.tables.rows["pending"]) + len(world.tables.rows["open"]),
    )


def land(world: World, *blobs: BlobVersion) -> None:
    for item in blobs:
        world.inputs.put(item, content=LISTS.get(item.etag, b""))
        survive(world, lambda item=item: world.deliver(item))  # type: ignore[misc] # bound now


def let_close(world: World) -> None:
    """Let more time pass than any fault can cost, so that files that belong together are frozen together."""
    for _ in range(6):
        world.clock.advance(timedelta(seconds=20))
        work(world)
        survive(world, lambda: reconcile(world.plane))
        work(world)


def finish_all(world: World) -> None:
    for run in world.databricks_runs():
        if run.status.verdict.is_open:
            world.finish(run, reports=False)
    settle(world)


def a_marked_folder_gets_late_files(world: World) -> Left:
    land(world, blob("a.parquet"), blob("b.parquet"), blob("_SUCCESS"))
    let_close(world)
    land(world, blob("c.parquet"), blob("b.parquet", etag="0x2"))
    let_close(world)
    finish_all(world)
    return left_by(world)


def a_listed_folder_is_written_twice(world: World) -> Left:
    land(world, blob("b.parquet"), blob("files.json"), blob("a.parquet"), blob("x.parquet"))
    let_close(world)
    land(world, blob("a.parquet", etag="0x2"))
    let_close(world)
    land(world, blob("files.json", etag="0x3"))
    let_close(world)
    finish_all(world)
    return left_by(world)


def late_files_are_quarantined(world: World) -> Left:
    land(world, blob("a.parquet"), blob("b.parquet"))
    let_close(world)
    land(world, blob("c.parquet"), blob("d.parquet"))
    let_close(world)
    finish_all(world)
    return left_by(world)


STORIES = [
    (a_marked_folder_gets_late_files, 'kind = "marker"', 2),
    (a_listed_folder_is_written_twice, 'kind = "manifest", name = "files.json"', 3),
    (late_files_are_quarantined, 'kind = "count", count = 2, late = "quarantine"', 1),
]


@pytest.mark.parametrize("fault", [CrashAt, FailAt], ids=["process dies", "call fails"])
@pytest.mark.parametrize(("story", "readiness", "versions"), STORIES)
def test_a_fault_anywhere_converges(
    story: Callable[[World], Left], readiness: str, versions: int, fault: type[CrashAt] | type[FailAt]
) -> None:
    """I6, R10: each version is frozen once with all its files, and late ones are dealt with once."""
    pipelines = pipelines_of(readiness)

    def make_world(faults: Faults) -> World:
        return World(pipelines=pipelines, faults=faults)

    left, points = walk_faults(story, make_world, fault)

    assert points >= (30 if fault is CrashAt else 80)
    assert len(left.versions) == versions == left.started
    assert {(state, outcome) for _, state, outcome in left.versions} == {(RunState.ENDED, Outcome.COMPLETED)}
    assert left.leftovers == 0


class DiesAt(Faults):
    """The process dies before the first of some calls of which something is true."""

    def __init__(self) -> None:
        self.is_it: Callable[[str], bool] | None = None

    def before(self, call: str) -> None:
        if self.is_it is not None and self.is_it(call):
            self.is_it = None
            raise ProcessDiedError(call)


def landed(readiness: str, faults: Faults) -> World:
    """Return a world in which a folder is complete and due."""
    world = World(pipelines=pipelines_of(readiness), faults=faults)
    land(world, part("a"), part("b"), marker())
    world.clock.advance(timedelta(seconds=11))
    return world


def test_a_file_that_comes_after_retention_has_removed_its_folders_run_makes_a_version_of_its_own() -> None:
    """The note that the folder is frozen died with its writer, so that only the run's entry said it."""
    faults = DiesAt()
    world = landed(f"{MARKER}, {LATE}", faults)
    faults.is_it = lambda call: call == "tables.marks.replace" and not world.tables.rows["pending"]
    with pytest.raises(ProcessDiedError):
        world.work()
    world.plane = world.make_plane()
    world.finish(world.databricks_runs()[0])
    world.settle()

    world.clock.advance(timedelta(days=400))
    for _ in range(10):
        world.ledger.forget_before(SCORING, before=world.clock.now() - timedelta(days=365), limit=500)
    assert world.runs() == []
    world.inputs.put(part("c"))
    world.deliver(part("c"), at=world.clock.now())
    world.clock.advance(timedelta(seconds=11))
    world.settle_submissions()

    (run,) = world.runs()
    assert (files_of(world, run), run.replaces is not None) == ({("2013-07/c.parquet", "0x1")}, True)


def test_a_folder_whose_freezing_died_goes_on_when_its_pipeline_keeps_folders_together_no_more() -> None:
    """Its manifest says what the run was to be, and stays."""
    faults = DiesAt()
    world = landed(f"{MARKER}, {LATE}", faults)
    faults.is_it = lambda call: call == "tables.open.insert"
    with pytest.raises(ProcessDiedError):
        world.work()
    assert (world.runs(), len(world.manifests.blobs)) == ([], 1)

    world.pipelines = pipelines_of('kind = "none"')
    world.plane = world.make_plane()
    world.settle_submissions()

    (run,) = world.runs()
    assert (run.consignment, run.file_count, run.state) == (PLACE, 2, RunState.SUBMITTED)
