"""Takes a backfill one page further: lists it, hands to the pipeline what is new, and writes down how far it is.

A step is one work item of the dispatch queue. What it does to a blob is what an event would do, and what it counts
follows from the ledger, so a step that dies is done again without a trace, and of two workers that do the same page
one writes it down. The rate is kept by the delay of the next work item, not by waiting; an item is for one page only.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from functions.core.arrival_events import event_of
from functions.core.backfills import Backfill, BackfillState, Counts, count_page, give_up, start_over
from functions.core.decided import Hold
from functions.core.decisions import decide
from functions.core.errors import (
    ContinuationLostError,
    IllegalTransitionError,
    LedgerConflictError,
    NotFoundError,
    UnknownPipelineError,
)
from functions.core.ledger import Arrival
from functions.core.model import ArrivalSource, ArrivalState, BlobCreated
from functions.ports import Entry, StoredBlob
from functions.services.arrive import arrival_of
from functions.services.backfill import page_size, work_item
from functions.services.marking import is_run_open
from functions.services.plane import ControlPlane, Done, Progress
from functions.services.situations import bare_situation
from functions.services.waking import wake_dispatcher

__all__ = ["go_on_with_backfills", "step_backfill"]

_NOBODY_IS_AT_IT: Final = timedelta(minutes=2)


def step_backfill(plane: ControlPlane, backfill_id: str, *, pages: int | None = None) -> Progress:
    """Take a backfill one page further and have the next page done when the rate allows.

    With `pages`, only if so many are done: a message too many, as each look of a person sends one, would else be a
    step more, which has a next step of its own, and the rate would be kept by each of them.
    """
    entry = plane.operations.get_backfill(backfill_id)
    if entry is None or not entry.value.state.is_active:
        return Done(what="the backfill is not under way")
    backfill = entry.value
    if pages not in {None, backfill.pages}:
        return Done(what="the page is done, and the next one has a message of its own")
    try:
        plane.pipelines.get(backfill.pipeline)
        container, prefix = backfill.places[backfill.place]
        page = plane.inputs.list_page(container, prefix, continuation=backfill.continuation, limit=page_size(backfill))
    except ContinuationLostError as error:
        return _write(plane, entry, start_over(backfill, plane.clock.now(), str(error)), Counts())
    except (UnknownPipelineError, NotFoundError) as error:
        return _write(plane, entry, give_up(backfill, plane.clock.now(), str(error)), Counts())
    counts = Counts()
    for blob in page.blobs:
        counts = counts.plus(_look_at_one(plane, backfill, blob))
    return _write(plane, entry, count_page(backfill, counts, page.continuation, plane.clock.now()), counts)


def go_on_with_backfills(plane: ControlPlane) -> str:
    """Queue the next step of backfills at which nobody has been for a while: its work item died with its process."""
    now, found = plane.clock.now(), 0
    for entry in plane.operations.active_backfills():
        if now - entry.value.updated_at > _NOBODY_IS_AT_IT:
            plane.queue.enqueue(work_item(entry.value))
            found += 1
    return "backfills: gone on with" if found else "backfills: none due"


def _write(plane: ControlPlane, entry: Entry[Backfill], changed: Backfill, counts: Counts) -> Progress:
    try:
        plane.operations.update_backfill(entry, changed)
    except LedgerConflictError:
        return Done(what="another worker has done the page")
    if not changed.state.is_active:
        return Done(what=f"the backfill is {changed.state.value}")
    # A crash before this line: the reconciler finds that nobody is at it.
    acted = counts.acted if entry.value.state is BackfillState.RUNNING else 0
    plane.queue.enqueue(work_item(changed), delay=timedelta(seconds=60 * acted / changed.per_minute))
    return Done(what=f"page {changed.pages}: {acted} handed over")


def _look_at_one(plane: ControlPlane, backfill: Backfill, blob: StoredBlob) -> Counts:
    if not blob.version.size_bytes or not backfill.since <= blob.modified_at < backfill.until:
        return Counts(outside=1)
    event = BlobCreated(
        event_id=f"backfill-{backfill.id}-{backfill.created_at:%Y%m%dT%H%M%S%f}",
        event_time=blob.modified_at,
        api="",
        blob=blob.version,
        content_type=blob.content_type,
        source=ArrivalSource.BACKFILL,
    )
    decision = decide(event, plane.pipelines, bare_situation(plane))
    if not isinstance(decision, Hold) or decision.pipeline != backfill.pipeline:
        return Counts(unwanted=1)
    is_running = backfill.state is BackfillState.RUNNING
    known = plane.ledger.get_arrival(blob.version)
    if known is None or known.value.event_id == event.event_id:  # its own: a step died after recording it
        if is_running and (known is None or known.value.state is ArrivalState.HELD):
            held = arrival_of(plane, event, ArrivalState.HELD, None, decision)
            plane.ledger.record_arrival(held)
            _wake(plane, held)
        return Counts(new=1)
    if not backfill.again or not _may_go_again(plane, known.value, event.event_id):
        return Counts(known=1)
    return Counts(again=1) if not is_running or _hold_again(plane, known, event.event_id) else Counts(known=1)


def _may_go_again(plane: ControlPlane, arrival: Arrival, note: str) -> bool:
    if _is_taken(arrival, note):
        return True
    is_given_up = arrival.state in {ArrivalState.IGNORED, ArrivalState.FAILED}
    return is_given_up and not is_run_open(plane, arrival)  # else that run may yet go on with it


def _is_taken(arrival: Arrival, note: str) -> bool:
    """Return whether this backfill has held the arrival again before, in a step that died."""
    return any(change.note == note for change in arrival.history)


def _hold_again(plane: ControlPlane, known: Entry[Arrival], note: str) -> bool:
    if _is_taken(known.value, note):
        return True
    decision = decide(event_of(known.value), plane.pipelines, bare_situation(plane))
    if not isinstance(decision, Hold):
        return False
    held = known.value.replay(decision.pipeline, plane.clock.now(), note)
    held = replace(held, route=decision.route, consignment=decision.consignment)
    try:
        plane.ledger.update_arrival(known, held)
    except (LedgerConflictError, IllegalTransitionError):
        return False  # it has moved on, so something else looks after it
    _wake(plane, held)
    return True


def _wake(plane: ControlPlane, held: Arrival) -> None:
    """Have the dispatcher look when the window closes: one message for all the arrivals of a page."""
    pipeline = plane.pipelines.by_key.get(held.pipeline) if held.pipeline else None
    if pipeline is not None:
        after_s = float(min(pipeline.batching.quiet_seconds, pipeline.batching.max_wait_seconds))
        wake_dispatcher(plane, pipeline.key, after_s=after_s, traceparent=None, consignment=held.consignment)
