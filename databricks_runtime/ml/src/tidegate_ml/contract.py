"""Declares which columns a file of flights must have and which values a row may hold."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import pandas as pd

__all__ = [
    "DELAY_MINUTES",
    "INPUT_COLUMNS",
    "KEY_COLUMNS",
    "OUTCOME_COLUMN",
    "ColumnKind",
    "ColumnRule",
    "column_problems",
    "row_problems",
]

DELAY_MINUTES: Final = 15.0  # US DOT Bureau of Transportation Statistics: on time is less than 15 minutes late


class ColumnKind(StrEnum):
    """The kind of values a column holds, whatever its exact storage type."""

    INTEGER = "integer"  # stored as integers, or as floats without a fraction (pandas does that beside a missing value)
    NUMBER = "number"
    TEXT = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRule:
    """What one column must be; bounds are inclusive and in the column's own unit."""

    name: str
    kind: ColumnKind
    meaning: str
    minimum: float = -math.inf
    maximum: float = math.inf
    pattern: str | None = None


def _integer(name: str, low: int, high: int, meaning: str) -> ColumnRule:
    return ColumnRule(name=name, kind=ColumnKind.INTEGER, minimum=low, maximum=high, meaning=meaning)


def _text(name: str, pattern: str, meaning: str) -> ColumnRule:
    return ColumnRule(name=name, kind=ColumnKind.TEXT, pattern=pattern, meaning=meaning)


# Known before departure, all of them: nothing that happens after the schedule is published may be added here.
INPUT_COLUMNS: Final[tuple[ColumnRule, ...]] = (
    _integer("year", 1987, 2100, "local calendar year of departure; BTS reports begin in 1987"),
    _integer("month", 1, 12, "local calendar month of departure"),
    _integer("day", 1, 31, "local day of the month of departure"),
    _integer("sched_dep_time", 0, 2400, "scheduled local departure, hhmm"),
    _integer("sched_arr_time", 0, 2400, "scheduled local arrival, hhmm"),
    _text("carrier", r"[A-Z0-9]{2,3}", "IATA code of the carrier"),
    _integer("flight", 1, 99_999, "flight number"),
    _text("origin", r"[A-Z]{3}", "IATA code of the airport of departure"),
    _text("dest", r"[A-Z]{3}", "IATA code of the airport of arrival"),
    _integer("distance", 1, 12_500, "statute miles between the airports"),
)
KEY_COLUMNS: Final = ("year", "month", "day", "carrier", "flight", "origin", "dest", "sched_dep_time")
OUTCOME_COLUMN: Final = "arr_delay"  # minutes late at the gate; missing when cancelled or diverted; training only
_OUTCOME_RULE: Final = ColumnRule(
    name=OUTCOME_COLUMN, kind=ColumnKind.NUMBER, minimum=-1440, maximum=10_000, meaning="minutes late at the gate"
)

_KINDS_OF_TYPE: Final[Mapping[str, frozenset[ColumnKind]]] = {
    "integer": frozenset({ColumnKind.INTEGER, ColumnKind.NUMBER}),
    "floating": frozenset({ColumnKind.INTEGER, ColumnKind.NUMBER}),
    "text": frozenset({ColumnKind.TEXT}),
}


def column_problems(columns: Mapping[str, str], *, training: bool) -> tuple[str, ...]:
    """Return why a file with these columns is refused; nothing means that its rows may be looked at.

    Args:
        columns: name to storage type, one of `integer`, `floating`, `text`, `null` or anything else.
        training: also ask for the outcome.
    """
    problems = []
    for rule in (*INPUT_COLUMNS, *((_OUTCOME_RULE,) if training else ())):
        found = columns.get(rule.name)
        if found is None:
            problems.append(f"column {rule.name!r} is missing, expected {rule.kind.value}")
        elif found == "null":
            problems.append(f"column {rule.name!r} has no value at all, expected {rule.kind.value}")
        elif rule.kind not in _KINDS_OF_TYPE.get(found, frozenset()):
            problems.append(f"column {rule.name!r} is {found}, expected {rule.kind.value}")
    return tuple(problems)


def row_problems(frame: pd.DataFrame) -> "pd.Series[str]":
    """Return for each row why it cannot be scored, or the empty string; same index as `frame`.

    The outcome is not looked at: a flight that has not happened yet has none.
    """
    reasons = pd.Series("", index=frame.index, dtype=object)
    for rule in INPUT_COLUMNS:
        bad, what = _broken(frame[rule.name], rule)
        reasons = reasons.where(~bad, reasons + f"{rule.name} {what}; ")
    bad_time = _is_bad_clock(frame["sched_dep_time"]) | _is_bad_clock(frame["sched_arr_time"])
    reasons = reasons.where(~(bad_time & (reasons == "")), reasons + "a scheduled time is no hhmm; ")
    date = pd.to_datetime(frame[["year", "month", "day"]].apply(pd.to_numeric, errors="coerce"), errors="coerce")
    reasons = reasons.where(~(date.isna() & (reasons == "")), reasons + "year, month and day are no date; ")
    return reasons.str.removesuffix("; ")


def _broken(values: "pd.Series[float]", rule: ColumnRule) -> tuple["pd.Series[bool]", str]:
    if rule.kind is ColumnKind.TEXT:
        text = values.astype("string")
        matches = text.str.fullmatch(rule.pattern or ".+").fillna(value=False).astype(bool)
        return ~matches, f"does not look like {rule.pattern}"
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    inside = numbers.between(rule.minimum, rule.maximum)  # False for NaN and infinity
    whole = pd.Series(np.equal(np.mod(numbers.where(inside, 0.0), 1), 0), index=values.index)
    return ~(inside & whole), f"is no whole number in [{rule.minimum:g}, {rule.maximum:g}]"


def _is_bad_clock(values: "pd.Series[float]") -> "pd.Series[bool]":
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    return numbers.mod(100).ge(60) & numbers.notna()
