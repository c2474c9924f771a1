"""Reads .NET time spans, the way in which host.json and timers write durations."""

import re
from datetime import timedelta

from local.functions_host.errors import ConfigurationError

__all__ = ["parse_timespan"]

_TIMESPAN = re.compile(r"(?:(\d+)\.)?([01]?\d|2[0-3]):([0-5]?\d)(?::([0-5]?\d)(?:\.(\d{1,7}))?)?")


def parse_timespan(text: str) -> timedelta:
    """Return the duration that `[d.]hh:mm[:ss[.fffffff]]` says.

    >>> parse_timespan("00:00:00.200")
    datetime.timedelta(microseconds=200000)
    >>> parse_timespan("1.02:00:00")
    datetime.timedelta(days=1, seconds=7200)

    Raises:
        ConfigurationError: The text is no such duration.
    """
    match = _TIMESPAN.fullmatch(text.strip())
    if match is None:
        raise ConfigurationError(f"{text!r} is no time span; expected [d.]hh:mm:ss[.fff]")
    days, hours, minutes, seconds, fraction = match.groups(default="0")
    return timedelta(
        days=int(days),
        hours=int(hours),
        minutes=int(minutes),
        seconds=int(seconds),
        microseconds=int(fraction.ljust(7, "0")) // 10,
    )
