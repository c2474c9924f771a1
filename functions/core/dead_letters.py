"""Reads what was given up: events that Event Grid could not deliver, messages that no trigger could understand."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from functions.core.errors import InvalidDocumentError, Problem
from functions.core.reading import Reader, shown

__all__ = ["MAX_DEAD_LETTER_BYTES", "GivenUp", "MessageKind", "read_dead_letter"]

MAX_DEAD_LETTER_BYTES: Final = 4 * 1024 * 1024
_MAX_EVENTS: Final = 5000
# What Event Grid adds beside an event's own keys; in lower case in the CloudEvents schema.
_FACTS: Final = frozenset(
    {
        "deadletterreason",
        "deliveryattempts",
        "lastdeliveryoutcome",
        "publishtime",
        "lastdeliveryattempttime",
        "lasthttpstatuscode",
        "deadletterproperties",
    }
)


class MessageKind(StrEnum):
    """The queue that a message was for."""

    ARRIVALS = "arrivals"
    COMPLETIONS = "completions"
    DISPATCH = "dispatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """One message that was given up, as its trigger would have received it, and why."""

    kind: MessageKind
    message: str
    label: str  # the event's or the message's id
    reason: str


def read_dead_letter(content: bytes) -> tuple[GivenUp, ...]:
    """Return what is in a blob of the dead-letter container: a quarantined message, or a list of events.

    Raises:
        InvalidDocumentError: It is neither.
    """
    if len(content) > MAX_DEAD_LETTER_BYTES:
        raise InvalidDocumentError(
            [Problem("dead letter", f"{len(content)} bytes", f"at most {MAX_DEAD_LETTER_BYTES}")]
        )
    try:
        document: object = json.loads(content)
    except (ValueError, RecursionError):
        raise InvalidDocumentError([Problem("dead letter", f"{len(content)} bytes", "JSON")]) from None
    problems: list[Problem] = []
    root = Reader(document, "dead letter", problems)
    if isinstance(document, Mapping) and "queue" in document:
        found: tuple[GivenUp, ...] = (_quarantined(root),)
    else:
        found = tuple(_event(item) for item in root.items(max_items=_MAX_EVENTS, min_items=1))
    if problems:
        raise InvalidDocumentError(problems)
    return found


def _quarantined(root: Reader) -> GivenUp:
    root.mapping(required=("queue", "message_id", "reason", "message"), optional=None)
    return GivenUp(
        kind=root.child("queue").one_of(MessageKind),
        message=root.child("message").text(),
        label=root.child("message_id").text(max_length=512),
        reason=root.child("reason").text(),
    )


def _event(item: Reader) -> GivenUp:
    if not item.mapping(optional=None) or not isinstance(item.value, Mapping):
        return GivenUp(kind=MessageKind.ARRIVALS, message="", label="", reason="")
    event = {key: value for key, value in item.value.items() if str(key).lower() not in _FACTS}
    facts = {str(key).lower(): value for key, value in item.value.items() if str(key).lower() in _FACTS}
    event_type = str(event.get("type", event.get("eventType", "")))
    return GivenUp(
        kind=MessageKind.COMPLETIONS if event_type.startswith("tidegate.") else MessageKind.ARRIVALS,
        message=json.dumps(event, ensure_ascii=False),
        label=str(event.get("id", ""))[:256].encode(errors="replace").decode(),  # it ends up in an answer and a row
        reason=shown(facts.get("deadletterreason", "not said")).strip("'"),
    )
