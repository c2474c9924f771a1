"""Compares what two deliveries say of one ETag, and keeps what they say differently."""

from dataclasses import replace
from typing import Final

from functions.core.decisions import COMMITTING_APIS
from functions.core.ledger import Arrival
from functions.core.model import ArrivalSource, ArrivalState

__all__ = ["differences", "note_differences"]

_NOTES_KEPT: Final = 10


def differences(first: Arrival, again: Arrival) -> tuple[str, ...]:
    """Return what two deliveries of the same ETag say differently, each as a sentence; what one leaves open agrees.

    An ETag names one content, so size, sequencer and content type of two events cannot differ: one of them lies,
    or the service does. Nothing here can tell which.
    """
    told = (
        ("size_bytes", first.blob.size_bytes, again.blob.size_bytes),
        ("sequencer", first.blob.sequencer, again.blob.sequencer),
        ("content_type", first.content_type.strip().lower(), again.content_type.strip().lower()),
    )
    return tuple(
        f"event {again.event_id[:80]!r} says {name} {now!r}, recorded is {before!r}"
        for name, before, now in told
        if before not in {None, ""} and now not in {None, ""} and before != now
    )


def note_differences(first: Arrival, again: Arrival) -> Arrival:
    """Return the first arrival with what a later delivery knows of it; the same one if that is nothing new.

    What only the later one tells, as an event does of what a sweep found first, is added. What contradicts is
    noted and changes nothing. Where the first event was of a call that commits nothing, such as the creation of a
    file, and the later one commits the same ETag, as closing an empty file may, the later one is what counts.
    """
    if _is_committed_by(first, again):
        return replace(again, recorded_at=first.recorded_at, deliveries=first.deliveries)
    known = first.contradictions
    new = tuple(note for note in differences(first, again) if note not in known)
    return replace(
        first,
        blob=replace(first.blob, sequencer=again.blob.sequencer) if first.blob.sequencer is None else first.blob,
        content_type=first.content_type or again.content_type,
        contradictions=(known + new)[:_NOTES_KEPT],
    )


def _is_committed_by(first: Arrival, again: Arrival) -> bool:
    was_uncommitted = first.state is ArrivalState.IGNORED and first.api not in COMMITTING_APIS
    return was_uncommitted and first.source is ArrivalSource.EVENT and again.api in COMMITTING_APIS
