"""Keeps messages that no trigger could understand, with the reason, so that they can be looked at and replayed."""

from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import Final

from functions.core.announcements import read_topic_event
from functions.core.blob_events import parse_blob_event
from functions.core.errors import MlopsError
from functions.core.reading import to_iso
from functions.core.work import WorkItem
from functions.ports import QuarantinedMessage
from functions.services.plane import ControlPlane

__all__ = ["quarantine_message"]

_READERS: Final[dict[str, Callable[[str], object]]] = {
    "arrivals": parse_blob_event,
    "completions": read_topic_event,
    "dispatch": WorkItem.from_json,
}


def quarantine_message(plane: ControlPlane, queue: str, message_id: str, body: bytes, at: datetime) -> str:
    """Return the URL of the blob that keeps the message; keeping it again changes nothing.

    Args:
        plane: The control plane.
        queue: The queue that the message was for: arrivals, completions or dispatch.
        message_id: The queue service's id of the poison message.
        body: The message as it came.
        at: When it was put into the poison queue.
    """
    text = body.decode(errors="replace")
    reason = _reason(queue, text)
    name = f"poison/{at:%Y-%m-%d}/{queue}-{sha256(message_id.encode()).hexdigest()[:32]}.json"
    with plane.telemetry.span("quarantine", queue=queue, message_id=message_id, reason=reason[:500]) as span:
        document = {"queue": queue, "message_id": message_id, "at": to_iso(at), "reason": reason, "message": text}
        url = plane.quarantine.keep(name, document)
        message = QuarantinedMessage(id=message_id, queue=queue, at=at, reason=reason, url=url)
        plane.ledger.record_quarantined(message)
        span.set(url=url)
    return url


def _reason(queue: str, text: str) -> str:
    """Return why the message cannot be read, or that it can: then handling it failed time and again."""
    reader = _READERS.get(queue)
    if reader is None:
        return f"no reader for queue {queue!r}"
    try:
        reader(text)
    except MlopsError as error:
        return str(error)
    return "it can be read, but handling it failed as often as the queue allows; the telemetry has the errors"
