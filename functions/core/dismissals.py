"""Reads who said that a dead letter needs nobody any more, when and why, and who wants to say so."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from functions.core.errors import InvalidRequestError, Problem
from functions.core.letter_marks import mark_of, read_mark
from functions.core.model import require_utc
from functions.core.reading import Reader, parse_utc, to_iso
from functions.core.replays import read_dead_letter_name
from functions.core.requests import parse_body

__all__ = ["DismissalRequest", "Dismissed", "parse_dismissal_request"]

_MAX_REASON: Final = 500  # characters that are kept of it
_MAX_MARK: Final = 2000  # characters of a mark: with that of a replay it stays under a blob's 8 KiB of metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class DismissalRequest:
    """The wish that a dead letter be listed no more, and why."""

    name: str  # the path of a blob in the container deadletter
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dismissed:
    """That a person said of a dead letter that it needs nobody any more; of a long reason its beginning."""

    at: datetime
    by: str
    reason: str

    def __post_init__(self) -> None:
        require_utc(self.at, "at")
        object.__setattr__(self, "reason", _cut(self.reason, _MAX_REASON))

    def __str__(self) -> str:
        return f"dismissed by {self.by} at {self.at:%Y-%m-%d %H:%M:%S} UTC: {self.reason}"

    def to_json(self) -> dict[str, object]:
        """Return it for people."""
        return {"at": to_iso(self.at), "by": self.by, "reason": self.reason}

    def to_mark(self, room: int = _MAX_MARK) -> str:
        """Return it as a text that a header can carry.

        Args:
            room: How many characters there are for it; what has room for no reason at all may be longer.
        """
        kept = len(self.reason)
        while True:
            document = {"at": to_iso(self.at), "by": self.by, "reason": _cut(self.reason, kept)}
            mark = mark_of(document)
            if len(mark) <= min(room, _MAX_MARK) or not kept:
                return mark
            kept //= 2

    @classmethod
    def from_mark(cls, mark: str | None) -> Self | None:
        """Return what a mark says, None for none and for a text that is none: then the letter waits for a person."""
        if (document := read_mark(mark)) is None:
            return None
        at, by, reason = parse_utc(str(document.get("at"))), document.get("by"), document.get("reason")
        if at is None or not isinstance(by, str) or not isinstance(reason, str):
            return None
        return cls(at=at, by=_in_one_line(by), reason=_in_one_line(reason))


def parse_dismissal_request(body: bytes, *, account: str) -> DismissalRequest:
    """Return what a body asks to be dismissed, and why; raises InvalidRequestError listing every mistake.

    A dead letter is a path in the container `deadletter`, or its URL in the app's own account.
    """
    problems: list[Problem] = []
    root = Reader(parse_body(body), "", problems)
    root.mapping(required=("dead_letter", "reason"))
    name, reason = root.child("dead_letter"), root.child("reason")
    request = DismissalRequest(
        name="" if name.is_absent else read_dead_letter_name(name, account),
        reason="" if reason.is_absent else _reason(reason),
    )
    if problems:
        raise InvalidRequestError(problems)
    return request


def _reason(reader: Reader) -> str:
    expected = "one line that says why nobody needs to see to it"
    already = len(reader.problems)
    text = reader.text(expected=expected).strip()
    if len(reader.problems) == already and not (text and text.isprintable()):
        reader.refuse(f"{expected}, of printable characters")
    return text


def _cut(text: str, at_most: int) -> str:
    return text if len(text) <= at_most else f"{text[: max(0, at_most - 1)]}…"


def _in_one_line(text: str) -> str:
    """Return a text as an answer and a terminal can show it: others can write metadata too."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
