"""Keeps a timer's promise across restarts: when it ran last, when it is due, whether it is past due."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Self

from local.functions_host.schedule import CronSchedule, Schedule

__all__ = ["ScheduleStatus", "after_run", "fires_often", "next_due", "on_start"]

_NEVER = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleStatus:
    """What Azure's timer extension keeps in its status blob; `last` is None before the first run."""

    last: datetime | None
    next: datetime
    last_updated: datetime

    def to_json(self, zone: tzinfo) -> str:
        """Return the blob's text, in local time as the extension writes it."""
        return json.dumps(self.to_object(zone))

    def to_object(self, zone: tzinfo) -> dict[str, str]:
        """Return the three fields as the function sees them."""
        last = "0001-01-01T00:00:00" if self.last is None else self.last.astimezone(zone).isoformat()
        return {
            "Last": last,
            "Next": self.next.astimezone(zone).isoformat(),
            "LastUpdated": self.last_updated.astimezone(zone).isoformat(),
        }

    @classmethod
    def from_json(cls, text: str, zone: tzinfo) -> Self:
        """Return the status in a blob's text.

        Raises:
            ValueError: The text is no such status.
        """
        content = json.loads(text)
        try:
            last, due, updated = (_moment(content[name], zone) for name in ("Last", "Next", "LastUpdated"))
        except (KeyError, TypeError) as error:
            raise ValueError("Last, Next or LastUpdated is missing") from error
        return cls(last=None if last == _NEVER else last, next=due, last_updated=updated)


def _moment(text: str, zone: tzinfo) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.year == 1:
        return _NEVER
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)


def next_due(schedule: Schedule, moment: datetime, zone: tzinfo) -> datetime:
    """Return the first occurrence after the moment, in UTC.

    A wall-clock time that daylight saving repeats counts once.
    """
    if not isinstance(schedule, CronSchedule):
        return schedule.next_after(moment)
    local = moment.astimezone(zone).replace(tzinfo=None)
    while True:
        local = schedule.next_after(local)
        due = local.replace(tzinfo=zone).astimezone(UTC)
        if due > moment:
            return due


def fires_often(schedule: Schedule, now: datetime) -> bool:
    """Whether the timer fires more than once a minute; Azure then keeps no status."""
    first = schedule.next_after(now)
    return schedule.next_after(first) - first < timedelta(minutes=1)


def on_start(
    status: ScheduleStatus | None, schedule: Schedule, now: datetime, zone: tzinfo
) -> tuple[ScheduleStatus, bool]:
    """Return the status to go on with, and whether the timer is past due.

    A schedule that was changed meanwhile is computed anew and is not past due for its old occurrences.

    Source: azure-webjobs-sdk-extensions, ScheduleMonitor.CheckPastDueAsync.
    """
    if status is None:
        status = ScheduleStatus(last=None, next=next_due(schedule, now, zone), last_updated=now)
        return status, False
    reference = status.last or status.last_updated
    expected = next_due(schedule, reference, zone)
    if status.next != expected:
        if now > expected:
            expected = next_due(schedule, now, zone)
        status = ScheduleStatus(last=None, next=expected, last_updated=reference)
    return status, now > status.next


def after_run(
    status: ScheduleStatus, schedule: Schedule, started: datetime, zone: tzinfo, *, was_scheduled: bool
) -> ScheduleStatus:
    """Return the status after a run, successful or not.

    A scheduled run that started a moment early counts as on time, or it would be due twice.
    """
    last = max(started, status.next) if was_scheduled else started
    return ScheduleStatus(last=last, next=next_due(schedule, last, zone), last_updated=last)
