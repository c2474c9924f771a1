"""Finds the next occurrence of a timer's schedule: NCRONTAB with six or five fields, or a time span."""

import calendar
import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Protocol

from local.functions_host.errors import ConfigurationError
from local.functions_host.timespan import parse_timespan

__all__ = ["CronSchedule", "IntervalSchedule", "Schedule", "parse_schedule"]

_MONTHS = [name.lower() for name in calendar.month_name]
_DAYS = ["sunday", *(name.lower() for name in calendar.day_name[:6])]
_HORIZON_DAYS = 366 * 40  # the rarest schedule, a 29 February on a given weekday, recurs within 40 years


class Schedule(Protocol):
    """Says when a timer fires next; all times are wall-clock times of the timer's zone."""

    def next_after(self, moment: datetime) -> datetime:
        """Return the first occurrence strictly after the moment."""
        ...


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()

    def parse(self, text: str) -> frozenset[int]:
        return frozenset(value for part in text.split(",") for value in self._part(part, text))

    def _part(self, part: str, text: str) -> range:
        span, slash, step_text = part.partition("/")
        step = self._number(step_text, text) if slash else 1
        if step < 1:
            raise self._error(text, "a step is at least 1")
        if span == "*":
            return range(self.low, self.high + 1, step)
        first_text, dash, last_text = span.partition("-")
        first = self._value(first_text, text)
        open_end = self.high if slash else first
        last = self._value(last_text, text) if dash else open_end
        if last < first:
            raise self._error(text, f"the range {span!r} runs backwards; write it as two")
        return range(first, last + 1, step)

    def _value(self, text: str, whole: str) -> int:
        if self.words and text[:1].isalpha():
            matches = [index for index, word in enumerate(self.words) if word and word.startswith(text.lower())]
            if len(matches) != 1:
                raise self._error(whole, f"{text!r} is no name of a {self.name}")
            return matches[0]
        value = self._number(text, whole)
        if not self.low <= value <= self.high:
            raise self._error(whole, f"{value} is not between {self.low} and {self.high}")
        return value

    def _number(self, text: str, whole: str) -> int:
        if not re.fullmatch(r"[0-9]{1,4}", text):
            raise self._error(whole, f"{text!r} is no number")
        return int(text)

    def _error(self, whole: str, why: str) -> ConfigurationError:
        return ConfigurationError(f"bad {self.name} field {whole!r}: {why}")


_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day-of-month", 1, 31),
    _Field("month", 1, 12, tuple(_MONTHS)),
    _Field("day-of-week", 0, 6, tuple(_DAYS)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CronSchedule:
    """An NCRONTAB expression; unlike cron, day of month *and* day of week must both match.

    Source: NCrontab (atifaziz), CrontabSchedule.GetNextOccurrence.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    def next_after(self, moment: datetime) -> datetime:
        """Return the first occurrence strictly after the moment.

        >>> parse_schedule("0 30 2 29 FEB *").next_after(datetime(2026, 1, 1))
        datetime.datetime(2028, 2, 29, 2, 30)

        Raises:
            ConfigurationError: The schedule never fires, such as on 30 February.
        """
        start = (moment + timedelta(seconds=1)).replace(microsecond=0)
        day, floor = start.date(), start.time()
        for _ in range(_HORIZON_DAYS):
            if self._fires_on(day):
                found = self._first_time(floor)
                if found is not None:
                    return datetime.combine(day, found, tzinfo=moment.tzinfo)
            day, floor = day + timedelta(days=1), time()
        raise ConfigurationError("the schedule never fires")

    def _fires_on(self, day: date) -> bool:
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays

    def _first_time(self, floor: time) -> time | None:
        for hour in (hour for hour in self.hours if hour >= floor.hour):
            for minute in self.minutes:
                if (hour, minute) < (floor.hour, floor.minute):
                    continue
                for second in self.seconds:
                    if (hour, minute, second) >= (floor.hour, floor.minute, floor.second):
                        return time(hour, minute, second)
        return None


@dataclass(frozen=True, slots=True)
class IntervalSchedule:
    """A constant interval, written as a time span."""

    interval: timedelta

    def next_after(self, moment: datetime) -> datetime:
        """Return the moment one interval later."""
        return moment + self.interval


def parse_schedule(expression: str) -> Schedule:
    """Return the schedule that a timer trigger's expression says.

    >>> parse_schedule("*/15 * * * *").next_after(datetime(2026, 1, 1, 10, 50))
    datetime.datetime(2026, 1, 1, 11, 0)

    Raises:
        ConfigurationError: The expression is wrong, or never fires.
    """
    parts = expression.split()
    if len(parts) == 1 and ":" in parts[0]:
        interval = parse_timespan(parts[0])
        if interval <= timedelta():
            raise ConfigurationError(f"bad schedule {expression!r}: the interval is zero")
        return IntervalSchedule(interval)
    if len(parts) == len(_FIELDS) - 1:
        parts = ["0", *parts]
    if len(parts) != len(_FIELDS):
        raise ConfigurationError(f"bad schedule {expression!r}: expected six fields, five, or a time span hh:mm:ss")
    try:
        second, minute, hour, day, month, weekday = (
            field.parse(part) for field, part in zip(_FIELDS, parts, strict=True)
        )
        schedule = CronSchedule(
            seconds=tuple(sorted(second)),
            minutes=tuple(sorted(minute)),
            hours=tuple(sorted(hour)),
            days=day,
            months=month,
            weekdays=weekday,
        )
        schedule.next_after(datetime(2026, 1, 1))  # noqa: DTZ001 - wall-clock time of an unknown zone
    except ConfigurationError as error:
        raise ConfigurationError(f"bad schedule {expression!r}: {error}") from error
    return schedule
