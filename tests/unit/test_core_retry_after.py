"""Tests how a Retry-After header is read: seconds, a date, or nothing."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.retry_after import retry_after_s

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("0", 0.0),
        (" 12 ", 12.0),
        ("3601", 3600.0),
        ("9" * 5000, 3600.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sunday, 01-Mar-26 12:00:30 GMT", 30.0),
        ("Sun Mar  1 12:00:30 2026", 30.0),
        ("Sun, 01 Mar 2026 13:00:30 +0100", 30.0),
        ("Sun, 01 Mar 2026 11:59:59 GMT", 0.0),
        ("Mon, 02 Mar 2026 12:00:00 GMT", 3600.0),
    ],
)
def test_seconds_and_each_form_of_a_date_are_read(text: str, wait_s: float) -> None:
    """RFC 9110: a recipient understands all three forms of an HTTP-date."""
    assert retry_after_s(text, NOW) == wait_s


@pytest.mark.parametrize(
    "text", [None, "", "-5", "1.5", "١٢", "soon", "2026-03-01T12:00:30Z", "Sun, 01 Mar 2026 25:00:30 GMT"]
)
def test_what_is_neither_counts_as_not_said(text: str | None) -> None:
    assert retry_after_s(text, NOW) is None


@given(text=st.text(max_size=60) | st.text("SunMarGMT 0123456789:,+-", max_size=40))
def test_whatever_is_said_is_nothing_or_a_wait_within_bounds(text: str) -> None:
    """A header comes from outside: none may crash its reader, or ask for less than nothing or more than an hour."""
    wait_s = retry_after_s(text, NOW)

    assert wait_s is None or 0.0 <= wait_s <= 3600.0
