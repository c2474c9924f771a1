"""Lists the slots of a schedule by the wall clock of a time zone, where hours are skipped and repeated twice a year.

A slot is an instant in UTC, so a run's identity does not depend on how a zone's rules change later. Two kinds of
schedules meet a change of the clock differently, as in Debian's cron:

* Fixed: neither the minute nor the hour begins with `*`, as in `0 30 2 * * *`. Such a schedule means a time of the
  day, once a day. A time in the skipped hour comes due when the hour has been skipped; a time in the repeated hour
  comes due when it is first shown.
* Running: `0 */15 * * * *`. Such a schedule means a distance. It goes on by what the clock shows: nothing in the hour
  that is not there, everything twice in the hour that is there twice.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from functions.core.cron import Cron
from functions.core.model import require_utc

__all__ = ["UTC_ZONE", "Timetable"]

UTC_ZONE: Final = "UTC"
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Timetable:
    """The instants that an expression names on the clocks of a zone.

    `Cron` reckons without zones, so what clocks show is handed to it as if it were UTC; such a time is called a wall
    time here.
    """

    cron: Cron
    zone: ZoneInfo

    @property
    def text(self) -> str:
        """What tells it from every other timetable."""
        return f"{' '.join(self.cron.expression.split())} {self.zone.key}"

    def last_until(self, instant: datetime) -> datetime | None:
        """Return the last slot not later than `instant`, or None if there is none within forty years."""
        require_utc(instant, "instant")
        if self.zone.key == UTC_ZONE:
            return self.cron.last_until(instant)
        shown, last_shown = _wall(instant, self.zone), self._latest_wall_until(instant)
        if self._is_fixed:
            wall = self.cron.last_until(last_shown)
            return None if wall is None else self._due_of(wall)
        found = [self._running_until(shown, instant), self._running_until(last_shown, instant)]
        return max((slot for slot in found if slot is not None), default=None)

    def first_after(self, instant: datetime) -> datetime | None:
        """Return the first slot later than `instant`, or None if there is none within forty years."""
        require_utc(instant, "instant")
        if self.zone.key == UTC_ZONE:
            return self.cron.first_after(instant)
        if self._is_fixed:
            wall = self.cron.first_after(self._latest_wall_until(instant))
            return None if wall is None else self._due_of(wall)
        shown = _wall(instant, self.zone)
        found = [self._running_after(shown, instant)]
        instants = _instants(shown, self.zone)
        if len(instants) > 1 and instant < instants[1]:
            # Clocks will go back: wall times that are earlier than this one are still to come, for the second time.
            found.append(self._running_after(_wall(_change(self.zone, *instants), self.zone) - _SECOND, instant))
        return min((slot for slot in found if slot is not None), default=None)

    def latest(self, after: datetime, until: datetime, *, limit: int) -> tuple[datetime, ...]:
        """Return the slots later than `after` and not later than `until`: the latest `limit` of them, in order."""
        found: list[datetime] = []
        slot = self.last_until(until)
        while slot is not None and slot > after and len(found) < limit:
            found.append(slot)
            slot = self.last_until(slot - _SECOND)
        return tuple(reversed(found))

    def earliest(self, after: datetime, until: datetime, *, limit: int) -> tuple[datetime, ...]:
        """Return the slots later than `after` and not later than `until`: the earliest `limit` of them, in order."""
        found: list[datetime] = []
        slot = self.first_after(after)
        while slot is not None and slot <= until and len(found) < limit:
            found.append(slot)
            slot = self.first_after(slot)
        return tuple(found)

    @property
    def _is_fixed(self) -> bool:
        minute, hour = self.cron.expression.split()[1:3]
        return not minute.startswith("*") and not hour.startswith("*")

    def _latest_wall_until(self, instant: datetime) -> datetime:
        """Return the latest wall time that was shown until `instant`: in a repeated hour, the end of the first one."""
        shown = _wall(instant, self.zone)
        instants = _instants(shown, self.zone)
        if len(instants) > 1 and instant >= instants[1]:
            return _wall(_change(self.zone, *instants) - _SECOND, self.zone)
        return shown

    def _due_of(self, wall: datetime) -> datetime:
        """Return when a fixed time of the day comes due."""
        instants = _instants(wall, self.zone)
        return instants[0] if instants else _end_of_gap(wall, self.zone)

    def _running_until(self, shown: datetime, until: datetime) -> datetime | None:
        wall = self.cron.last_until(shown)
        while wall is not None:
            due = [at for at in _instants(wall, self.zone) if at <= until]
            if due:
                return max(due)
            wall = self.cron.last_until(_wall(_end_of_gap(wall, self.zone) - _SECOND, self.zone))
        return None

    def _running_after(self, shown: datetime, after: datetime) -> datetime | None:
        wall = self.cron.first_after(shown)
        while wall is not None:
            due = [at for at in _instants(wall, self.zone) if at > after]
            if due:
                return min(due)
            wall = self.cron.first_after(_wall(_end_of_gap(wall, self.zone), self.zone) - _SECOND)
        return None


def _wall(instant: datetime, zone: ZoneInfo) -> datetime:
    """Return what clocks of the zone show."""
    return instant.astimezone(zone).replace(tzinfo=UTC, fold=0)


def _instants(wall: datetime, zone: ZoneInfo) -> tuple[datetime, ...]:
    """Return when clocks show this, in order: never in a skipped hour, twice in a repeated one."""
    found = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return tuple(sorted(at for at in found if _wall(at, zone) == wall))


def _end_of_gap(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the instant at which clocks leapt over this wall time."""
    with_new_offset, with_old_offset = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (1, 0))
    return _change(zone, with_new_offset, with_old_offset)


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the first second of the new offset, between an instant of the old one and an instant of the new one."""
    low, high = 0, int((after - before) / _SECOND)
    old = before.astimezone(zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if (before + middle * _SECOND).astimezone(zone).utcoffset() == old:
            low = middle
        else:
            high = middle
    return before.replace(microsecond=0) + high * _SECOND
