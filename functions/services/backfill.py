"""Begins, confirms and stops backfills, and says how far they are; their steps are the dispatcher's."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from functions.core.access import Actor
from functions.core.backfill_requests import PER_MINUTE, BackfillRequest, parse_backfill_request
from functions.core.backfills import (
    Backfill,
    BackfillState,
    backfill_id_of,
    confirm,
    go_on,
    places_of,
    stop,
)
from functions.core.errors import IllegalTransitionError, InvalidRequestError, NotFoundError, Problem
from functions.core.ledger import Change
from functions.core.work import WorkItem, WorkKind
from functions.ports import Entry
from functions.services.acted import Acted
from functions.services.plane import ControlPlane

__all__ = ["list_backfills", "page_size", "request_backfill", "show_backfill", "work_item"]

_ID = re.compile(r"[0-9a-f]{16}")
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTED_AT_ONCE: Final = 500
_HANDED_AT_ONCE: Final = 200
_STEPS_A_MINUTE: Final = 6


def request_backfill(plane: ControlPlane, body: bytes, actor: Actor) -> tuple[Backfill, Acted]:
    """Return the backfill of a body, begun, gone on with, confirmed or stopped as it says, and what that did.

    The first request begins a dry run, which lists and changes nothing. The same request again goes on with it, or
    says how far it is; `confirm` with what the dry run answered, or `yes`, has it carried out.

    Raises:
        InvalidRequestError: The body is wrong, or confirms another plan than there is.
        IllegalTransitionError: It confirms a plan before there is one.
    """
    asked = parse_backfill_request(body, pipelines=plane.pipelines, now=plane.clock.now())
    entry, is_new = _find_or_begin(plane, asked, actor)
    last_step_at = entry.value.updated_at  # or later
    if asked.is_stop:
        return _stop(plane, entry, actor)
    did = ["began a dry run, which changes nothing"] if is_new else []
    changed = go_on(entry.value, plane.clock.now(), by=str(actor))
    if changed != entry.value:
        waits = "; it waits for a word" if changed.state is BackfillState.COUNTED else ""
        did.append(f"went on with it: it was stopped after {entry.value.pages} pages{waits}")
        entry = _change(plane, entry, changed)
    if _is_confirmed(entry.value, asked):
        changed = confirm(entry.value, plane.clock.now(), by=str(actor))
        if changed != entry.value:
            did.append("confirmed it")
            entry = _change(plane, entry, changed)
    if entry.value.state.is_active:
        # Always: a message too many finds its page done, and one too few would leave it to the reconciler.
        plane.queue.enqueue(work_item(entry.value), delay=_until_due(entry.value, last_step_at, plane.clock.now()))
    did_not = () if did else (f"began nothing: it is {entry.value.state.value}",)
    return entry.value, Acted(did=tuple(did), did_not=did_not)


def _stop(plane: ControlPlane, entry: Entry[Backfill], actor: Actor) -> tuple[Backfill, Acted]:
    stopped = _change(plane, entry, stop(entry.value, plane.clock.now(), by=str(actor)))
    if stopped is entry:
        return entry.value, Acted(did_not=(f"stopped nothing: it is {entry.value.state.value}",))
    return stopped.value, Acted(did=("stopped it",))


def work_item(backfill: Backfill) -> WorkItem:
    """Return the work that the backfill's next step is, and nothing else: done twice, it is no step more."""
    return WorkItem(kind=WorkKind.BACKFILL, pipeline=backfill.pipeline, backfill_id=backfill.id, pages=backfill.pages)


def page_size(backfill: Backfill) -> int:
    """Return how many blobs the backfill's next step looks at."""
    if backfill.state is BackfillState.COUNTING:
        return _COUNTED_AT_ONCE
    return max(1, min(_HANDED_AT_ONCE, backfill.per_minute // _STEPS_A_MINUTE))


def _until_due(backfill: Backfill, last_step_at: datetime, now: datetime) -> timedelta:
    """Return after how long the rate surely allows the next step, whatever the one before has handed over."""
    if backfill.state is BackfillState.COUNTING or backfill.pages == 0:
        return timedelta(0)
    longest = timedelta(seconds=60 * page_size(backfill) / backfill.per_minute)
    return min(longest, max(timedelta(0), last_step_at + longest - now))


def show_backfill(plane: ControlPlane, backfill_id: str) -> Backfill:
    """Return a backfill; raises NotFoundError."""
    entry = plane.operations.get_backfill(backfill_id) if _ID.fullmatch(backfill_id) else None
    if entry is None:
        raise NotFoundError(f"looking for backfill {backfill_id[:64]!r}", "there is none of this id")
    return entry.value


def list_backfills(plane: ControlPlane, *, limit: int) -> Sequence[Backfill]:
    """Return backfills, the latest first."""
    return plane.operations.backfills(limit=limit)


def _find_or_begin(plane: ControlPlane, asked: BackfillRequest, actor: Actor) -> tuple[Entry[Backfill], bool]:
    now, pipeline = plane.clock.now(), asked.pipeline
    backfill = Backfill(
        id=backfill_id_of(pipeline.key, asked.prefix, asked.since, asked.until, again=asked.again),
        pipeline=pipeline.key,
        prefix=asked.prefix,
        since=asked.since or _EVER,
        until=asked.until or now,
        again=asked.again,
        per_minute=asked.per_minute or PER_MINUTE,
        places=places_of(pipeline, asked.prefix),
        state=BackfillState.COUNTING,
        asked_by=str(actor),
        created_at=now,
        updated_at=now,
        history=(Change(state=BackfillState.COUNTING.value, at=now, note=f"asked for by {actor}"),),
    )
    existing = plane.operations.get_backfill(backfill.id)
    begins_anew = existing is not None and existing.value.state is BackfillState.DONE and asked.is_fresh
    # Before anything is written: a request that is refused must not have a backfill begin or go on.
    _is_confirmed(backfill if existing is None or begins_anew else existing.value, asked)
    if existing is None:
        if asked.is_stop:
            raise InvalidRequestError([Problem("stop", "no backfill of these arguments", "one that was begun")])
        return plane.operations.claim_backfill(backfill)
    if begins_anew:
        return plane.operations.update_backfill(existing, backfill), True
    if asked.per_minute is not None and existing.value.state is not BackfillState.DONE:
        existing = _change(plane, existing, replace(existing.value, per_minute=asked.per_minute))
    return existing, False


def _is_confirmed(backfill: Backfill, asked: BackfillRequest) -> bool:
    if asked.confirmation is None:
        return asked.is_confirmed
    if backfill.confirmation is None:
        raise IllegalTransitionError("CountThenConfirm", backfill.id, backfill.state.value, "confirmed")
    if backfill.confirmation != asked.confirmation:
        raise InvalidRequestError([Problem("confirm", repr(asked.confirmation), repr(backfill.confirmation))])
    return True


def _change(plane: ControlPlane, entry: Entry[Backfill], changed: Backfill) -> Entry[Backfill]:
    return entry if changed == entry.value else plane.operations.update_backfill(entry, changed)
