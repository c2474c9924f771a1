"""Reads NCRONTAB expressions, the six fields of Azure Functions timers, and lists the slots they name, in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import product
from typing import Final

from functions.core.model import require_utc

__all__ = ["Cron", "CronError"]

_MONTHS: Final = {"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6} | {
    "jul": 7,
    "aug": 8,
    "sep": 9,
    "oct": 10,
    "nov": 11,
    "dec": 12,
}
_DAYS: Final = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
# name, first, last, names: NCrontab counts Sunday as 0 and does not know 7.
_FIELDS: Final[tuple[tuple[str, int, int, Mapping[str, int]], ...]] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("weekday", 0, 6, _DAYS),
)
_HORIZON_DAYS: Final = 41 * 366  # a certain weekday's 29 February may be forty years away, around 2100


class CronError(ValueError):
    """A text is no NCRONTAB expression; says which field and what was expected."""


@dataclass(frozen=True, slots=True)
class Cron:
    """The instants that an expression names: an instant matches when every one of its six fields does."""

    expression: str
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    @classmethod
    def parse(cls, expression: str) -> "Cron":
        """Return the schedule; raises CronError, also for one that names no instant at all."""
        parts = expression.split()
        if len(parts) != len(_FIELDS):
            raise CronError(f"six fields (second minute hour day month weekday), got {len(parts)}")
        cron = cls(expression, *(_parse_field(part, *field) for part, field in zip(parts, _FIELDS, strict=True)))
        if cron.first_after(datetime(2024, 1, 1, tzinfo=UTC)) is None:
            raise CronError("a day that exists")
        return cron

    def first_after(self, instant: datetime) -> datetime | None:
        """Return the first slot later than `instant`, or None if there is none within forty years."""
        today = require_utc(instant, "instant").toordinal()
        for ordinal in range(today, min(today + _HORIZON_DAYS, date.max.toordinal()) + 1):
            if self._is_on(day := date.fromordinal(ordinal)):
                after = instant.time() if ordinal == today else None
                if (at := self._first_time(after)) is not None:
                    return datetime.combine(day, at, tzinfo=UTC)
        return None

    def last_until(self, instant: datetime) -> datetime | None:
        """Return the last slot not later than `instant`, or None if there is none within forty years."""
        today = require_utc(instant, "instant").toordinal()
        for ordinal in range(today, max(today - _HORIZON_DAYS, date.min.toordinal()) - 1, -1):
            if self._is_on(day := date.fromordinal(ordinal)):
                until = instant.time() if ordinal == today else time.max
                if (at := self._last_time(until)) is not None:
                    return datetime.combine(day, at, tzinfo=UTC)
        return None

    def _is_on(self, day: date) -> bool:
        # NCrontab wants day and weekday both to match, unlike cron, where one of them is enough.
        return day.month in self.months and day.day in self.days and (day.weekday() + 1) % 7 in self.weekdays

    def _first_time(self, after: time | None) -> time | None:
        """Return the first time of a day, or the first later than `after`."""
        for hour, minute in product(self.hours, self.minutes):
            if after is None or (hour, minute) > (after.hour, after.minute):
                return time(hour, minute, self.seconds[0])
            if (hour, minute) == (after.hour, after.minute):
                for second in self.seconds:
                    if second > after.second:
                        return time(hour, minute, second)
        return None

    def _last_time(self, until: time) -> time | None:
        """Return the last time of a day not later than `until`."""
        for hour, minute in product(reversed(self.hours), reversed(self.minutes)):
            if (hour, minute) < (until.hour, until.minute):
                return time(hour, minute, self.seconds[-1])
            if (hour, minute) == (until.hour, until.minute):
                for second in reversed(self.seconds):
                    if second <= until.second:
                        return time(hour, minute, second)
        return None


def _parse_field(text: str, name: str, first: int, last: int, names: Mapping[str, int]) -> tuple[int, ...]:
    values: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        step = _parse_number(step_text, name, 1, last, {}) if slash else 1
        if span == "*":
            low, high = first, last
        else:
            low_text, dash, high_text = span.partition("-")
            low = _parse_number(low_text, name, first, last, names)
            high = _parse_number(high_text, name, first, last, names) if dash else (last if slash else low)
        if low > high:
            raise CronError(f"a {name} range that goes up, got {part!r}")
        values.update(range(low, high + 1, step))
    return tuple(sorted(values))


def _parse_number(text: str, name: str, first: int, last: int, names: Mapping[str, int]) -> int:
    number = names.get(text.lower())
    if number is None and text.isascii() and text.isdigit() and len(text) <= 2:  # noqa: PLR2004 - no field has more
        number = int(text)
    if number is None or not first <= number <= last:
        raise CronError(f"a {name} from {first} to {last}, got {text[:20]!r}")
    return number
