"""Holds globs to the names they mean, and inclusion between them to being exact."""

import itertools
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.core.globs import Glob

patterns = st.lists(st.sampled_from(["a", "b", "/", "?", "*", "**", "**/"]), max_size=4).map("".join)
suffixes = st.sampled_from(["", "a", "b", "/a"])
SHORT_NAMES = ["".join(letters) for length in range(6) for letters in itertools.product("ab/", repeat=length)]


def regex_of(pattern: str) -> re.Pattern[str]:
    """Return the same meaning in another notation, to compare with."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    meaning = {"**/": "(?:.+/)?", "**": ".+", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meaning.get(part, re.escape(part)) for part in parts), re.DOTALL)


@pytest.mark.parametrize(
    ("pattern", "name", "is_match"),
    [
        ("*.parquet", "a.parquet", True),
        ("*.parquet", ".parquet", True),
        ("*.parquet", "x/a.parquet", False),
        ("*.parquet", "a.PARQUET", False),
        ("**/*.parquet", "a.parquet", True),
        ("**/*.parquet", "2013/01/a.parquet", True),
        ("**", "anything/at all", True),
        ("**", "", False),
        ("part-?.csv", "part-1.csv", True),
        ("part-?.csv", "part-/.csv", False),
        ("a.b", "axb", False),
        ("*", "line\nbreak", True),
    ],
)
def test_glob_means(pattern: str, name: str, is_match: bool) -> None:
    assert Glob("in/", pattern).matches("in/" + name) == is_match


def test_prefix_is_a_folder() -> None:
    """R04: `in/` never matches `inbox/`."""
    assert not Glob("in/", "**").matches("inbox/a")
    assert not Glob("in/", "**").matches("in/")


def test_prefix_and_suffix_both_hold() -> None:
    glob = Glob("in/", "**", ".csv")

    assert glob.matches("in/a.csv")
    assert not glob.matches("in/a.txt")


@given(pattern=patterns, name=st.text("ab/", max_size=8))
def test_glob_matches_what_the_regular_expression_matches(pattern: str, name: str) -> None:
    assert Glob("", pattern).matches(name) == (regex_of(pattern).fullmatch(name) is not None)


@given(one=patterns, other=patterns, one_suffix=suffixes, other_suffix=suffixes)
@example(one="**", other="*", one_suffix="", other_suffix="")
@example(one="*a", other="**/a", one_suffix="", other_suffix="")
def test_inclusion_agrees_with_all_short_names(one: str, other: str, one_suffix: str, other_suffix: str) -> None:
    """A name that only the other matches is exactly what inclusion denies."""
    including, included = Glob("", one, one_suffix), Glob("", other, other_suffix)

    counterexamples = [name for name in SHORT_NAMES if included.matches(name) and not including.matches(name)]

    if including.includes(included):
        assert counterexamples == []
    elif len(other) <= 2:  # short patterns have short counterexamples
        assert counterexamples != []


@pytest.mark.parametrize(
    ("one", "other", "is_included"),
    [
        (Glob("in/", "**"), Glob("in/new/", "*.parquet"), True),
        (Glob("in/new/", "*.parquet"), Glob("in/", "**"), False),
        (Glob("in/", "**/*.parquet"), Glob("in/a/", "*.parquet"), True),
        (Glob("in/", "*.parquet"), Glob("in/a/", "*.parquet"), False),
        (Glob("in/", "*"), Glob("inbox/", "*"), False),
        (Glob("", "**", ".csv"), Glob("", "**", "s.csv"), True),
        (Glob("in/", "*x"), Glob("in/", "*x"), True),
        (Glob("in/", "?"), Glob("in/", "é"), True),
        (Glob("in/", "*"), Glob("out/", "x", ".csv"), True),  # which means nothing at all
        (Glob("in/", "x", ".csv"), Glob("out/", "*"), False),
    ],
)
def test_inclusion_of_routes_people_write(one: Glob, other: Glob, is_included: bool) -> None:
    assert one.includes(other) == is_included


def test_hostile_name_costs_no_time() -> None:
    """A blob's name is anybody's text: matching it must not explode as backtracking does."""
    started = time.perf_counter()

    assert not Glob("", "*a*a*a*a*a*a*a*a*b").matches("a" * 1024)

    assert time.perf_counter() - started < 20  # backtracking would take years
