"""Has held arrivals looked at after a while, with one message for however many arrivals and workers there are."""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from functions.core.errors import MlopsError, TransientError
from functions.core.model import PipelineKey
from functions.core.work import WorkItem, WorkKind
from functions.services.plane import ControlPlane

__all__ = ["wake_dispatcher"]

_WAKE_UPS_KEPT: Final = 10_000
_WORTH_SHARING: Final = timedelta(seconds=2)  # a look that comes sooner costs less than asking whether it is needed
_CLOCKS_DIFFER_BY: Final = timedelta(seconds=1)


def wake_dispatcher(
    plane: ControlPlane, pipeline: PipelineKey, *, after_s: float, traceparent: str | None, consignment: str = ""
) -> None:
    """Have the held arrivals of the pipeline, or of one of its consignments, looked at after a while.

    One message is enough for however many arrivals: whoever handles it sees them all, and asks for the next look.
    That one is on its way, this process remembers; and what others have sent for a window, the ledger says. Both are
    hints: a message that is lost, or that came before an arrival it should have seen, is made up for by the
    reconciler.
    """
    now, key = plane.clock.now(), (pipeline, consignment)
    due = now + timedelta(seconds=after_s)
    with plane.lock:  # in a storm, all threads of a worker come here at once
        known = plane.wake_ups.get(key)
        if known is not None and now < known <= due:
            return
        if len(plane.wake_ups) >= _WAKE_UPS_KEPT:
            plane.wake_ups.clear()  # hints only: at worst a message too many
        plane.wake_ups[key] = due
    is_shared = not consignment and due - now >= _WORTH_SHARING
    if is_shared and (others := _sent_by_others(plane, pipeline, now, due)) is not None:
        with plane.lock:
            plane.wake_ups[key] = others
        return
    item = WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=pipeline, traceparent=traceparent, consignment=consignment)
    try:
        plane.queue.enqueue(item, delay=due - now)
    except BaseException:
        with plane.lock:
            plane.wake_ups.pop(key, None)  # nobody may rely on it
        if is_shared:
            with suppress(MlopsError):
                plane.ledger.forget_wake_up(pipeline)
        raise


def _sent_by_others(plane: ControlPlane, pipeline: PipelineKey, now: datetime, due: datetime) -> datetime | None:
    """Return when a message of another worker wakes the dispatcher, if that is soon enough, and not too soon.

    One that is due this very moment may be handled already, by a worker whose clock is ahead. If there is none, the
    others are told of ours before it is sent: told after it, workers that come at the same moment would each send
    one, and each would look, and ask for the next look, from then on. A crash between the two costs the look.
    """
    try:
        return plane.ledger.note_wake_up(pipeline, due, not_before=now + _CLOCKS_DIFFER_BY)
    except TransientError:
        return None
