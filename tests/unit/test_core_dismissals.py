"""Tests that a dismissal fits into a header whatever its reason, and that nothing else dismisses a letter."""

import json
from datetime import UTC, datetime

import pytest

from functions.core.dismissals import DismissalRequest, Dismissed, parse_dismissal_request
from functions.core.errors import InvalidRequestError

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ACCOUNT = "tidegatelocal"


@pytest.mark.parametrize("reason", ["a probe", 'it\'s "ours": 100 %, \u00fc\u4e2d\U0001f600', "x" * 500])
def test_what_a_mark_says_is_what_was_said(reason: str) -> None:
    dismissed = Dismissed(at=AT, by="ann@contoso.com", reason=reason)

    mark = dismissed.to_mark()

    assert Dismissed.from_mark(mark) == dismissed
    assert mark.isascii()
    assert mark.isprintable()
    assert len(mark) <= 2000


@pytest.mark.parametrize("letter", ["x", "\u4e2d", "\U0001f600"])
@pytest.mark.parametrize("room", [0, 200, 500, 2000, 9000])
def test_a_reason_is_cut_to_the_room_that_there_is(letter: str, room: int) -> None:
    """Azure refuses more than 8 KiB of metadata, of all that is in a blob's."""
    dismissed = Dismissed(at=AT, by="ann", reason=letter * 60_000)

    mark = dismissed.to_mark(room)

    read = Dismissed.from_mark(mark)
    assert len(dismissed.reason) == 500
    assert len(mark) <= max(min(room, 2000), 130)
    assert read is not None
    assert (read.at, read.by) == (AT, "ann")
    assert read.reason == dismissed.reason or read.reason in {"", "\u2026"} or read.reason.endswith(f"{letter}\u2026")


@pytest.mark.parametrize(
    "mark",
    [
        None,
        "",
        "yes",
        "1",
        "{",
        '{"at": "2026-03-01T12:00:00Z"}',
        '{"at": "?", "by": "ann", "reason": "r"}',
        '{"at": "2026-03-01T12:00:00Z", "by": 1, "reason": "r"}',
        "[" * 4000,
    ],
)
def test_what_is_no_mark_dismisses_nothing(mark: str | None) -> None:
    """The letter then waits for a person, which is safe."""
    assert Dismissed.from_mark(mark) is None


def test_a_mark_of_somebody_else_is_text_that_an_answer_and_a_terminal_can_carry() -> None:
    mark = Dismissed.from_mark('{"at": "2026-03-01T12:00:00Z", "by": "\\ud800", "reason": "a\\nb\\u001b[2J"}')

    assert mark == Dismissed(at=AT, by="?", reason="a?b?[2J")


def test_a_letter_is_named_by_its_path_or_its_url() -> None:
    url = f"https://{ACCOUNT}.blob.core.windows.net/deadletter/A/x.json"

    requests = [
        parse_dismissal_request(json.dumps({"dead_letter": name, "reason": " ours "}).encode(), account=ACCOUNT)
        for name in ("A/x.json", url)
    ]

    assert requests == [DismissalRequest(name="A/x.json", reason="ours")] * 2


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["dead_letter", "reason"]),
        ({"dead_letter": "A/x.json"}, ["reason"]),
        ({"dead_letter": "A/x.json", "reason": "  "}, ["reason"]),
        ({"dead_letter": "A/x.json", "reason": 1}, ["reason"]),
        ({"dead_letter": "A/x.json", "reason": "two\nlines"}, ["reason"]),
        ({"dead_letter": "A/x.json", "reason": "\ud800"}, ["reason"]),
        ({"dead_letter": "A/x.txt", "reason": ""}, ["dead_letter", "reason"]),
        ({"dead_letter": "../x.json", "reason": "r"}, ["dead_letter"]),
        ({"dead_letter": f"https://{ACCOUNT}.blob.core.windows.net/input/x.json", "reason": "r"}, ["dead_letter"]),
        ({"dead_letter": "A/x.json", "reason": "r", "by": "me"}, ["by"]),
    ],
)
def test_a_wrong_request_is_refused_with_every_bad_field(body: dict[str, object], fields: list[str]) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_dismissal_request(json.dumps(body).encode(), account=ACCOUNT)

    assert [problem.place for problem in refused.value.problems] == fields
