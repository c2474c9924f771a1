"""Holds NCRONTAB expressions to the slots that Azure Functions timers fire at."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.cron import Cron, CronError
from tests.strategies import instants

fields = st.sampled_from(["*", "0", "5", "1-3", "*/2", "1,4"])


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """Return expressions whose every field is legal."""
    return " ".join([draw(fields), draw(fields), draw(fields), draw(fields.filter(lambda f: f != "0")), "*", "*"])


@pytest.mark.parametrize(
    ("expression", "after", "slot"),
    [
        ("0 0 3 1 * *", "2026-01-01T03:00:00", "2026-02-01T03:00:00"),
        ("0 0 3 1 * *", "2026-12-31T00:00:00", "2027-01-01T03:00:00"),
        ("0 */15 * * * *", "2026-01-01T00:14:59", "2026-01-01T00:15:00"),
        ("*/20 * * * * *", "2026-01-01T00:00:41", "2026-01-01T00:01:00"),
        ("0 0 9-17/4 * * MON-FRI", "2026-01-02T17:00:00", "2026-01-05T09:00:00"),
        ("0 0 0 29 feb *", "2024-02-29T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 0 13 * fri", "2026-01-01T00:00:00", "2026-02-13T00:00:00"),
        ("0 30/10 * * * *", "2026-01-01T00:00:00", "2026-01-01T00:30:00"),
        ("0 0 0 * * 0", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
    ],
)
def test_next_slot(expression: str, after: str, slot: str) -> None:
    first = Cron.parse(expression).first_after(datetime.fromisoformat(after + "+00:00"))

    assert first == datetime.fromisoformat(slot + "+00:00")


@given(expression=expressions(), instant=instants)
def test_slots_are_found_from_both_sides(expression: str, instant: datetime) -> None:
    """The slot after an instant is the last one until itself, and nothing lies between."""
    cron = Cron.parse(expression)
    following = cron.first_after(instant)
    last = cron.last_until(instant)

    assert following is not None
    assert last is not None
    assert last <= instant < following
    assert cron.last_until(following) == following
    assert cron.first_after(last) == following


def test_nothing_is_found_beyond_the_horizon() -> None:
    """A schedule of one date in four years is legal; the search for it ends."""
    far = Cron.parse("0 0 0 29 2 mon")

    assert far.last_until(datetime(1, 1, 2, tzinfo=UTC)) is None


def test_end_of_the_calendar_is_no_crash() -> None:
    assert Cron.parse("0 0 0 1 1 *").first_after(datetime(9999, 12, 31, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("0 3 1 * *", "six fields .* got 5"),
        ("60 * * * * *", "a second from 0 to 59, got '60'"),
        ("* * 24 * * *", "a hour from 0 to 23"),
        ("* * * 0 * *", "a day from 1 to 31"),
        ("* * * * 13 *", "a month from 1 to 12"),
        ("* * * * * 7", "a weekday from 0 to 6"),
        ("* * * * * someday", "a weekday from 0 to 6, got 'someday'"),
        ("*/0 * * * * *", "a second from 1 to 59, got '0'"),
        ("5-1 * * * * *", "a second range that goes up, got '5-1'"),
        ("0 0 0 31 2 *", "a day that exists"),
        (", * * * * *", "a second from 0 to 59, got ''"),
        ("² * * * * *", "a second from 0 to 59"),
    ],
)
def test_wrong_expression_says_what_was_expected(expression: str, message: str) -> None:
    with pytest.raises(CronError, match=message):
        Cron.parse(expression)


@given(expression=st.text(max_size=30))
def test_any_text_is_a_schedule_or_refused(expression: str) -> None:
    try:
        cron = Cron.parse(expression)
    except CronError:
        return
    assert cron.first_after(datetime(2026, 1, 1, tzinfo=UTC)) is not None
