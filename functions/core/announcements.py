"""Tells the events of the completion topic apart: how an attempt ended, and that one is stalled."""

import json

from functions.core.completion import MAX_EVENT_BYTES, CompletionEvent
from functions.core.errors import InvalidDocumentError, Problem
from functions.core.stalled import StalledEvent

__all__ = ["Announcement", "read_announcement"]

Announcement = CompletionEvent | StalledEvent


def read_announcement(text: str | bytes) -> Announcement:
    """Return the event in a message of the completion topic; raises InvalidDocumentError listing every mistake."""
    if len(text) >= MAX_EVENT_BYTES:
        raise InvalidDocumentError([Problem("event", f"{len(text)} bytes", "less than 64 KB")])
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidDocumentError([Problem("event", f"{len(text)} bytes", "JSON")]) from None
    kind = document.get("type") if isinstance(document, dict) else None
    if isinstance(kind, str) and kind.endswith(".stalled"):
        return StalledEvent.from_document(document)
    return CompletionEvent.from_document(document)
