"""Decides which events a subscription wants."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from local.event_grid.wire import Json, JsonObject, as_object

__all__ = ["AdvancedFilter", "EventFilter", "FilterError", "look_up_text", "parse_filter"]

MAX_ADVANCED_FILTERS: Final = 25
MAX_VALUES: Final = 25
MAX_STRING: Final = 512

# Names that both schemas have for the same attribute; the rest of a key is looked up as it is written.
_EVENT_GRID_KEYS: Final[Mapping[str, str]] = {
    "id": "id",
    "topic": "topic",
    "subject": "subject",
    "eventtype": "eventType",
    "eventtime": "eventTime",
    "dataversion": "dataVersion",
    "source": "topic",
    "type": "eventType",
    "time": "eventTime",
}


class _Missing(Enum):
    KEY = "key"


class FilterError(ValueError):
    """A filter document breaks the rules; `mistakes` has every one."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__(mistakes)
        self.mistakes = tuple(mistakes)

    def __str__(self) -> str:
        return "; ".join(self.mistakes)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvancedFilter:
    """One condition on one key; its values are alternatives."""

    operator: str
    key: str
    values: tuple[Json, ...] = ()

    def matches(self, event: JsonObject, *, on_arrays: bool) -> bool:
        """Return whether the event meets the condition.

        A missing key meets only the three operators that Azure documents: NumberNotIn, StringNotIn, IsNullOrUndefined.
        """
        value = _look_up(event, self.key)
        if self.operator == "IsNullOrUndefined":
            return value is _Missing.KEY or value is None
        if self.operator == "IsNotNull":
            return value is not _Missing.KEY and value is not None
        if value is _Missing.KEY or value is None:
            return self.operator in {"NumberNotIn", "StringNotIn"}
        negated = self.operator in _NEGATED
        if isinstance(value, list):
            if not on_arrays:
                return False
            # A negation must hold for every element, an assertion for one.
            return all(map(self._holds, value)) if negated else any(map(self._holds, value))
        return self._holds(value)

    def _holds(self, value: Json) -> bool:
        assertion = _NEGATED.get(self.operator, self.operator)
        test = _TESTS[assertion]
        found = any(test(value, wanted) for wanted in self.values)
        return not found if self.operator in _NEGATED else found


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Everything a subscription asks of an event; all of it must hold."""

    included_event_types: frozenset[str] | None = None  # lower-case; None: all of the source's types
    subject_begins_with: str = ""
    subject_ends_with: str = ""
    is_subject_case_sensitive: bool = False
    advanced: tuple[AdvancedFilter, ...] = ()
    on_arrays: bool = False

    def may_match(self, event_type: str, subject: str) -> bool:
        """Return whether an event of this type and subject can match, before its data is known."""
        if self.included_event_types is not None and event_type.lower() not in self.included_event_types:
            return False
        begins, ends = self.subject_begins_with, self.subject_ends_with
        if not self.is_subject_case_sensitive:
            subject, begins, ends = subject.lower(), begins.lower(), ends.lower()
        return subject.startswith(begins) and subject.endswith(ends)

    def matches(self, event: JsonObject) -> bool:
        """Return whether the event, in either schema, passes."""
        event_type = event.get("type", event.get("eventType"))
        subject = event.get("subject")
        if not self.may_match(str(event_type), subject if isinstance(subject, str) else ""):
            return False
        return all(condition.matches(event, on_arrays=self.on_arrays) for condition in self.advanced)


def _look_up(event: JsonObject, key: str) -> Json | _Missing:
    first, *rest = key.split(".")
    if "specversion" not in event:
        first = _EVENT_GRID_KEYS.get(first.lower(), first)
    value: Json = event
    for name in (first, *rest):
        if not isinstance(value, dict) or name not in value:
            return _Missing.KEY
        value = value[name]
    return value


def look_up_text(event: JsonObject, key: str) -> str | None:
    """Return the scalar at a key such as `data.kind`, as text; None if there is none."""
    value = _look_up(event, key)
    return None if value is _Missing.KEY or value is None or isinstance(value, dict | list) else str(value)


def _number(value: Json) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _numeric(test: Callable[[float, float], bool]) -> Callable[[Json, Json], bool]:
    def compare(value: Json, wanted: Json) -> bool:
        left, right = _number(value), _number(wanted)
        return left is not None and right is not None and test(left, right)

    return compare


def _textual(test: Callable[[str, str], bool]) -> Callable[[Json, Json], bool]:
    def compare(value: Json, wanted: Json) -> bool:
        return isinstance(value, str) and isinstance(wanted, str) and test(value.lower(), wanted.lower())

    return compare


def _in_range(value: Json, wanted: Json) -> bool:
    number = _number(value)
    if number is None or not isinstance(wanted, list):
        return False
    low, high = _number(wanted[0]), _number(wanted[1])
    return low is not None and high is not None and low <= number <= high


_TESTS: Final[Mapping[str, Callable[[Json, Json], bool]]] = {
    "NumberIn": _numeric(lambda value, wanted: value == wanted),
    "NumberLessThan": _numeric(lambda value, wanted: value < wanted),
    "NumberGreaterThan": _numeric(lambda value, wanted: value > wanted),
    "NumberLessThanOrEquals": _numeric(lambda value, wanted: value <= wanted),
    "NumberGreaterThanOrEquals": _numeric(lambda value, wanted: value >= wanted),
    "NumberInRange": _in_range,
    "BoolEquals": lambda value, wanted: isinstance(value, bool) and value is wanted,
    "StringIn": _textual(lambda value, wanted: value == wanted),
    "StringContains": _textual(lambda value, wanted: wanted in value),
    "StringBeginsWith": _textual(lambda value, wanted: value.startswith(wanted)),
    "StringEndsWith": _textual(lambda value, wanted: value.endswith(wanted)),
}
_NEGATED: Final[Mapping[str, str]] = {
    "NumberNotIn": "NumberIn",
    "NumberNotInRange": "NumberInRange",
    "StringNotIn": "StringIn",
    "StringNotContains": "StringContains",
    "StringNotBeginsWith": "StringBeginsWith",
    "StringNotEndsWith": "StringEndsWith",
}
_SINGLE_VALUE: Final = frozenset(
    {"BoolEquals", "NumberLessThan", "NumberGreaterThan", "NumberLessThanOrEquals", "NumberGreaterThanOrEquals"}
)
_NO_VALUE: Final = frozenset({"IsNullOrUndefined", "IsNotNull"})
_OPERATORS: Final = {name.lower(): name for name in (*_TESTS, *_NEGATED, *_NO_VALUE)}
_FIELDS: Final = frozenset(
    {
        "subjectBeginsWith",
        "subjectEndsWith",
        "includedEventTypes",
        "isSubjectCaseSensitive",
        "enableAdvancedFilteringOnArrays",
        "advancedFilters",
    }
)


def parse_filter(document: JsonObject) -> EventFilter:
    """Return the filter in an ARM-shaped document.

    Raises:
        FilterError: With every mistake in it.
    """
    mistakes = [f"filter has an unknown field {name!r}" for name in document if name not in _FIELDS]
    types = document.get("includedEventTypes")
    if types is not None and not (isinstance(types, list) and all(isinstance(name, str) for name in types)):
        mistakes.append(f"includedEventTypes must be a list of strings, got {types!r}")
        types = None
    advanced = document.get("advancedFilters") or []
    if not isinstance(advanced, list):
        mistakes.append(f"advancedFilters must be a list, got {advanced!r}")
        advanced = []
    conditions = [_parse_condition(place, as_object(item), mistakes) for place, item in enumerate(advanced)]
    if len(conditions) > MAX_ADVANCED_FILTERS:
        mistakes.append(f"at most {MAX_ADVANCED_FILTERS} advanced filters are allowed, got {len(conditions)}")
    if (count := sum(len(condition.values) for condition in conditions)) > MAX_VALUES:
        mistakes.append(f"at most {MAX_VALUES} values over all advanced filters are allowed, got {count}")
    parsed = EventFilter(
        # "All" is what older API versions wrote for "every type".
        included_event_types=frozenset(str(name).lower() for name in types) if types and "All" not in types else None,
        subject_begins_with=_text(document, "subjectBeginsWith", mistakes),
        subject_ends_with=_text(document, "subjectEndsWith", mistakes),
        is_subject_case_sensitive=_flag(document, "isSubjectCaseSensitive", mistakes),
        advanced=tuple(conditions),
        on_arrays=_flag(document, "enableAdvancedFilteringOnArrays", mistakes),
    )
    if mistakes:
        raise FilterError(mistakes)
    return parsed


def _text(document: JsonObject, name: str, mistakes: list[str]) -> str:
    value = document.get(name)
    if value is None or isinstance(value, str):
        return value or ""
    mistakes.append(f"{name} must be a string, got {value!r}")
    return ""


def _flag(document: JsonObject, name: str, mistakes: list[str]) -> bool:
    value = document.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    mistakes.append(f"{name} must be true or false, got {value!r}")
    return False


def _parse_condition(place: int, item: JsonObject, mistakes: list[str]) -> AdvancedFilter:
    where = f"advancedFilters[{place}]"
    operator = _OPERATORS.get(str(item.get("operatorType")).lower())
    if operator is None:
        mistakes.append(
            f"{where}.operatorType must be one of {sorted(_OPERATORS.values())}, got {item.get('operatorType')!r}"
        )
        return AdvancedFilter(operator="IsNotNull", key="")
    key = item.get("key")
    if not isinstance(key, str) or not key:
        mistakes.append(f"{where}.key must be a non-empty string, got {key!r}")
        key = ""
    return AdvancedFilter(operator=operator, key=key, values=_parse_values(where, operator, item, mistakes))


def _parse_values(where: str, operator: str, item: JsonObject, mistakes: list[str]) -> tuple[Json, ...]:
    if operator in _NO_VALUE:
        return ()
    if operator in _SINGLE_VALUE:
        field, values = f"{where}.value", [item.get("value")]
    else:
        given = item.get("values")
        field, values = f"{where}.values", list(given) if isinstance(given, list) else []
        if not values:
            mistakes.append(f"{field} must be a non-empty list, got {given!r}")
    mistakes += [
        f"{field}: {mistake}, got {value!r}"
        for value in values
        if (mistake := _mistake_in(operator, value)) is not None
    ]
    return tuple(values)


def _mistake_in(operator: str, value: Json) -> str | None:
    """Return what is wrong with an operator's value, or None."""
    if operator == "BoolEquals":
        return None if isinstance(value, bool) else "must be true or false"
    if operator.endswith("InRange"):
        pair = isinstance(value, list) and len(value) == 2 and all(_number(bound) is not None for bound in value)  # noqa: PLR2004 - a range has two ends
        return None if pair else "must be a pair of numbers"
    if operator.startswith("Number"):
        return None if _number(value) is not None else "must be a number"
    if not isinstance(value, str):
        return "must be a string"
    return None if len(value) <= MAX_STRING else f"must have at most {MAX_STRING} characters"
