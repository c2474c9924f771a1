"""Reads untrusted documents strictly, collecting every mistake with its place instead of stopping at the first."""

import re
import sys
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from functions.core.errors import Problem

__all__ = ["Reader", "parse_utc", "shown", "to_iso"]

_NOTHING: Final = object()
_SHOWN_CHARACTERS: Final = 80
_ANY_VALUE: Final = "a value"
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def shown(value: object) -> str:
    """Return a short repr of `value` for an error message: never a whole payload."""
    if value is _NOTHING:
        return "nothing"
    if isinstance(value, Mapping):
        return f"an object of {len(value)} key(s)"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    text = repr(value[: _SHOWN_CHARACTERS + 1] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def parse_utc(text: str) -> datetime | None:
    """Return the instant that an ISO 8601 text names, or None if it names none or has no zone.

    Event Grid writes seven digits of a second (.NET ticks); what is finer than a microsecond is dropped.
    """
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)", text, flags=re.ASCII)
    if match is None:
        return None
    whole, fraction, zone = match.groups()
    try:
        instant = datetime.fromisoformat(whole.upper() + (fraction or "")[:7] + zone.upper())
        return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def to_iso(instant: datetime) -> str:
    """Return `instant` as fixed-width ISO 8601 in UTC with microseconds, so that text order is time order."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0") + "Z"


class Reader:
    """A place in a document, and the list into which its mistakes go.

    Each method returns the value if it is right; else it notes one `Problem` and returns a harmless
    placeholder, so that reading goes on. Callers build domain objects only when `problems` stayed empty.
    """

    def __init__(self, value: object, place: str, problems: list[Problem]) -> None:
        self.value = value
        self.place = place
        self.problems = problems

    @property
    def is_absent(self) -> bool:
        """Whether the document has nothing at this place."""
        return self.value is _NOTHING

    def refuse(self, expected: str) -> None:
        """Note that what is here is not what was expected."""
        self.problems.append(Problem(self.place, shown(self.value), expected))

    def child(self, key: str) -> "Reader":
        """Return the reader of one key; absent if this is no object or lacks the key."""
        value = self.value.get(key, _NOTHING) if isinstance(self.value, Mapping) else _NOTHING
        name = key if key.isascii() else _SURROGATES.sub("\ufffd", key)  # a place ends up in an answer
        return Reader(value, f"{self.place}.{name}" if self.place else name, self.problems)

    def mapping(self, *, required: Collection[str] = (), optional: Collection[str] | None = ()) -> bool:
        """Return whether this is an object, noting every missing and every unknown key.

        `optional=None` allows any further key.
        """
        if not isinstance(self.value, Mapping):
            self.refuse("an object")
            return False
        for key in required:
            if key not in self.value:
                self.child(key).refuse(_ANY_VALUE)
        if optional is not None:
            known = [*required, *optional]
            for key in self.value:
                if key not in known:
                    place = f"{self.place}.{shown(key)[1:-1]}" if self.place else shown(key)[1:-1]
                    self.problems.append(Problem(place, "an unknown key", f"one of {', '.join(known) or 'no key'}"))
        return True

    def children(self) -> Iterator[tuple[str, "Reader"]]:
        """Yield the readers of all keys, noting those that are no valid Unicode; none if this is no object."""
        if isinstance(self.value, Mapping):
            for key in map(str, self.value):
                child = self.child(key)
                if key.isascii() or not _SURROGATES.search(key):
                    yield key, child
                else:
                    self.problems.append(Problem(child.place, "a key with half a character", "Unicode"))

    def items(self, *, max_items: int | None = None, min_items: int = 0) -> list["Reader"]:
        """Return the readers of a list's items."""
        if not isinstance(self.value, list | tuple):
            self.refuse("a list")
            return []
        if len(self.value) < min_items or (max_items is not None and len(self.value) > max_items):
            most = "" if max_items is None else f", at most {max_items}"
            self.refuse(f"a list of at least {min_items}{most}")
            return []
        return [Reader(item, f"{self.place}[{index}]", self.problems) for index, item in enumerate(self.value)]

    def text(
        self,
        *,
        pattern: str | None = None,
        expected: str = "text",
        min_length: int = 0,
        max_length: int | None = None,
        default: str | None = None,
    ) -> str:
        """Return a string that matches the whole pattern and is valid Unicode; the default if it is absent."""
        if self.is_absent and default is not None:
            return default
        value = self.value
        if (
            not isinstance(value, str)
            or _SURROGATES.search(value)
            or (pattern is not None and not re.fullmatch(pattern, value, flags=re.ASCII))
        ):
            self.refuse(expected)
            return ""
        if len(value) < min_length or (max_length is not None and len(value) > max_length):
            limit = "any number of" if max_length is None else max_length
            self.refuse(f"{expected} of {min_length} to {limit} characters")
            return ""
        return value

    def nullable_text(
        self, *, pattern: str | None = None, expected: str = "text", max_length: int | None = None
    ) -> str | None:
        """Return a string, or None if the document says null."""
        if self.value is None:
            return None
        return self.text(pattern=pattern, expected=f"{expected} or null", max_length=max_length)

    def integer(self, *, minimum: int, maximum: int = 2**63 - 1, default: int | None = None) -> int:
        """Return a whole number within bounds; the default if it is absent."""
        if self.is_absent and default is not None:
            return default
        value = self.value
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            self.refuse(f"a whole number from {minimum} to {maximum}")
            return minimum
        return value

    def nullable_integer(self, *, minimum: int) -> int | None:
        """Return a whole number, or None if the document says null."""
        return None if self.value is None else self.integer(minimum=minimum)

    def number(self, *, minimum: float | None = None) -> float:
        """Return a finite number."""
        value = self.value
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not abs(value) <= sys.float_info.max  # refuses NaN and infinities, which JSON does not have
            or (minimum is not None and value < minimum)
        ):
            self.refuse("a finite number" if minimum is None else f"a finite number of at least {minimum:g}")
            return 0.0
        return float(value)

    def boolean(self, *, default: bool | None = None) -> bool:
        """Return true or false, never a text that looks like it; the default if it is absent."""
        if self.is_absent and default is not None:
            return default
        if not isinstance(self.value, bool):
            self.refuse("true or false")
            return False
        return self.value

    def instant(self) -> datetime:
        """Return an aware UTC time."""
        instant = parse_utc(self.value) if isinstance(self.value, str) else None
        if instant is None:
            self.refuse("an ISO 8601 time with its zone")
            return datetime(1970, 1, 1, tzinfo=UTC)
        return instant

    def one_of[E: StrEnum](self, kind: type[E], *, default: E | None = None) -> E:
        """Return the member of a closed set; the default if it is absent."""
        if self.is_absent and default is not None:
            return default
        if isinstance(self.value, str) and self.value in kind:
            return kind(self.value)
        self.refuse(f"one of {', '.join(kind)}")
        return next(iter(kind))

    def constant(self, value: str | int) -> None:
        """Note a problem unless exactly this value of this type is here; one that was missed already is noted once."""
        if type(self.value) is type(value) and self.value == value:
            return
        missed = Problem(self.place, shown(_NOTHING), _ANY_VALUE)
        if self.is_absent and missed in self.problems:
            self.problems[self.problems.index(missed)] = Problem(self.place, shown(_NOTHING), shown(value))
        else:
            self.refuse(shown(value))
