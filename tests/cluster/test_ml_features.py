"""Tests what the model may see: the published schedule, row by row."""

from datetime import date

import numpy as np
import pandas as pd
import pytest
from flights import make_flights

from tidegate_ml.contract import INPUT_COLUMNS, column_problems, row_problems
from tidegate_ml.features import FEATURE_NAMES, ScheduleProfile, build_features, is_delayed
from tidegate_ml.flight_delay import FlightDelay
from tidegate_ml.holdout import split_by_time
from tidegate_ml.holidays import days_from_holiday, federal_holidays

OUTCOMES = ("dep_delay", "arr_delay", "air_time", "tailnum")


def one_flight(**changed: object) -> pd.DataFrame:
    row = {
        "year": 2013,
        "month": 7,
        "day": 3,
        "sched_dep_time": 2330,
        "sched_arr_time": 215,
        "carrier": "UA",
        "flight": 1545,
        "origin": "EWR",
        "dest": "IAH",
        "distance": 1400,
    }
    return pd.DataFrame([row | changed])


def test_outcomes_do_not_change_a_feature() -> None:
    """Whatever happened to a flight, its features are those of its schedule."""
    flights = make_flights(50)
    altered = flights.assign(**{name: flights[name].iloc[::-1].to_numpy() for name in OUTCOMES})
    profile = ScheduleProfile.of(flights)

    pd.testing.assert_frame_equal(
        build_features(flights, profile), build_features(altered, ScheduleProfile.of(altered))
    )


def test_other_rows_do_not_change_a_feature() -> None:
    """Adding, altering or removing later flights leaves the features of a flight as they were."""
    flights = make_flights(20)
    profile = ScheduleProfile.of(flights)
    later = make_flights(30, months=(7, 8), seed=9)

    alone = build_features(flights[:1], profile)
    among = build_features(pd.concat([flights, later], ignore_index=True), profile)

    pd.testing.assert_frame_equal(among[:1], alone)


def test_the_held_out_month_does_not_change_what_is_learnt_from() -> None:
    """The profile and the features of the rows to learn from do not know the later ones."""
    early, late = make_flights(300, months=(1, 2)), make_flights(200, months=(3,), seed=5)
    shifted = late.assign(sched_dep_time=1215, carrier="UA", arr_delay=-late["arr_delay"] + 20)
    code = FlightDelay()

    one, two = (code.prepare(pd.concat([early, part], ignore_index=True)) for part in (late, shifted))

    assert one.holdout_first_day == two.holdout_first_day == "2013-03-01"
    assert one.profile == two.profile
    pd.testing.assert_frame_equal(one.fitted().features, two.fitted().features)


def test_no_outcome_is_an_input_column() -> None:
    """A flight that has not departed has none, so the scoring contract may not ask for one."""
    assert set(OUTCOMES).isdisjoint({rule.name for rule in INPUT_COLUMNS})
    assert len(INPUT_COLUMNS) == 10


def test_features_of_one_flight() -> None:
    """The numbers by hand: a late flight over midnight, the day before Independence Day."""
    flights = one_flight()

    features = build_features(flights, ScheduleProfile.of(flights)).iloc[0]

    assert features.to_dict() == {
        "departure_minute": 1410.0,
        "arrival_minute": 135.0,
        "block_minutes": 165.0,
        "distance_miles": 1400.0,
        "weekday": 2.0,
        "near_holiday": 1.0,
        "origin_hour_departures": 1.0,
        "carrier_hour_departures": 1.0,
        "route_day_departures": 1.0,
        "carrier": 0.0,
        "origin": 0.0,
        "dest": 0.0,
    }


def test_codes_that_were_never_seen_are_missing_categories() -> None:
    """A new carrier or airport is scored, not refused."""
    profile = ScheduleProfile.of(one_flight())

    features = build_features(one_flight(carrier="ZZ", origin="PHL", dest="SFO"), profile).iloc[0]

    assert features[["carrier", "origin", "dest"]].tolist() == [-1.0, -1.0, -1.0]
    assert features["origin_hour_departures"] == 0.0


def test_features_are_float32_in_their_order() -> None:
    """Spark's schema and the booster rely on both."""
    flights = make_flights(10)

    features = build_features(flights, ScheduleProfile.of(flights))

    assert tuple(features.columns) == FEATURE_NAMES
    assert set(features.dtypes) == {np.dtype(np.float32)}


def test_a_profile_survives_json() -> None:
    """It is kept beside the booster as text."""
    profile = ScheduleProfile.of(make_flights(10))

    assert ScheduleProfile.from_json(profile.to_json()) == profile  # type: ignore[arg-type]


@pytest.mark.parametrize(("minutes", "is_late"), [(14.0, 0.0), (15.0, 1.0), (-20.0, 0.0), (float("nan"), None)])
def test_late_means_fifteen_minutes_or_more(minutes: float, is_late: float | None) -> None:
    """As the Bureau of Transportation Statistics counts; a flight that never arrived has no answer."""
    [label] = is_delayed(pd.DataFrame({"arr_delay": [minutes]}))

    assert np.isnan(label) if is_late is None else label == is_late


def test_holidays_of_2021() -> None:
    """The first year with Juneteenth as a federal holiday."""
    assert federal_holidays(2021) == (
        date(2021, 1, 1),
        date(2021, 1, 18),
        date(2021, 2, 15),
        date(2021, 5, 31),
        date(2021, 6, 19),
        date(2021, 7, 4),
        date(2021, 9, 6),
        date(2021, 10, 11),
        date(2021, 11, 11),
        date(2021, 11, 25),
        date(2021, 12, 25),
    )


def test_days_from_the_nearest_holiday() -> None:
    """Before and after, and over the turn of the year."""
    days = np.array(["2013-12-31", "2013-12-24", "2013-07-04", "2014-01-03"], dtype="datetime64[D]")

    assert days_from_holiday(days).tolist() == [1, 1, 0, 2]


def test_one_month_holds_out_its_last_days() -> None:
    """There is no earlier month to learn from."""
    days = pd.Series(pd.date_range("2013-06-01", "2013-06-10"))

    split = split_by_time(days)

    assert split.first_day == pd.Timestamp("2013-06-09")
    assert split.is_fit.tolist() == [True] * 8 + [False] * 2


def test_one_day_cannot_be_split() -> None:
    """Measuring on the same day would measure nothing."""
    with pytest.raises(ValueError, match="at least 2 days"):
        split_by_time(pd.Series([pd.Timestamp("2013-06-01")] * 3))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"month": 13}, "month is no whole number in [1, 12]"),
        ({"day": 1.5}, "day is no whole number in [1, 31]"),
        ({"distance": float("inf")}, "distance is no whole number in [1, 12500]"),
        ({"flight": None}, "flight is no whole number in [1, 99999]"),
        ({"carrier": "united"}, "carrier does not look like [A-Z0-9]{2,3}"),
        ({"origin": None}, "origin does not look like [A-Z]{3}"),
        ({"sched_dep_time": 1275}, "a scheduled time is no hhmm"),
        ({"month": 2, "day": 30}, "year, month and day are no date"),
        ({"month": 0, "dest": "x"}, "month is no whole number in [1, 12]; dest does not look like [A-Z]{3}"),
        ({"carrier": "9E"}, ""),
        ({"sched_arr_time": 2400}, ""),
    ],
)
def test_bad_rows_are_told_why(changed: dict[str, object], reason: str) -> None:
    """Every reason of a row is given; a good row has none."""
    assert row_problems(one_flight(**changed)).tolist() == [reason]


def test_files_are_refused_for_every_column_at_once() -> None:
    """Whoever made the file learns everything from one refusal."""
    columns = {rule.name: "integer" for rule in INPUT_COLUMNS} | {"origin": "text", "dest": "text", "day": "null"}
    del columns["year"]

    assert column_problems(columns, training=True) == (
        "column 'year' is missing, expected integer",
        "column 'day' has no value at all, expected integer",
        "column 'carrier' is integer, expected text",
        "column 'arr_delay' is missing, expected number",
    )
