"""Turns scheduled flights into the numbers the model sees, each known before departure.

A row's features depend on that row and on a `ScheduleProfile` only, never on the other rows of its file: a flight gets
the same score in a batch of one as in a batch of a million, and Spark may split the data as it likes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import pandas as pd

from tidegate_ml.contract import DELAY_MINUTES, OUTCOME_COLUMN

__all__ = ["CATEGORICAL_FEATURES", "FEATURE_NAMES", "ScheduleProfile", "build_features", "departure_date", "is_delayed"]

FEATURE_NAMES: Final = (
    "departure_minute",  # scheduled local departure, minutes since midnight
    "arrival_minute",  # scheduled local arrival, minutes since midnight
    "block_minutes",  # scheduled arrival minus departure on the two local clocks, modulo a day
    "distance_miles",
    "weekday",  # 0 is Monday
    "near_holiday",  # 1 within two days of a federal holiday; finer distances learn single holidays by heart
    "origin_hour_departures",  # usual scheduled departures at the origin in that hour of that weekday
    "carrier_hour_departures",  # the same, of this carrier
    "route_day_departures",  # usual scheduled departures on the route on that weekday
    "carrier",
    "origin",
    "dest",
)
CATEGORICAL_FEATURES: Final = ("carrier", "origin", "dest")
_NEAR_HOLIDAY_DAYS: Final = 2
_UNSEEN: Final = -1  # LightGBM treats a negative category as missing

_CONGESTION: Final[Mapping[str, tuple[str, ...]]] = {
    "origin_hour_departures": ("origin", "hour", "weekday"),
    "carrier_hour_departures": ("carrier", "origin", "hour", "weekday"),
    "route_day_departures": ("origin", "dest", "weekday"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleProfile:
    """How busy the training schedule usually was, and which codes it contained; holds no outcome.

    `busyness` maps a congestion feature to departures a day by its key ("EWR|7|0").
    `categories` maps a categorical feature to its codes in order; the position is the number the model sees.
    """

    busyness: Mapping[str, Mapping[str, float]]
    categories: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, flights: pd.DataFrame) -> Self:
        """Return the profile of the given flights, of which only the schedule is read."""
        schedule = _schedule(flights)
        days_by_weekday = schedule.groupby("weekday")["date"].nunique()
        busyness = {}
        for name, by in _CONGESTION.items():
            counts = schedule.groupby(list(by), observed=True).size()
            table = counts.reset_index(name="flights")
            a_day = table["flights"] / table["weekday"].map(days_by_weekday.to_dict())
            rates = a_day.astype(float).round(6).tolist()
            busyness[name] = dict(zip(_joined(table, by).tolist(), rates, strict=True))
        categories = {name: sorted(flights[name].astype(str).unique()) for name in CATEGORICAL_FEATURES}
        return cls(busyness=busyness, categories=categories)

    def to_json(self) -> dict[str, object]:
        """Return the profile as JSON values."""
        return {
            "busyness": {name: dict(values) for name, values in self.busyness.items()},
            "categories": {name: list(values) for name, values in self.categories.items()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Self:
        """Return the profile that `to_json` wrote."""
        categories = {name: [str(code) for code in codes] for name, codes in document["categories"].items()}
        return cls(busyness=document["busyness"], categories=categories)


def departure_date(flights: pd.DataFrame) -> "pd.Series[pd.Timestamp]":
    """Return each flight's local calendar day of departure."""
    parts = flights[["year", "month", "day"]].astype(np.int64)
    return pd.to_datetime(parts)


def is_delayed(flights: pd.DataFrame) -> "pd.Series[float]":
    """Return 1 for flights that arrived 15 minutes late or more, 0 for others, NaN for those that never arrived."""
    delay = pd.to_numeric(flights[OUTCOME_COLUMN], errors="coerce").astype(float)
    return delay.ge(DELAY_MINUTES).astype(float).where(delay.notna())


def build_features(flights: pd.DataFrame, profile: ScheduleProfile) -> pd.DataFrame:
    """Return one row of `FEATURE_NAMES` (float32) per flight, same index and order.

    Sees the schedule only: the columns of the input contract, as published before the day of departure.
    """
    from tidegate_ml.holidays import days_from_holiday

    schedule = _schedule(flights)
    arrival = _minutes(flights["sched_arr_time"])
    columns: dict[str, object] = {
        "departure_minute": schedule["minute"],
        "arrival_minute": arrival,
        "block_minutes": (arrival - schedule["minute"]).mod(1440),
        "distance_miles": flights["distance"].astype(float),
        "weekday": schedule["weekday"],
        "near_holiday": days_from_holiday(schedule["date"].to_numpy("datetime64[D]")) <= _NEAR_HOLIDAY_DAYS,
    }
    for name, by in _CONGESTION.items():
        columns[name] = _joined(schedule, by).map(profile.busyness[name]).fillna(0.0)
    for name in CATEGORICAL_FEATURES:
        codes = {code: position for position, code in enumerate(profile.categories[name])}
        columns[name] = flights[name].astype(str).map(codes).fillna(_UNSEEN)
    return pd.DataFrame(columns, index=flights.index)[list(FEATURE_NAMES)].astype(np.float32)


def _schedule(flights: pd.DataFrame) -> pd.DataFrame:
    date = departure_date(flights)
    minute = _minutes(flights["sched_dep_time"])
    return pd.DataFrame(
        {
            "date": date,
            "weekday": date.dt.weekday.astype(np.int64),
            "minute": minute,
            "hour": minute // 60,
            "carrier": flights["carrier"].astype(str),
            "origin": flights["origin"].astype(str),
            "dest": flights["dest"].astype(str),
        }
    )


def _joined(table: pd.DataFrame, by: Sequence[str]) -> "pd.Series[str]":
    keys = table[by[0]].astype(str)
    for part in by[1:]:
        keys = keys + "|" + table[part].astype(str)
    return keys


def _minutes(clock: "pd.Series[int]") -> "pd.Series[int]":
    whole = clock.astype(np.int64)
    return (whole // 100 * 60 + whole % 100).mod(1440)  # 2400 is midnight
