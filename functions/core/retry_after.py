"""Reads for how long another service asks to be left alone."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from functions.core.turnstile import LONGEST_PATIENCE

__all__ = ["retry_after_s"]


def retry_after_s(text: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, None if it says nothing that can be understood.

    0 for a date that has passed; at most `LONGEST_PATIENCE`, for which work is put back at most.

    >>> retry_after_s("Sun, 01 Mar 2026 12:00:30 GMT", datetime(2026, 3, 1, 12, tzinfo=UTC))
    30.0

    Source: RFC 9110, 10.2.3: whole seconds, or an HTTP-date.
    """
    text = (text or "").strip()
    longest_s = LONGEST_PATIENCE.total_seconds()
    if re.fullmatch("[0-9]+", text):
        return min(float(text), longest_s)
    try:
        until = parsedate_to_datetime(text)
        until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)  # asctime's form is in UTC
        return min(max((until - now).total_seconds(), 0.0), longest_s)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
