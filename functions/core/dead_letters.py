"""Reads what was given up, by Event Grid or by the triggers, and whether it was replayed since."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Self

from functions.core.errors import InvalidDocumentError, Problem
from functions.core.letter_marks import mark_of, read_mark
from functions.core.model import require_utc
from functions.core.reading import Reader, parse_utc, shown, to_iso

__all__ = ["MAX_DEAD_LETTER_BYTES", "GivenUp", "MessageKind", "Replayed", "read_dead_letter"]

MAX_DEAD_LETTER_BYTES: Final = 4 * 1024 * 1024
_MAX_EVENTS: Final = 5000
_MAX_LINE: Final = 300  # characters of what came of one message
_MAX_MARK: Final = 4000  # characters of a mark: all metadata of a blob has 8 KiB
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """That a dead letter was replayed and each of its messages taken: when, and what came of it."""

    at: datetime
    did: tuple[str, ...]

    def __post_init__(self) -> None:
        require_utc(self.at, "at")

    def to_json(self) -> dict[str, object]:
        """Return it for people, in the words of a replay's own answer."""
        return {"at": to_iso(self.at), "did": list(self.did)}

    def to_mark(self, room: int = _MAX_MARK) -> str:
        """Return it as a text that a header can carry; of a letter with many messages what came of the first ones.

        Args:
            room: How many characters there are for it; what has room for none of the lines may be longer.
        """
        kept = [line if len(line) <= _MAX_LINE else f"{line[:_MAX_LINE]}…" for line in self.did]
        while True:
            others = len(self.did) - len(kept)
            lines = [*kept, f"… and {others} more"] if others else kept
            mark = mark_of({"at": to_iso(self.at), "did": lines})
            if len(mark) <= min(room, _MAX_MARK) or not kept:
                return mark
            kept = kept[: len(kept) // 2]

    @classmethod
    def from_mark(cls, mark: str | None) -> Self | None:
        """Return what a mark says, None for none and for a text that is none: then the letter waits for a person."""
        if (document := read_mark(mark)) is None:
            return None
        at, did = parse_utc(str(document.get("at"))), document.get("did")
        if at is None or not isinstance(did, list):
            return None
        # Others can write metadata too: half a character would break the answer in which the whole list goes.
        return cls(at=at, did=tuple(str(line).encode(errors="replace").decode() for line in did))


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
        label=_in_one_line(root.child("message_id").text(max_length=512)),
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
        label=_in_one_line(str(event.get("id", ""))[:256]),
        reason=shown(facts.get("deadletterreason", "not said")).strip("'"),
    )


def _in_one_line(label: str) -> str:
    """Return what a message calls itself as it can be shown: it ends up in an answer, a row, and a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in label)
