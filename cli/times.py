"""Reads the times that a person types."""

import re
from datetime import UTC, datetime, timedelta

from cli.failures import CommandError
from functions.core.reading import parse_utc

__all__ = ["instant_of", "moment_of"]


def instant_of(option: str, text: str | None) -> datetime | None:
    """Return the time that an option says: a date, ISO 8601, or so long ago as 90m, 12h, 7d."""
    if text is None:
        return None
    if (ago := re.fullmatch(r"([0-9]{1,5})([mhd])", text, flags=re.ASCII)) is not None:
        unit = {"m": "minutes", "h": "hours", "d": "days"}[ago[2]]
        return datetime.now(UTC) - timedelta(**{unit: int(ago[1])})
    return moment_of(option, text, ", or 90m, 12h, 7d")


def moment_of(option: str, text: str, otherwise: str = "") -> datetime:
    """Return the time that an option says, which is the same whenever it is said: a date in UTC, or ISO 8601.

    >>> moment_of("--since", "2026-03-01").isoformat(), moment_of("--since", "2026-03-01T12:30Z").isoformat()
    ('2026-03-01T00:00:00+00:00', '2026-03-01T12:30:00+00:00')
    """
    whole = f"{text}T00:00:00Z" if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text, flags=re.ASCII) else text
    whole = re.sub(r"(T[0-9]{2}:[0-9]{2})(Z|[+-][0-9]{2}:[0-9]{2})$", r"\1:00\2", whole)
    found = parse_utc(whole)
    if found is None:
        expected = f"a time as 2026-03-01T12:30Z or 2026-03-01{otherwise}"
        raise CommandError(f"{option}: got {text!r}, expected {expected}")
    return found
