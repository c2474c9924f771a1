"""Tells the events of the topic apart: how an attempt ended, that one is stalled, that work is held, what is found."""

from functions.core.completion import CompletionEvent
from functions.core.envelope import parse_event
from functions.core.held import HeldEvent
from functions.core.model import ModelSignal
from functions.core.signals import is_signal_type, signal_from_document
from functions.core.stalled import StalledEvent

__all__ = ["Announcement", "TopicEvent", "read_topic_event"]

Announcement = CompletionEvent | StalledEvent | HeldEvent  # what we publish
TopicEvent = Announcement | ModelSignal  # what the completions queue brings


def read_topic_event(text: str | bytes) -> TopicEvent:
    """Return the event in a message of the completions queue; raises InvalidDocumentError listing every mistake."""
    document = parse_event(text, "event")
    kind = document.get("type") if isinstance(document, dict) else None
    if is_signal_type(kind):
        return signal_from_document(document)
    if isinstance(kind, str) and kind.endswith(".stalled"):
        return StalledEvent.from_document(document)
    if isinstance(kind, str) and kind.endswith(".held"):
        return HeldEvent.from_document(document)
    return CompletionEvent.from_document(document)
