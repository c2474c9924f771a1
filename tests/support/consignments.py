"""Lands folders of files that make sense only together, and says which run reads which."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from functions.core.ledger import Run
from functions.core.manifest import InputManifest
from functions.core.model import BlobVersion
from functions.core.pipelines import Pipelines
from functions.services.reconcile import reconcile
from tests.support.control_plane import World, make_blob, make_pipelines

__all__ = [
    "COUNT",
    "FOLDER",
    "LATE",
    "MANIFEST",
    "MARKER",
    "PLACE",
    "batches",
    "files_of",
    "land",
    "land_manifest",
    "make_world",
    "marker",
    "names",
    "part",
    "pass_time",
    "pipelines_of",
    "versions_before",
]

MARKER = 'kind = "marker"'
MANIFEST = 'kind = "manifest", name = "files.json"'
COUNT = 'kind = "count", count = 3'
FOLDER = "2013-07"
PLACE = "input/flights/new/2013-07/"
LATE = 'late = "new_version"'


def make_world(readiness: str, *, quiet: int = 10, **window: Any) -> World:
    """Return a world whose scoring pipeline waits for its folders to be complete."""
    return World(pipelines=pipelines_of(readiness, quiet=quiet, **window))


def pipelines_of(readiness: str, *, quiet: int = 10, **window: Any) -> Pipelines:
    """Return the pipelines of such a world."""
    max_wait = window.pop("max_wait", max(quiet, 60))
    return make_pipelines(quiet=quiet, max_wait=max_wait, glob="**/*.parquet", readiness=readiness, **window)


def part(name: str, *, etag: str = "0x1", folder: str = FOLDER, sequencer: str | None = None) -> BlobVersion:
    """Return a file of a folder."""
    return make_blob(f"{folder}/{name}.parquet", etag=etag, sequencer=sequencer)


def marker(folder: str = FOLDER, *, etag: str = "0xM") -> BlobVersion:
    """Return the marker of a folder."""
    blob = make_blob(f"{folder}/_SUCCESS", etag=etag)
    return BlobVersion(account=blob.account, container=blob.container, path=blob.path, etag=etag, size_bytes=0)


def land(world: World, *blobs: BlobVersion) -> None:
    """Upload and announce."""
    for blob in blobs:
        world.inputs.put(blob)
        world.deliver(blob)


def land_manifest(world: World, content: bytes, *, etag: str = "0xM", folder: str = FOLDER) -> BlobVersion:
    """Upload and announce the list of a folder's files; return its blob."""
    blob = make_blob(f"{folder}/files.json", etag=etag)
    world.inputs.put(blob, content=content)
    world.deliver(blob)
    return blob


def pass_time(world: World, seconds: float = 11) -> None:
    """Let time pass, and the dispatcher and the reconciler do what is due."""
    world.clock.advance(timedelta(seconds=seconds))
    world.work()
    reconcile(world.plane)
    world.work()


def files_of(world: World, run: Run) -> set[tuple[str, str]]:
    """Return names and ETags of the files that a run reads."""
    assert run.manifest is not None
    files = InputManifest.from_bytes(world.manifests.blobs[run.manifest.url]).files
    return {(file.blob.path.removeprefix("flights/new/"), file.blob.etag) for file in files}


def batches(world: World) -> list[set[str]]:
    """Return the names that each run reads, the first version first."""
    return [{name for name, _ in files_of(world, run)} for run in sorted(world.runs(), key=versions_before(world))]


def versions_before(world: World) -> Callable[[Run], int]:
    """Return what counts the versions before that of a run."""
    by_id = {run.id: run for run in world.runs()}

    def count(run: Run) -> int:
        return 0 if run.replaces is None else 1 + count(by_id[run.replaces])

    return count


def names(*parts: str, folder: str = FOLDER) -> set[str]:
    """Return the names of files of a folder."""
    return {f"{folder}/{name}.parquet" for name in parts}
