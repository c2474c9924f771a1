"""Holds the slots of schedules with a time zone to those of Debian's cron, around every change of the clock."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import example, given
from hypothesis import strategies as st

from functions.core.cron import Cron
from functions.core.timetable import Timetable

# Whole hours, half an hour, a change at midnight, the southern half, none at all, negative winter time.
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Asia/Kathmandu",
    "Europe/Dublin",
    "Africa/Casablanca",
]
# Where clocks change by half an hour, cronsim leaps by a whole one and misses slots; see the test written out below.
OF_THE_ORACLE = [zone for zone in ZONES if zone != "Australia/Lord_Howe"]
minutes = st.sampled_from(["0", "30", "15,45", "*", "*/20", "5-7"])
hours = st.sampled_from(["0", "1", "2", "1-3", "3", "*", "*/2", "2,23"])
days = st.sampled_from(["*", "*", "1", "*/2"])
# Around the changes of many zones' clocks, and anywhere.
instants = st.one_of(
    st.integers(0, 7 * 86_400).map(lambda second: datetime(2026, 3, 27, tzinfo=UTC) + timedelta(seconds=second)),
    st.integers(0, 9 * 86_400).map(lambda second: datetime(2026, 10, 24, tzinfo=UTC) + timedelta(seconds=second)),
    st.integers(0, 2 * 366 * 86_400).map(lambda second: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=second)),
)


def timetable(expression: str, zone: str = "Europe/Berlin") -> Timetable:
    return Timetable(Cron.parse(expression), ZoneInfo(zone))


def oracle(expression: str, zone: str, after: datetime, count: int) -> list[datetime]:
    """Return the next slots as cronsim finds them; it reads five fields as Debian's cron does."""
    # Of a time that clocks show twice, cronsim begins with the first: begin before it, and drop what is too early.
    simulated = CronSim(expression, (after - timedelta(hours=3)).astimezone(ZoneInfo(zone)))
    found: list[datetime] = []
    while len(found) < count:
        slot = next(simulated).astimezone(UTC)
        if slot > after and slot not in found:
            found.append(slot)
    return found


@given(minute=minutes, hour=hours, day=days, zone=st.sampled_from(OF_THE_ORACLE), after=instants)
@example(minute="30", hour="2", day="*", zone="Europe/Berlin", after=datetime(2026, 3, 29, tzinfo=UTC))
@example(minute="30", hour="2", day="*", zone="Europe/Berlin", after=datetime(2026, 10, 25, 0, 45, tzinfo=UTC))
@example(minute="*/20", hour="*", day="*", zone="Australia/Lord_Howe", after=datetime(2026, 4, 4, 14, 50, tzinfo=UTC))
def test_slots_are_those_of_debians_cron(minute: str, hour: str, day: str, zone: str, after: datetime) -> None:
    """R05: over every change of the clock, by an oracle that walks second by second."""
    slots = timetable(f"0 {minute} {hour} {day} * *", zone)
    expected = oracle(f"{minute} {hour} {day} * *", zone, after, 6)

    found: list[datetime] = []
    at = after
    while len(found) < 6:
        following = slots.first_after(at)
        assert following is not None
        found.append(following)
        at = following

    assert found == expected


def test_a_change_by_half_an_hour_skips_nothing_that_clocks_show() -> None:
    """On Lord Howe Island 02:00 becomes 01:30 on 5 April 2026, at 15:00 UTC of the day before, and comes again."""
    slots = timetable("0 */30 1-2 5 4 *", "Australia/Lord_Howe")

    found = slots.earliest(datetime(2026, 4, 4, tzinfo=UTC), datetime(2026, 4, 5, tzinfo=UTC), limit=9)

    assert [f"{slot:%H:%M}" for slot in found] == ["14:00", "14:30", "15:00", "15:30", "16:00"]


@given(minute=minutes, hour=hours, day=days, zone=st.sampled_from(ZONES), instant=instants)
def test_slots_are_found_from_both_sides(minute: str, hour: str, day: str, zone: str, instant: datetime) -> None:
    """The slot after an instant is the last one until itself, and nothing lies between."""
    slots = timetable(f"0 {minute} {hour} {day} * *", zone)

    following, last = slots.first_after(instant), slots.last_until(instant)

    assert following is not None
    assert last is not None
    assert last <= instant < following
    assert slots.last_until(following) == following
    assert slots.last_until(following - timedelta(seconds=1)) == last
    assert slots.first_after(last) == following


@pytest.mark.parametrize(
    ("expression", "local_day", "slots"),
    [
        # Clocks go from 02:00 to 03:00 on 29 March: 01:00 UTC.
        ("0 30 2 * * *", "2026-03-29", ["01:00"]),
        ("0 0,30 2 * * *", "2026-03-29", ["01:00"]),
        ("0 0 3 * * *", "2026-03-29", ["01:00"]),
        ("0 0 1-4 * * *", "2026-03-29", ["00:00", "01:00", "02:00"]),
        ("0 0 */1 * * *", "2026-03-29", ["00:00", "01:00", "02:00", "03:00"]),
        ("0 */30 2 * * *", "2026-03-29", []),
        # They go from 03:00 back to 02:00 on 25 October: 01:00 UTC.
        ("0 30 2 * * *", "2026-10-25", ["00:30"]),
        ("0 */30 2 * * *", "2026-10-25", ["00:00", "00:30", "01:00", "01:30"]),
        ("0 0 3 * * *", "2026-10-25", ["02:00"]),
    ],
)
def test_skipped_and_repeated_hours(expression: str, local_day: str, slots: list[str]) -> None:
    """A time of the day comes due once a day; a distance goes on by what the clock shows."""
    start = datetime.fromisoformat(local_day + "T00:00:00+00:00") - timedelta(seconds=1)

    found = timetable(expression).earliest(start, start + timedelta(hours=3, seconds=1), limit=10)

    assert [f"{slot:%H:%M}" for slot in found] == slots


def test_without_a_zone_a_schedule_is_utc() -> None:
    slots = timetable("0 30 2 * * *", "UTC")
    start = datetime(2026, 3, 28, 12, tzinfo=UTC)

    assert slots.earliest(start, start + timedelta(days=2), limit=9) == (
        datetime(2026, 3, 29, 2, 30, tzinfo=UTC),
        datetime(2026, 3, 30, 2, 30, tzinfo=UTC),
    )
    assert slots.latest(start, start + timedelta(days=2), limit=1) == (datetime(2026, 3, 30, 2, 30, tzinfo=UTC),)


def test_slots_of_an_outage_are_listed_in_order_and_bounded() -> None:
    slots = timetable("0 0 3 * * *", "UTC")
    start = datetime(2026, 1, 1, 3, tzinfo=UTC)
    end = start + timedelta(days=3)
    missed = tuple(start + timedelta(days=day) for day in (1, 2, 3))

    assert slots.latest(start, end, limit=10) == slots.earliest(start, end, limit=10) == missed
    assert slots.latest(start, end, limit=2) == missed[1:]
    assert slots.earliest(start, end, limit=2) == missed[:2]
    assert slots.latest(start, start, limit=10) == slots.earliest(start, start, limit=10) == ()


def test_a_whole_skipped_day_has_no_slot_of_its_own() -> None:
    """Samoa went from 29 to 31 December 2011: what was due on the 30th comes due as the 31st begins."""
    start = datetime(2011, 12, 30, 9, tzinfo=UTC)

    found = timetable("0 0 12 30 12 *", "Pacific/Apia").earliest(start, start + timedelta(days=2), limit=9)

    assert found == (datetime(2011, 12, 30, 10, tzinfo=UTC),)


def test_a_running_schedule_of_a_day_that_never_was_goes_on_a_year_later() -> None:
    slots = timetable("0 */30 * 30 12 *", "Pacific/Apia")
    after = datetime(2011, 12, 30, 9, tzinfo=UTC)

    first = slots.first_after(after)

    assert first == datetime(2012, 12, 29, 10, tzinfo=UTC)
    assert slots.last_until(first - timedelta(seconds=1)) == datetime(2010, 12, 31, 9, 30, tzinfo=UTC)


def test_a_naive_instant_is_refused() -> None:
    with pytest.raises(ValueError, match="aware UTC"):
        timetable("0 0 3 * * *").first_after(datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake


@pytest.mark.parametrize("expression", ["0 30 2 29 2 mon", "0 */30 * 29 2 mon"])
def test_nothing_is_found_beyond_the_horizon(expression: str) -> None:
    assert timetable(expression).last_until(datetime(1, 1, 3, tzinfo=UTC)) is None


@pytest.mark.parametrize("expression", ["0 30 2 1 1 *", "0 */30 * 1 1 *"])
def test_end_of_the_calendar_is_no_crash(expression: str) -> None:
    assert timetable(expression, "America/New_York").first_after(datetime(9999, 12, 30, tzinfo=UTC)) is None
