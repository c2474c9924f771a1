"""Tests what people are told of a run that was put back: a bounded line without secrets, and when it is tried again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.errors import AccessRefusedError, RunSubmissionError, ThrottledError
from functions.core.setback import Setback, setback_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETBACK = Setback(kind="ThrottledError", error="slow", at=NOW, tries=3, wait_s=8)


def test_it_says_why_how_often_and_when_the_next_try_is() -> None:
    error = ThrottledError("starting job 'scoring'", 7.5)

    setback = setback_of(error, None, at=NOW, tries=4, wait_s=7.5)

    assert setback.to_public_json(NOW) == {
        "last_error": "starting job 'scoring': throttled for 7.5 s",
        "last_tried_at": "2026-03-01T12:00:00.000000Z",
        "tries": 4,
        "next_try_by": "2026-03-01T12:00:08.000000Z",
    }


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("look at https://a.example/x?sig=abc&se=1 there", "look at https://a.example/x?… there"),
        ("Authorization: Bearer eyJhbGciOi.eyJzdWIi.c2ln refused", "Authorization: Bearer … refused"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "got …"),
        ("token dapi0123456789abcdef0123456789abcdef is old", "token … is old"),
        ("AccountName=a;AccountKey=c2VjcmV0==;x", "AccountName=a;AccountKey=…;x"),
        ('{"client_secret": "s3cret", "x": 1}', '{"client_secret": "…", "x": 1}'),
        ("at https%3A%2F%2Fa.example%3Fsig%3Ds3cret%26se%3D1 there", "at https%3A%2F%2Fa.example%3Fsig%3D… there"),
        (r"{\"password\": \"s3cret\"}", r"{\"password\": \"…\"}"),
        ("Authorization: SharedKeyLite acct:c2VjcmV0c2VjcmV0=", "Authorization: SharedKeyLite …"),
        ("cannot reach https://ann:s3cret@a.example/x", "cannot reach https://…@a.example/x"),
        ("cannot read abfss://inputs@a.dfs.example/x", "cannot read abfss://inputs@a.dfs.example/x"),
        ("Server=a;Uid=b;Pwd=s3cret;", "Server=a;Uid=b;Pwd=…;"),
        ("two\nlines\tand\x1b[31m colour \ud800", "two lines and [31m colour"),
    ],
)
def test_it_is_one_line_without_secrets(said: str, told: str) -> None:
    setback = setback_of(RunSubmissionError("s", said), None, at=NOW, tries=1, wait_s=1)

    assert setback.error == f"s: {told}"


@given(said=st.text(max_size=3000) | st.text('\ud800\x00😀"\\', max_size=3000), tries=st.integers(1, 600))
def test_it_is_bounded_and_survives_its_column(said: str, tries: int) -> None:
    setback = setback_of(AccessRefusedError("starting", said), None, at=NOW, tries=tries, wait_s=60.5)

    assert len(setback.error) <= 500
    assert Setback.from_text(setback.to_text()) == setback


def test_only_news_is_worth_a_write() -> None:
    """In a storm a run's row is written once, and then every other minute."""
    later = replace(SETBACK, at=NOW + timedelta(seconds=119), tries=9, wait_s=62)

    assert SETBACK.is_news_after(None)
    assert not later.is_news_after(SETBACK)
    assert replace(later, at=NOW + timedelta(seconds=120)).is_news_after(SETBACK)
    assert replace(later, kind="AccessRefusedError").is_news_after(SETBACK)
    assert replace(later, wait_s=63).is_news_after(SETBACK)  # else what was promised of the next try would be wrong
    assert replace(later, at=NOW - timedelta(seconds=1)).is_news_after(SETBACK)  # a clock was ahead


def test_the_next_try_is_never_promised_for_a_time_that_is_over() -> None:
    """What was not written since had no longer wait."""
    assert SETBACK.next_try_by(NOW + timedelta(seconds=7)) == NOW + timedelta(seconds=8)
    assert SETBACK.next_try_by(NOW + timedelta(seconds=90)) == NOW + timedelta(seconds=152)
    assert replace(SETBACK, wait_s=600).next_try_by(NOW + timedelta(seconds=600)) == NOW + timedelta(seconds=1200)


@pytest.mark.parametrize("at", [NOW + timedelta(days=400), datetime.max.replace(tzinfo=UTC)])
def test_a_clock_that_was_ahead_promises_no_try_in_another_year(at: datetime) -> None:
    """The work is in its queue for as long as was asked for, whatever the clock of the worker said."""
    ahead = replace(SETBACK, at=at)

    assert ahead.to_public_json(NOW)["next_try_by"] == "2026-03-01T12:00:08.000000Z"


def test_tries_of_several_workers_are_counted_on() -> None:
    """The reconciler tries what a work item tried before, and a work item begins at nought when a person sends it."""
    assert setback_of(ThrottledError("x", None), SETBACK, at=NOW, tries=1, wait_s=1).tries == 4
    assert setback_of(ThrottledError("x", None), SETBACK, at=NOW, tries=9, wait_s=1).tries == 9
