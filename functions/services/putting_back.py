"""Puts work back into its queue with a delay, so that no thread sleeps and nothing is tried in a tight loop."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from functions.core.errors import AccessRefusedError, AmbiguousJobError, ThrottledError, TransientError, UnknownJobError
from functions.core.ledger import Run
from functions.core.model import RunId
from functions.core.turnstile import LONGEST_PATIENCE
from functions.core.work import WorkItem, WorkKind
from functions.ports import Entry
from functions.services.plane import ControlPlane, Done, Progress, Wait
from functions.services.setbacks import forget_setback, note_setback
from functions.services.submission import advance_run
from functions.services.waking import wake_dispatcher

__all__ = ["MENDED_BY_A_PERSON", "UNTIL_MENDED_S", "advance_or_put_back", "back_off_s", "put_back"]

# A role is missing, or a job is not there or is there twice: what waits for it keeps, and health says so meanwhile.
MENDED_BY_A_PERSON: Final = (AccessRefusedError, UnknownJobError, AmbiguousJobError)
UNTIL_MENDED_S: Final = 60.0

_FIRST_S: Final = 1.0
_LONGEST_S: Final = 60.0
_TRIES: Final = 12  # then the reconciler's regular look is soon enough, and no message goes round for ever
_TRIES_WHILE_THROTTLED: Final = 600  # some hours: the reconciler gives up a whole pass at the first refusal


def back_off_s(tries: int, asked_s: float | None) -> float:
    """Return how long to wait before the next try: doubling, and not less than the other side asked for, up to an hour.

    The spread comes from the identity of the work, not from chance: runs differ, and a repeat stays the same.
    """
    own = min(_FIRST_S * float(2 ** min(tries, 10)), _LONGEST_S)
    return max(own, min(asked_s or 0.0, LONGEST_PATIENCE.total_seconds()))


def put_back(plane: ControlPlane, item: WorkItem, *, after_s: float, tries: int = _TRIES) -> Progress:
    """Have the work done later, unless it has been put back so often that the reconciler will do."""
    if item.tries >= tries:
        return Done(what="left to the reconciler")
    later = replace(item, tries=item.tries + 1)
    if item.kind is WorkKind.CLOSE_BATCH and item.tries == 0:
        wake_dispatcher(
            plane, item.pipeline, after_s=after_s, traceparent=item.traceparent, consignment=item.consignment
        )
    else:
        plane.queue.enqueue(later, delay=timedelta(seconds=after_s))
    return Done(what=f"looked at again after {after_s:g} s")


def advance_or_put_back(plane: ControlPlane, entry: Entry[Run], *, tries: int = 0) -> Progress:
    """Take a run as far as it goes now, and queue the rest."""
    run = entry.value
    item = WorkItem(
        kind=WorkKind.ADVANCE_RUN, pipeline=run.pipeline, run_id=run.id, tries=tries, traceparent=run.traceparent
    )
    try:
        progress = advance_run(plane, entry)
    except TransientError as error:
        most = _TRIES_WHILE_THROTTLED if isinstance(error, ThrottledError) else _TRIES
        after_s = back_off_s(tries, error.retry_after_s) + _spread_s(run.id)
        put_back(plane, item, after_s=after_s, tries=most)
        note_setback(plane, run, error, tries=tries + 1, wait_s=after_s)
        return Done(what=f"put back: {error}")
    except MENDED_BY_A_PERSON as error:
        after_s = UNTIL_MENDED_S + _spread_s(run.id)
        put_back(plane, item, after_s=after_s)
        note_setback(plane, run, error, tries=tries + 1, wait_s=after_s)
        return Done(what=f"put back: {error}")
    if isinstance(progress, Wait):
        put_back(plane, item, after_s=progress.seconds)
        forget_setback(plane, entry)
        return Done(what=f"waits: {progress.why}")
    return progress


def _spread_s(run_id: RunId) -> float:
    """Return up to a second, the same for the same run, so that many refused runs do not come back at once."""
    return int(run_id[-4:], 16) / 0xFFFF
