"""Computes US federal holidays from their rules, so that a feature needs no calendar of its own."""

from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["days_from_holiday", "federal_holidays"]

_MONDAY, _THURSDAY = 0, 3
_JUNETEENTH_SINCE = 2021


@lru_cache(maxsize=64)
def federal_holidays(year: int) -> tuple[date, ...]:
    """Return the federal holidays of a year on their own dates, ascending; observed substitutes are left out.

    Travel peaks around the day itself, not around the day off in lieu.

    >>> [day.isoformat() for day in federal_holidays(2013)][:4]
    ['2013-01-01', '2013-01-21', '2013-02-18', '2013-05-27']

    Source: 5 U.S.C. § 6103.
    """
    days = [
        date(year, 1, 1),
        _nth_weekday(year, 1, _MONDAY, 3),
        _nth_weekday(year, 2, _MONDAY, 3),
        _last_monday_of_may(year),
        date(year, 7, 4),
        _nth_weekday(year, 9, _MONDAY, 1),
        _nth_weekday(year, 10, _MONDAY, 2),
        date(year, 11, 11),
        _nth_weekday(year, 11, _THURSDAY, 4),
        date(year, 12, 25),
    ]
    if year >= _JUNETEENTH_SINCE:
        days.append(date(year, 6, 19))
    return tuple(sorted(days))


def days_from_holiday(days: npt.NDArray[np.datetime64]) -> npt.NDArray[np.int64]:
    """Return how many days each date is from the nearest federal holiday, before or after.

    Args:
        days: (n,) dates, without NaT.
    """
    if not days.size:
        return np.empty(0, dtype=np.int64)
    wanted = days.astype("datetime64[D]")
    years = {int(year) + 1970 for year in np.unique(wanted.astype("datetime64[Y]").astype(np.int64))}
    known = sorted({day for year in years for around in (year - 1, year, year + 1) for day in federal_holidays(around)})
    holidays = np.array(known, dtype="datetime64[D]")
    after = np.searchsorted(holidays, wanted)  # never 0 nor the end: the years around are in the list
    ahead = (holidays[after] - wanted).astype(np.int64)
    behind = (wanted - holidays[after - 1]).astype(np.int64)
    return np.asarray(np.minimum(ahead, behind), dtype=np.int64)


def _nth_weekday(year: int, month: int, weekday: int, nth: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (nth - 1))


def _last_monday_of_may(year: int) -> date:
    last = date(year, 5, 31)
    return last - timedelta(days=last.weekday())
