"""Tests that nothing of what is no dead letter is replayed."""

import pytest

from functions.core.dead_letters import MAX_DEAD_LETTER_BYTES, read_dead_letter
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
