"""Tests that nothing of what is no dead letter is replayed, and that a replayed one can say so."""

import json
import re
from datetime import UTC, datetime

import pytest

from functions.core.dead_letters import MAX_DEAD_LETTER_BYTES, Replayed, read_dead_letter
from functions.core.errors import InvalidDocumentError


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[" + b" " * MAX_DEAD_LETTER_BYTES, "at most 4194304"),
        (b"[{]", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"\xff", "JSON"),
        (b"[]", "at least 1"),
        (b"[1]", "an object"),
        (b"[" + b"{}," * 5000 + b"{}]", "at most 5000"),
        (b'{"queue": "nobody", "message_id": "m", "reason": "r", "message": "x"}', "one of arrivals"),
    ],
    ids=lambda value: value[:20].decode(errors="replace") if isinstance(value, bytes) else value,
)
def test_what_is_no_dead_letter_is_refused_with_what_is_wrong(content: bytes, problem: str) -> None:
    """R74: whatever lies in the container, of whatever size, nothing of it is half replayed."""
    with pytest.raises(InvalidDocumentError, match=problem):
        read_dead_letter(content)


def test_what_a_message_is_called_is_one_line_that_a_terminal_can_show() -> None:
    """Whoever sends events must not write what a person reads as another line of the answer."""
    event = {"id": "e-1\ndid: all\x1b[2J\x85\ud800", "type": "x"}
    quarantined = {"queue": "dispatch", "message_id": "m-1\ndid: all", "reason": "r", "message": "x"}

    (of_event,), (of_message,) = (read_dead_letter(json.dumps(letter).encode()) for letter in ([event], quarantined))

    assert of_event.label == "e-1?did: all?[2J??"
    assert of_message.label == "m-1?did: all"


def test_a_mark_says_what_came_of_each_message_as_long_as_a_header_has_room() -> None:
    """All metadata of a blob has 8 KiB, and is ASCII."""
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    short = Replayed(at=at, did=("e-1: held \U0001f600\ud800%25\n",))
    long = Replayed(at=at, did=tuple(f"e-{number}: {'\U0001f600' * 50}" for number in range(3000)))
    wide = Replayed(at=at, did=("x" * 3000,))

    marks = [replayed.to_mark() for replayed in (short, long, wide)]

    read = [Replayed.from_mark(mark) for mark in marks]
    assert all(mark.isascii() and mark.isprintable() and len(mark) <= 4000 for mark in marks)
    assert read[0] == Replayed(at=at, did=("e-1: held \U0001f600?%25\n",))
    assert read[1] is not None
    assert read[1].did[0] == long.did[0]
    assert re.fullmatch("\u2026 and [0-9]+ more", read[1].did[-1])
    assert read[2] == Replayed(at=at, did=("x" * 300 + "\u2026",))


def test_a_mark_of_somebody_else_is_text_that_an_answer_can_carry() -> None:
    """One such letter must not keep the others from being listed."""
    mark = Replayed.from_mark('{"at": "2026-03-01T12:00:00Z", "did": ["\\ud800", 1]}')

    assert mark is not None
    assert mark.did == ("?", "1")


@pytest.mark.parametrize("room", [0, 105, 200, 4000, 8000])
def test_a_mark_is_as_long_as_there_is_room_or_as_short_as_it_can_be(room: int) -> None:
    replayed = Replayed(at=datetime(2026, 3, 1, 12, tzinfo=UTC), did=("e-1: held",) * 3000)

    mark = replayed.to_mark(room)

    assert len(mark) <= max(min(room, 4000), 105)
    assert Replayed.from_mark(mark) is not None


@pytest.mark.parametrize(
    "mark",
    [None, "", "yes", "1", "{", '{"at": 1}', '{"at": "2026-03-01T12:00:00Z"}', '{"at": "?", "did": []}', "[" * 4000],
)
def test_what_is_no_mark_marks_nothing(mark: str | None) -> None:
    """The letter then waits for a person, which is safe."""
    assert Replayed.from_mark(mark) is None
