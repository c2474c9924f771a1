"""The schedules of the local Functions host's timers."""

# ruff: noqa: DTZ001 - schedules work on wall-clock times of an unnamed zone

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from local.functions_host.errors import ConfigurationError
from local.functions_host.schedule import parse_schedule
from local.functions_host.timer_status import ScheduleStatus, after_run, fires_often, next_due, on_start
from local.functions_host.timespan import parse_timespan

HOURLY = parse_schedule("0 0 * * * *")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    wide = st.tuples(number, number).filter(lambda pair: pair[0] != pair[1])  # CronSim reads 3-3/2 as 3/2
    spans = wide.map(lambda pair: f"{min(pair)}-{max(pair)}")
    steps = st.tuples(spans, st.integers(1, 9)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    single = st.one_of(number.map(str), spans, steps)
    return st.one_of(st.just("*"), single, st.lists(single, min_size=2, max_size=3).map(",".join))


@given(
    second=_field(0, 59),
    minute=_field(0, 59),
    hour=_field(0, 23),
    day=_field(1, 28),
    month=_field(1, 12),
    moment=st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)),
)
def test_six_fields_mean_what_they_mean_in_cron(
    second: str, minute: str, hour: str, day: str, month: str, moment: datetime
) -> None:
    """With the day of the week left open, NCRONTAB and cron agree; CronSim is the oracle."""
    expression = f"{second} {minute} {hour} {day} {month} *"

    occurrence = parse_schedule(expression).next_after(moment)

    assert occurrence == next(CronSim(expression, moment))


def test_day_of_month_and_day_of_week_must_both_match() -> None:
    """NCRONTAB joins them with *and* where cron joins them with *or*: this is Friday the 13th."""
    schedule = parse_schedule("0 0 0 13 * FRI")

    assert schedule.next_after(datetime(2026, 1, 1)) == datetime(2026, 2, 13)


def test_names_are_prefixes_in_any_case() -> None:
    assert parse_schedule("0 0 0 1 february sun").next_after(datetime(2026, 1, 1)) == datetime(2026, 2, 1)


def test_five_fields_fire_at_second_zero() -> None:
    assert parse_schedule("5 4 * * *").next_after(datetime(2026, 1, 1, 4, 5)) == datetime(2026, 1, 2, 4, 5)


def test_a_value_with_a_step_runs_to_the_end() -> None:
    assert parse_schedule("0 50/5 * * * *").next_after(datetime(2026, 1, 1, 0, 50)) == datetime(2026, 1, 1, 0, 55)


def test_a_time_span_is_an_interval() -> None:
    assert parse_schedule("00:00:05").next_after(datetime(2026, 1, 1)) == datetime(2026, 1, 1, 0, 0, 5)


@pytest.mark.parametrize(
    "expression",
    [
        "* * * *",
        "* * * * * * *",
        "60 * * * * *",
        "* * * * * 7",
        "0 0 0 30 2 *",
        "a * * * * *",
        "*/0 * * * * *",
        "10-5 * * * * *",
        "1,,2 * * * * *",
        "* * * * MA *",
        "00:00:00",
    ],
)
def test_a_wrong_expression_is_refused_with_itself_in_the_message(expression: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_schedule(expression)

    assert repr(expression) in str(caught.value)


@pytest.mark.parametrize("text", ["", "5", "24:00:00", "00:60:00", "00:00:60", "-00:00:01", "1:2:3:4"])
def test_what_is_no_time_span_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_timespan(text)


def test_a_time_span_reads_days_and_fractions() -> None:
    assert parse_timespan("2.03:04:05.25") == timedelta(days=2, hours=3, minutes=4, seconds=5, milliseconds=250)


def test_the_first_start_is_not_past_due() -> None:
    status, past_due = on_start(None, HOURLY, NOON, UTC)

    assert not past_due
    assert status == ScheduleStatus(last=None, next=NOON + timedelta(hours=1), last_updated=NOON)


def test_any_number_of_missed_occurrences_is_past_due_once() -> None:
    stored = ScheduleStatus(last=NOON, next=NOON + timedelta(hours=1), last_updated=NOON)

    late = NOON + timedelta(hours=5, minutes=10)
    status, past_due = on_start(stored, HOURLY, late, UTC)
    after = after_run(status, HOURLY, late, UTC, was_scheduled=False)

    assert past_due
    assert not on_start(after, HOURLY, late + timedelta(minutes=1), UTC)[1]


def test_a_changed_schedule_is_not_past_due_for_its_old_occurrences() -> None:
    stored = ScheduleStatus(last=NOON, next=NOON + timedelta(minutes=1), last_updated=NOON)

    status, past_due = on_start(stored, HOURLY, NOON + timedelta(hours=3, minutes=5), UTC)

    assert not past_due
    assert status.next == NOON + timedelta(hours=4)


def test_a_run_that_started_a_moment_early_counts_as_on_time() -> None:
    status = ScheduleStatus(last=None, next=NOON, last_updated=NOON - timedelta(hours=1))

    after = after_run(status, HOURLY, NOON - timedelta(milliseconds=3), UTC, was_scheduled=True)

    assert after.next == NOON + timedelta(hours=1)


@given(
    last=st.one_of(st.none(), st.datetimes(datetime(2020, 1, 1), timezones=st.just(UTC))),
    due=st.datetimes(datetime(2020, 1, 1), timezones=st.just(UTC)),
    zone=st.sampled_from(["UTC", "Europe/London", "Asia/Kolkata", "America/New_York"]),
)
def test_a_status_survives_its_blob(last: datetime | None, due: datetime, zone: str) -> None:
    status = ScheduleStatus(last=last, next=due, last_updated=due)

    assert ScheduleStatus.from_json(status.to_json(ZoneInfo(zone)), ZoneInfo(zone)) == status


def test_the_extension_s_own_status_is_read() -> None:
    """Azure's blob has seven digits and a last run in the year 1."""
    text = (
        '{"Last":"0001-01-01T00:00:00","Next":"2026-03-01T13:00:00.1234567+00:00",'
        '"LastUpdated":"2026-03-01T12:00:00+00:00"}'
    )

    assert ScheduleStatus.from_json(text, UTC) == ScheduleStatus(
        last=None, next=NOON + timedelta(hours=1, microseconds=123456), last_updated=NOON
    )


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"Last":1,"Next":2,"LastUpdated":3}'])
def test_an_unreadable_status_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own error is one too
        ScheduleStatus.from_json(text, UTC)


def test_a_wall_clock_time_that_daylight_saving_repeats_fires_once() -> None:
    zone = ZoneInfo("Europe/London")
    schedule = parse_schedule("0 30 1 * * *")  # 25 October 2026: 01:30 comes twice

    first = next_due(schedule, datetime(2026, 10, 24, 12, tzinfo=UTC), zone)
    second = next_due(schedule, first, zone)

    assert (first, second) == (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 26, 1, 30, tzinfo=UTC))


def test_only_timers_that_fire_more_than_once_a_minute_fire_often() -> None:
    assert fires_often(parse_schedule("*/30 * * * * *"), NOON)
    assert not fires_often(parse_schedule("0 * * * * *"), NOON)
