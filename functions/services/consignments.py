"""Freezes consignments: the files of one folder become one run when they are complete, and again when more come.

The ledger keeps one row a consignment, which names the run of its present version. It is written, by
compare-and-set, before any arrival is claimed for that run. So:

- a row without an entry of its run is a version that is still being frozen: whoever looks next goes on with that very
  run, with what is held by then, and the first manifest written decides what is in it;
- a row whose run has an entry, or had one, is a version that is frozen: what is held now came late.

What `batches` says of crashes between its writes holds here too.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from functions.core.batching import start_or_hold
from functions.core.consignments import (
    Complete,
    Consignment,
    Facts,
    Late,
    judge_consignment,
    newest_of_each_path,
    run_id_of_consignment,
)
from functions.core.decided import ArrivalsInput, Hold, Skip, StartRun, Wanted
from functions.core.errors import InvalidDocumentError, LedgerConflictError, NotFoundError
from functions.core.file_lists import MOST_BYTES, parse_file_list
from functions.core.ledger import Arrival, Cause, CauseKind, Run
from functions.core.manifest import InputManifest
from functions.core.model import ArrivalState, BlobVersion, RunId
from functions.core.pipelines import Pipeline, ReadinessKind
from functions.core.readiness_toml import MOST_FILES
from functions.core.reasons import HoldReason, SkipReason
from functions.core.tokens import batch_id_of
from functions.ports import Entry, HeldArrival
from functions.services.batches import act_on, give_up, note_reason, tidy
from functions.services.looking import look_at_held
from functions.services.plane import ControlPlane, Done, Progress, Wait
from functions.services.situations import situation_of_batch

__all__ = ["close_consignment"]

_PAGE: Final = 5000
_PAGES: Final = 20  # of the folder, to see which files of an earlier version are still there
_NOTED: Final = 100  # arrivals that say why their consignment waits
_EXPLAINS_ITSELF: Final = frozenset({HoldReason.WINDOW_OPEN, HoldReason.NOT_READY})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What the ledger knows of a consignment."""

    entry: Entry[Consignment] | None
    is_frozen: bool = False  # its present version is
    frozen: Run | None = None  # the latest version that is frozen, unless retention has removed it
    manifest: InputManifest | None = None  # its files


def close_consignment(plane: ControlPlane, pipeline: Pipeline, place: str) -> Progress:
    """Freeze the held arrivals of one consignment into a run if they are complete; says what they wait for if not."""
    held = look_at_held(plane, pipeline.key, limit=MOST_FILES + 1, consignment=place)
    if not held:
        return Done(what=HoldReason.NOTHING_HELD.value)
    known = _known(plane, pipeline, place)
    if known.is_frozen:
        held, is_released = _sort_out(plane, known.frozen, held)
        if is_released:
            return Wait(why="files were released that no run will read", seconds=0)
        if not held:
            return Done(what="its present version has them all")
    held = _supersede_outdated(plane, held)
    facts = _facts(plane, pipeline, place, known)
    verdict = judge_consignment(pipeline, [item.entry.value for item in held], facts, now=plane.clock.now())
    match verdict:
        case Late(arrivals=arrivals):
            late = {arrival.id for arrival in arrivals}
            reason = str(Skip(reason=SkipReason.LATE_FILE))
            give_up(plane, [item for item in held if item.entry.value.id in late], reason)
            is_rest = len(late) < len(held)
            return Wait(why="others were replayed", seconds=0) if is_rest else Done(what=reason)
        case Hold():
            return _wait(plane, held, verdict)
        case Complete():
            return _freeze(plane, pipeline, place, known, verdict, held)


def _known(plane: ControlPlane, pipeline: Pipeline, place: str) -> _Known:
    entry = plane.ledger.consignment(pipeline.key, place)
    if entry is None:
        return _Known(entry=None)
    present = _run(plane, entry.value.run_id)
    is_frozen = entry.value.is_frozen or present is not None
    frozen = present
    if not is_frozen and entry.value.replaces is not None:
        frozen = _run(plane, entry.value.replaces)
    return _Known(entry=entry, is_frozen=is_frozen, frozen=frozen, manifest=_manifest_of(plane, frozen))


def _manifest_of(plane: ControlPlane, run: Run | None) -> InputManifest | None:
    if run is None or run.manifest is None:
        return None
    try:
        return plane.manifests.read(run.manifest)
    except (NotFoundError, InvalidDocumentError):
        return None  # lost: the next version has the late files only, rather than none


def _sort_out(plane: ControlPlane, present: Run | None, held: Sequence[HeldArrival]) -> tuple[list[HeldArrival], bool]:
    """Return what is truly held, and whether something was released; the index may show what a run has already."""
    truly: list[HeldArrival] = []
    over: list[HeldArrival] = []
    assigned: dict[RunId, list[tuple[HeldArrival, Entry[Arrival]]]] = {}
    for item in held:
        entry = plane.ledger.get_arrival(item.entry.value.blob)
        if entry is None:
            over.append(item)
        elif entry.value.state is ArrivalState.HELD and entry.value.pipeline == item.pipeline:
            truly.append(replace(item, entry=entry))
        elif entry.value.state is ArrivalState.ASSIGNED and entry.value.run_id is not None:
            assigned.setdefault(entry.value.run_id, []).append((item, entry))
        else:  # a held one was moved to another pipeline by a person
            over.append(item)
    plane.ledger.forget_held(over)
    is_released = False
    for run_id, items in assigned.items():
        run = present if present is not None and run_id == present.id else _run(plane, run_id)
        if run is not None:  # else a later version is being frozen right now
            is_released = tidy(plane, run, items) or is_released
    return truly, is_released


def _run(plane: ControlPlane, run_id: RunId) -> Run | None:
    entry = plane.ledger.get_run(run_id)
    return None if entry is None else entry.value


def _supersede_outdated(plane: ControlPlane, held: Sequence[HeldArrival]) -> list[HeldArrival]:
    """Give up held versions that another held one of the same path has replaced, and return the others."""
    newest = newest_of_each_path(item.entry.value for item in held)
    outdated = [item for item in held if newest[item.entry.value.blob.path].id != item.entry.value.id]
    if not outdated:
        return [*held]
    now = plane.clock.now()
    changes = [
        (
            item.entry,
            item.entry.value.supersede(now, f"replaced by ETag {newest[item.entry.value.blob.path].blob.etag}"),
        )
        for item in outdated
    ]
    written = plane.ledger.update_arrivals(changes)
    plane.ledger.forget_held([item for item, entry in zip(outdated, written, strict=True) if entry is not None])
    gone = {item.entry.value.id for item in outdated}
    return [item for item in held if item.entry.value.id not in gone]


def _facts(plane: ControlPlane, pipeline: Pipeline, place: str, known: _Known) -> Facts:
    container, _, folder = place.partition("/")
    path, kind = f"{folder}{pipeline.readiness.name}", pipeline.readiness.kind
    has_version = known.is_frozen or (known.entry is not None and known.entry.value.replaces is not None)
    frozen = _still_there(plane, container, folder, known.manifest) if has_version else None
    if kind is ReadinessKind.MARKER:
        return Facts(sealed_at=_sealed_at(plane, container, path), frozen=frozen)
    if kind is not ReadinessKind.MANIFEST:
        return Facts(frozen=frozen)
    content = plane.inputs.read_small(plane.account, container, path, most_bytes=MOST_BYTES)
    if content is None:
        return Facts(frozen=frozen)
    try:
        paths = {f"{folder}{name}" for name in parse_file_list(content)}
    except InvalidDocumentError as error:
        return Facts(problem=str(error)[:1000], frozen=frozen)
    routes = [route for route in pipeline.routes if route.container == container]
    listed = frozenset(path for path in paths if any(route.names.matches(path) for route in routes))
    if not listed:
        return Facts(problem=f"none of its {len(paths)} names is one that a route wants", frozen=frozen)
    return Facts(listed=listed, frozen=frozen)


def _sealed_at(plane: ControlPlane, container: str, path: str) -> datetime | None:
    """Return when the marker came: as recorded, or as storage says of one that was there before any event."""
    arrivals = [entry.value for entry in plane.ledger.arrivals_of_path(plane.account, container, path)]
    seals = newest_of_each_path(item for item in arrivals if item.state is ArrivalState.SEAL)
    if path in seals:
        return seals[path].recorded_at
    found = plane.inputs.find(plane.account, container, path)
    return None if found is None else found.modified_at


def _still_there(
    plane: ControlPlane, container: str, folder: str, manifest: InputManifest | None
) -> tuple[BlobVersion, ...]:
    """Return the manifest's files that storage still has in that version, as far as its folder can be looked through.

    What was overwritten meanwhile comes as an arrival of its own.
    """
    if manifest is None:
        return ()
    blobs = [file.blob for file in manifest.files]
    listed = {blob.path: blob.etag for blob in _listed(plane, container, folder, {blob.path for blob in blobs})}
    return tuple(blob for blob in blobs if listed.get(blob.path) == blob.etag)


def _listed(plane: ControlPlane, container: str, folder: str, paths: set[str]) -> Iterator[BlobVersion]:
    continuation = None
    seen: set[str] = set()
    for _ in range(_PAGES):
        page = plane.inputs.list_page(container, folder, continuation=continuation, limit=_PAGE)
        for blob in page.blobs:
            seen.add(blob.version.path)
            yield blob.version
        continuation = page.continuation
        if continuation is None:
            return
    for path in paths - seen:  # a folder full of other things
        found = plane.inputs.find(plane.account, container, path)
        if found is not None:
            yield found.version


def _wait(plane: ControlPlane, held: Sequence[HeldArrival], hold: Hold) -> Progress:
    why = f"{hold.reason.value}: {hold.detail}" if hold.detail else hold.reason.value
    if hold.reason not in _EXPLAINS_ITSELF:
        note_reason(plane, held[:_NOTED], why)
    return Wait(why=why, seconds=hold.wait_s) if hold.wait_s > 0 else Done(what=why)


def _freeze(
    plane: ControlPlane,
    pipeline: Pipeline,
    place: str,
    known: _Known,
    complete: Complete,
    held: Sequence[HeldArrival],
) -> Progress:
    """Name the run in the consignment's row, then freeze it as any batch."""
    first = min(complete.arrivals, key=lambda arrival: (arrival.event_time, arrival.id))
    consignment = _next_version(pipeline, place, known, complete, first)
    ids = [arrival.id for arrival in complete.arrivals]
    wanted = Wanted(
        run_id=consignment.run_id,
        cause=Cause(kind=CauseKind.ARRIVALS, name=batch_id_of(ids), at=first.event_time),
        input=ArrivalsInput(arrivals=complete.arrivals, kept=complete.kept),
        traceparent=first.traceparent,
    )
    situation = situation_of_batch(plane, pipeline)
    decision = start_or_hold(pipeline, wanted, plane.pipelines, situation)
    if isinstance(decision, StartRun) and not decision.must_cancel_active:
        decision = replace(decision, consignment=place, replaces=consignment.replaces)
        if known.entry is None or known.entry.value != consignment:
            try:
                plane.ledger.move_consignment(known.entry, consignment)
            except LedgerConflictError:
                return Wait(why="another worker freezes it", seconds=1)
        progress = act_on(plane, pipeline, decision, held, situation)
        _mark_frozen(plane, consignment)
        return progress
    return act_on(plane, pipeline, decision, held, situation)


def _mark_frozen(plane: ControlPlane, consignment: Consignment) -> None:
    """Note that the version's run was written, so that it is not written again when retention has removed it."""
    entry = plane.ledger.consignment(consignment.pipeline, consignment.place)
    is_present = entry is not None and entry.value == consignment
    if entry is None or not is_present or _run(plane, consignment.run_id) is None:
        return
    with suppress(LedgerConflictError):  # a rival has noted it, or a later version is being frozen
        plane.ledger.move_consignment(entry, replace(consignment, is_frozen=True))


def _next_version(pipeline: Pipeline, place: str, known: _Known, complete: Complete, first: Arrival) -> Consignment:
    if known.entry is not None and not known.is_frozen:
        return known.entry.value  # its freezing was begun, and is finished under the name that it has
    before = None if known.entry is None else known.entry.value
    version = 1 if before is None else before.version + 1
    run_id = run_id_of_consignment(pipeline.key, place, version, complete.arrivals, first_event_time=first.event_time)
    return Consignment(
        pipeline=pipeline.key,
        place=place,
        run_id=run_id,
        version=version,
        replaces=None if before is None else before.run_id,
    )
