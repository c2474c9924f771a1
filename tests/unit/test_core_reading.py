"""Holds the strict reader to its bounds, one kind of value after the other."""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum

import pytest
from hypothesis import given

from functions.core.errors import Problem
from functions.core.reading import Reader, parse_utc, shown, to_iso
from tests.strategies import instants

_ANY_INT = f"a whole number from 0 to {2**63 - 1}"


class _Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def problems_of(value: object, read: Callable[[Reader], object]) -> list[str]:
    problems: list[Problem] = []
    read(Reader(value, "x", problems))
    return [str(problem) for problem in problems]


@given(instant=instants)
def test_time_survives_its_text_and_sorts_like_it(instant: datetime) -> None:
    assert parse_utc(to_iso(instant)) == instant
    assert (to_iso(instant) < "2026-06-01T00:00:00.000000Z") == (instant < datetime(2026, 6, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-08-13T17:18:13.1647262Z", datetime(2020, 8, 13, 17, 18, 13, 164726, tzinfo=UTC)),
        ("2020-08-13T17:18:13Z", datetime(2020, 8, 13, 17, 18, 13, tzinfo=UTC)),
        ("2020-08-13T19:18:13.5+02:00", datetime(2020, 8, 13, 17, 18, 13, 500_000, tzinfo=UTC)),
        ("2020-08-13t17:18:13z", datetime(2020, 8, 13, 17, 18, 13, tzinfo=UTC)),
        ("2020-08-13T17:18:13", None),
        ("2020-02-30T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:00", None),
        ("today", None),
        ("٢٠٢٠-08-13T17:18:13Z", None),
    ],
)
def test_time_needs_a_zone(text: str, expected: datetime | None) -> None:
    """Event Grid writes .NET's seven digits; what has no zone names no instant."""
    assert parse_utc(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": 1}, "an object of 1 key(s)"),
        ([1, 2], "a list of 2"),
        ("text", "'text'"),
        (True, "True"),
        (10**50, "a number of more than 20 digits"),
        ("x" * 500, "'" + "x" * 79 + "…"),
    ],
)
def test_shown_values_are_short(value: object, expected: str) -> None:
    """No error message repeats a payload."""
    assert shown(value) == expected


@pytest.mark.parametrize(
    ("value", "read", "expected"),
    [
        (3, lambda reader: reader.text(), "x: got 3, expected text"),
        ("a\ud800", lambda reader: reader.text(), "x: got 'a\\ud800', expected text"),
        ("ab", lambda reader: reader.text(pattern="a", expected="an a"), "x: got 'ab', expected an a"),
        ("ab", lambda reader: reader.text(max_length=1), "x: got 'ab', expected text of 0 to 1 characters"),
        ("", lambda reader: reader.text(min_length=1), "x: got '', expected text of 1 to any number of characters"),
        (3, lambda reader: reader.nullable_text(), "x: got 3, expected text or null"),
        (True, lambda reader: reader.integer(minimum=0), f"x: got True, expected {_ANY_INT}"),
        (1.0, lambda reader: reader.integer(minimum=0, maximum=9), "x: got 1.0, expected a whole number from 0 to 9"),
        (10, lambda reader: reader.integer(minimum=0, maximum=9), "x: got 10, expected a whole number from 0 to 9"),
        (-1, lambda reader: reader.nullable_integer(minimum=0), f"x: got -1, expected {_ANY_INT}"),
        (float("nan"), lambda reader: reader.number(), "x: got nan, expected a finite number"),
        (float("inf"), lambda reader: reader.number(), "x: got inf, expected a finite number"),
        (10**400, lambda reader: reader.number(), "x: got a number of more than 20 digits, expected a finite number"),
        (True, lambda reader: reader.number(), "x: got True, expected a finite number"),
        (-1, lambda reader: reader.number(minimum=0), "x: got -1, expected a finite number of at least 0"),
        ("true", lambda reader: reader.boolean(), "x: got 'true', expected true or false"),
        ("now", lambda reader: reader.instant(), "x: got 'now', expected an ISO 8601 time with its zone"),
        (5, lambda reader: reader.instant(), "x: got 5, expected an ISO 8601 time with its zone"),
        ("green", lambda reader: reader.one_of(_Colour), "x: got 'green', expected one of red, blue"),
        ([], lambda reader: reader.one_of(_Colour), "x: got a list of 0, expected one of red, blue"),
        (True, lambda reader: reader.constant(1), "x: got True, expected 1"),
        ("a", lambda reader: reader.items(), "x: got 'a', expected a list"),
        ([], lambda reader: reader.items(min_items=1), "x: got a list of 0, expected a list of at least 1"),
        ([1], lambda reader: reader.items(max_items=0), "x: got a list of 1, expected a list of at least 0, at most 0"),
        (3, lambda reader: reader.mapping(), "x: got 3, expected an object"),
        ({}, lambda reader: reader.mapping(required=["a"]), "x.a: got nothing, expected a value"),
        ({"b": 1}, lambda reader: reader.mapping(), "x.b: got an unknown key, expected one of no key"),
    ],
)  # fmt: skip
def test_wrong_value_is_noted_with_its_place(value: object, read: Callable[[Reader], object], expected: str) -> None:
    assert problems_of(value, read) == [expected]


def test_a_required_constant_that_is_absent_is_one_mistake_which_says_what_was_expected() -> None:
    """It was counted twice, as a value that is missing and as one that is another."""
    problems: list[Problem] = []
    root = Reader({"data": {}}, "", problems)
    root.mapping(required=("schema", "type"), optional=None)
    data = root.child("data")
    data.mapping(required=("schema",))

    for reader in (root, data):
        reader.child("schema").constant(1)
    root.child("kind").constant("a")

    assert list(map(str, problems)) == [
        "schema: got nothing, expected 1",
        "type: got nothing, expected a value",
        "data.schema: got nothing, expected 1",
        "kind: got nothing, expected 'a'",
    ]


def test_right_values_are_returned() -> None:
    problems: list[Problem] = []
    root = Reader(
        {"t": "a", "i": 1, "n": 1.5, "b": False, "c": "blue", "z": None, "at": "2026-01-01T00:00:00Z", "l": [1]},
        "",
        problems,
    )

    assert root.mapping(required=("t", "i"), optional=None)
    assert root.child("t").text() == "a"
    assert root.child("i").integer(minimum=1) == 1
    assert root.child("i").nullable_integer(minimum=1) == 1
    assert root.child("n").number() == 1.5
    assert root.child("b").boolean() is False
    assert root.child("c").one_of(_Colour) is _Colour.BLUE
    assert root.child("z").nullable_text() is None
    assert root.child("z").nullable_integer(minimum=0) is None
    assert root.child("at").instant() == datetime(2026, 1, 1, tzinfo=UTC)
    assert [item.place for item in root.child("l").items()] == ["l[0]"]
    assert dict(root.child("t").children()) == {}
    assert problems == []


def test_absent_values_have_their_defaults() -> None:
    problems: list[Problem] = []
    absent = Reader("no object", "", problems).child("a")

    assert absent.is_absent
    assert absent.text(default="d") == "d"
    assert absent.integer(minimum=0, default=3) == 3
    assert absent.boolean(default=True) is True
    assert absent.one_of(_Colour, default=_Colour.RED) is _Colour.RED
    assert problems == []
    absent.text()
    assert str(problems[0]) == "a: got nothing, expected text"


def test_unknown_key_at_the_top_is_named() -> None:
    problems: list[Problem] = []

    Reader({"b": 1}, "", problems).mapping(optional=("a",))

    assert [str(problem) for problem in problems] == ["b: got an unknown key, expected one of a"]


def test_a_key_with_half_a_character_is_no_key() -> None:
    problems: list[Problem] = []

    keys = [key for key, _ in Reader({"a": 1, "\ud800": 2}, "document", problems).children()]

    assert keys == ["a"]
    assert [problem.expected for problem in problems] == ["Unicode"]
