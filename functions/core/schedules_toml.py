"""Reads the schedules of `pipelines.toml`."""

from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from functions.core.cron import Cron, CronError
from functions.core.pipelines import MissedSlots, Schedule
from functions.core.reading import Reader
from functions.core.timetable import UTC_ZONE

__all__ = ["read_schedule"]

_NAME: Final = r"[a-z][a-z0-9_]{0,47}"
_ANY_CRON: Final = "0 0 0 1 1 *"  # stands in for a wrong one, while the other mistakes are looked for


def read_schedule(reader: Reader) -> Schedule:
    """Return a schedule; every mistake is noted in the reader."""
    reader.mapping(required=("name", "cron"), optional=("missed", "timezone"))
    name = reader.child("name")
    return Schedule(
        name="" if name.is_absent else name.text(pattern=_NAME, expected="a name like monthly_retraining"),
        cron=_read_cron(reader.child("cron")),
        missed=reader.child("missed").one_of(MissedSlots, default=MissedSlots.LATEST),
        timezone=_read_timezone(reader.child("timezone")),
    )


def _read_cron(reader: Reader) -> Cron:
    expected = "six fields: second minute hour day month weekday"
    text = "" if reader.is_absent else reader.text(pattern=r"[^\n]+", expected=expected, max_length=120)
    try:
        return Cron.parse(text or _ANY_CRON)
    except CronError as error:
        reader.refuse(str(error))
        return Cron.parse(_ANY_CRON)


def _read_timezone(reader: Reader) -> str:
    expected = "an IANA time zone like Europe/Berlin"
    name = reader.text(pattern=r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}", expected=expected, default=UTC_ZONE)
    if not name:
        return UTC_ZONE
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of zones is no zone either
        reader.refuse(expected)
        return UTC_ZONE
