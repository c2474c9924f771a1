"""Says why a run that is to be sent was put back lately, for people: a hint, which may lag behind or be missing."""

import json
import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from functions.core.errors import Problem
from functions.core.lineage import shortened
from functions.core.model import require_utc
from functions.core.reading import Reader, to_iso

__all__ = ["REGULAR_WAIT_S", "Setback", "setback_of"]

REGULAR_WAIT_S: Final = 62  # the longest that nobody asked for: a minute, up to a second of spread, a whole second
_WRITTEN_EVERY: Final = timedelta(minutes=2)  # for as long as nothing but the count is new
_LONGEST_WAIT_S: Final = 86_400  # far beyond what anything is put back for
_MOST_CHARACTERS: Final = 500
_MOST_READ: Final = 4000
# What an answer repeats may hold a signature or a token; none of them has a place in the ledger.
_SECRETS: Final = (
    (re.compile(r"(?<=\S)\?[^\s'\"]*=[^\s'\"]*"), "?…"),
    (re.compile(r"(?<=://)[^\s/@:'\"]*:[^\s/@'\"]+(?=@)"), "…"),  # not abfss://container@account
    (re.compile(r"(?i)\b(bearer|basic|sharedkey(?:lite)?)\s+[\w.~+/=:-]{8,}"), r"\1 …"),
    (
        # Also within an address or a text that was quoted once more: sig%3D…, \"password\": \"…\".
        re.compile(
            r"(?i)(?<![\w-])([\w-]*(?:key|secret|password|pwd|token|signature|sig)[\\'\"]*\s*(?:[=:]|%3[ad])\s*[\\'\"]*)"
            r"[^\s\\'\",;&]+"
        ),
        r"\1…",
    ),
    (re.compile(r"\b(?:dapi[0-9a-f]{8,}|eyJ[\w-]{8,}(?:\.[\w-]+)*)"), "…"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setback:
    """The latest setback of a run's current attempt that was worth a write."""

    kind: str  # the class of the error, by which a later one is known as the same
    error: str
    at: datetime
    tries: int  # so many at least: not each of them is written
    wait_s: int  # after which it was to be tried again

    def __post_init__(self) -> None:
        require_utc(self.at, "at")

    def is_news_after(self, before: "Setback | None") -> bool:
        """Return whether it is worth a write: another reason, a longer wait, or the first of the last two minutes."""
        if before is None or before.kind != self.kind or self.wait_s > max(before.wait_s, REGULAR_WAIT_S):
            return True
        return not timedelta(0) <= self.at - before.at < _WRITTEN_EVERY

    def next_try_by(self, now: datetime) -> datetime:
        """Return when it is tried again at the latest, also if it was tried since: no later wait was longer."""
        due = min(self.at, now) + timedelta(seconds=self.wait_s)  # a clock that was ahead put nothing off
        return due if due > now else now + timedelta(seconds=max(self.wait_s, REGULAR_WAIT_S))

    def to_text(self) -> str:
        """Return it as one column."""
        values = {"kind": self.kind, "error": self.error, "at": to_iso(self.at), "tries": self.tries}
        return json.dumps({**values, "wait_s": self.wait_s}, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> "Setback | None":
        """Return what a column says; None if that cannot be understood, because no run may fail for a hint."""
        problems: list[Problem] = []
        try:
            root = Reader(json.loads(text), "setback", problems)
        except (ValueError, RecursionError):
            return None
        setback = cls(
            kind=root.child("kind").text(),
            error=root.child("error").text(),
            at=root.child("at").instant(),
            tries=root.child("tries").integer(minimum=1),
            wait_s=root.child("wait_s").integer(minimum=0, maximum=_LONGEST_WAIT_S),
        )
        return None if problems else setback

    def to_public_json(self, now: datetime) -> dict[str, object]:
        """Return what people are shown."""
        return {
            "last_error": self.error,
            "last_tried_at": to_iso(self.at),
            "tries": self.tries,
            "next_try_by": to_iso(self.next_try_by(now)),
        }


def setback_of(error: Exception, before: Setback | None, *, at: datetime, tries: int, wait_s: float) -> Setback:
    """Return the setback that an error is: one line of it, without what may be a secret.

    Args:
        error: Why the run could not be sent.
        before: The setback that is in the run's row.
        at: When it was tried.
        tries: How often this one has tried it; others may have tried it too.
        wait_s: When it is tried again.
    """
    sentence = "".join(letter if letter.isprintable() else " " for letter in str(error)[:_MOST_READ])
    sentence = " ".join(sentence.split())
    for secret, instead in _SECRETS:
        sentence = secret.sub(instead, sentence)
    return Setback(
        kind=type(error).__name__,
        error=shortened(sentence, _MOST_CHARACTERS, max_bytes=6 * _MOST_CHARACTERS) or "",
        at=at,
        tries=max(tries, 1 if before is None else before.tries + 1),
        wait_s=min(math.ceil(wait_s), _LONGEST_WAIT_S),
    )
