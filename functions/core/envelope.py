"""Wraps what is announced in the CloudEvents 1.0 envelope, and checks that an envelope is that of its data."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

from functions.core.errors import InvalidDocumentError, Problem
from functions.core.reading import Reader, to_iso

__all__ = ["MAX_EVENT_BYTES", "Enveloped", "envelope_of", "event_to_json", "parse_event", "read_event"]

MAX_EVENT_BYTES: Final = 64 * 1024  # Event Grid bills and buffers by 64 KB; a larger event is a mistake
_TRACEPARENT: Final = "|00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
_DERIVED: Final = ("id", "source", "type", "subject")
_KEYS: Final = ("specversion", *_DERIVED, "time", "datacontenttype", "dataschema", "data")


class Enveloped(Protocol):
    """An event whose envelope follows from its data."""

    @property
    def time(self) -> datetime:
        """The CloudEvents time, with its zone."""
        ...

    @property
    def traceparent(self) -> str:
        """The W3C traceparent, or nothing."""
        ...

    @property
    def id(self) -> str:
        """The CloudEvents id."""
        ...

    @property
    def source(self) -> str:
        """The CloudEvents source."""
        ...

    @property
    def type(self) -> str:
        """The CloudEvents type."""
        ...

    @property
    def subject(self) -> str:
        """The CloudEvents subject."""
        ...

    @property
    def dataschema(self) -> str:
        """The CloudEvents dataschema."""
        ...

    def to_data(self) -> dict[str, object]:
        """Return the event's data."""
        ...


def envelope_of(event: Enveloped) -> dict[str, object]:
    """Return the whole event as a document."""
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": to_iso(event.time),
        "datacontenttype": "application/json",
        "dataschema": event.dataschema,
        "traceparent": event.traceparent,
        "data": event.to_data(),
    }


def event_to_json(event: Enveloped) -> str:
    """Return the whole event as compact JSON; raises ValueError at 64 KB."""
    text = json.dumps(envelope_of(event), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    if (size := len(text.encode())) >= MAX_EVENT_BYTES:
        raise ValueError(f"event {event.id!r} is {size} bytes, at most {MAX_EVENT_BYTES}")
    return text


def parse_event(text: str | bytes, what: str) -> object:
    """Return the document in a message; raises InvalidDocumentError if it is none, or too long."""
    if len(text) >= MAX_EVENT_BYTES:
        raise InvalidDocumentError([Problem(what, f"{len(text)} bytes", "less than 64 KB")])
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidDocumentError([Problem(what, f"{len(text)} bytes", "JSON")]) from None
    return document


def read_event[E: Enveloped](
    document: object, what: str, *, dataschema: str, read: Callable[[Reader, datetime, str], E]
) -> E:
    """Return the event in a parsed document; raises InvalidDocumentError listing every mistake.

    The envelope must agree with the data: an id, source, type or subject of another event is a mistake.

    Args:
        document: The document.
        what: Its name in a mistake.
        dataschema: The only shape of data that is read.
        read: Makes the event of its data, its time and its traceparent.
    """
    problems: list[Problem] = []
    root = Reader(document, what, problems)
    root.mapping(required=_KEYS, optional=("traceparent",))
    root.child("specversion").constant("1.0")
    root.child("datacontenttype").constant("application/json")
    root.child("dataschema").constant(dataschema)
    traceparent = root.child("traceparent").text(pattern=_TRACEPARENT, expected="a W3C traceparent", default="")
    event = read(root.child("data"), root.child("time").instant(), traceparent)
    if not problems:
        for key in _DERIVED:
            if root.child(key).value != getattr(event, key):
                root.child(key).refuse(repr(getattr(event, key)))
    if problems:
        raise InvalidDocumentError(problems)
    return event
