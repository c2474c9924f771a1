"""Writes down the runs that schedules and requests ask for, which read what storage has rather than arrivals."""

from dataclasses import replace

from functions.core.access import Actor
from functions.core.decided import ListedInput, NamedInput, Situation, Skip, StartRun
from functions.core.errors import InvalidRequestError, LedgerConflictError, Problem
from functions.core.freezing import Frozen, freeze
from functions.core.globs import Glob
from functions.core.ledger import Run
from functions.core.manifest import MAX_MANIFEST_BYTES, fits_into_a_manifest
from functions.core.model import BlobVersion
from functions.core.work import WorkItem, WorkKind
from functions.ports import Entry
from functions.services.plane import ControlPlane

__all__ = ["find_files", "queue_run", "write_decided_run"]

_MOST_FILES = 50_000
_MOST_LISTED = 500_000  # of which the glob picks some
_PAGE = 5000  # the service's limit


def find_files(plane: ControlPlane, start: StartRun) -> list[BlobVersion]:
    """Return the files that the run shall read, in the versions they have now.

    Raises:
        InvalidRequestError: A named file does not exist, or there are more files than a run may read.
    """
    match start.input:
        case NamedInput(blobs=blobs):
            found = [(place, plane.inputs.find(plane.account, *place)) for place in blobs]
            missing = [f"{container}/{path}" for (container, path), blob in found if blob is None]
            if missing:
                raise InvalidRequestError(
                    [Problem("files", repr(name[:200]), "a file that exists") for name in missing]
                )
            return [blob.version for _, blob in found if blob is not None]
        case ListedInput(places=places):
            files: list[BlobVersion] = []
            for container, prefix, pattern, suffix in places:
                _list_into(files, plane, container, Glob(prefix, pattern, suffix))
            if not fits_into_a_manifest(files):
                expected = f"names that fit into one manifest of {MAX_MANIFEST_BYTES >> 20} MiB"
                raise InvalidRequestError([Problem("files", f"{len(files)} files with longer names", expected)])
            return files
        case _:
            raise AssertionError("a batch of arrivals has its files already")


def _list_into(files: list[BlobVersion], plane: ControlPlane, container: str, names: Glob) -> None:
    """Add the files of these names; only they are kept in memory, however many others there are.

    Empty ones, and those of which Spark would read another path, are left out: they would fail the whole run.
    """
    listed, continuation = 0, None
    while True:
        page = plane.inputs.list_page(container, names.prefix, continuation=continuation, limit=_PAGE)
        listed += len(page.blobs)
        found = [blob.version for blob in page.blobs if names.matches(blob.version.path)]
        files += [file for file in found if file.size_bytes and file.is_readable]
        if len(files) > _MOST_FILES or listed > _MOST_LISTED:
            # Training on the first of them would be a model of data that nobody chose.
            expected = f"at most {_MOST_FILES} that match, among at most {_MOST_LISTED}"
            raise InvalidRequestError([Problem(f"{container}/{names.prefix}", "more files", expected)])
        if page.continuation is None:
            return
        continuation = page.continuation


def write_decided_run(
    plane: ControlPlane, start: StartRun, situation: Situation, *, actor: Actor | None = None
) -> Entry[Run] | Skip:
    """Return the run's entry, making it if need be; repeating this keeps the first one's files.

    The manifest is written before the run, so that a repeat after a crash in between, when storage may have other
    files, goes on with the files that were there first.
    """
    existing = plane.ledger.get_run(start.run_id)
    if existing is None:
        frozen = freeze(start, find_files(plane, start), situation, now=plane.clock.now())
        if isinstance(frozen, Skip):
            return frozen
        _, kept = plane.manifests.write(frozen.manifest)
        if kept != frozen.manifest:
            frozen = _of_kept(start, frozen, [file.blob for file in kept.files], situation)
        existing, _ = plane.ledger.insert_run(_asked_for_by(frozen.run, actor))
    if not existing.value.is_story_over:
        queue_run(plane, existing.value)
    return existing


def _asked_for_by(run: Run, actor: Actor | None) -> Run:
    if actor is None:
        return run
    *before, decided = run.history
    return replace(run, history=(*before, replace(decided, note=f"{decided.note}, asked for by {actor}")))


def _of_kept(start: StartRun, frozen: Frozen, files: list[BlobVersion], situation: Situation) -> Frozen:
    again = freeze(start, files, situation, now=frozen.run.created_at)
    if isinstance(again, Skip):
        raise LedgerConflictError(f"run {start.run_id!r}", "its manifest has no files")
    return again


def queue_run(plane: ControlPlane, run: Run) -> None:
    """Have the dispatcher take the run as far as it goes."""
    item = WorkItem(kind=WorkKind.ADVANCE_RUN, pipeline=run.pipeline, run_id=run.id, traceparent=run.traceparent)
    plane.queue.enqueue(item)
