"""Reads what an operator says about a pause or an allowance, strictly: every bad field is listed."""

import json
from dataclasses import dataclass
from typing import Final

from functions.core.errors import InvalidRequestError, Problem
from functions.core.reading import Reader

__all__ = ["MAX_RUNS_A_DAY", "AllowanceRequest", "PauseRequest", "parse_allowance_request", "parse_pause_request"]

MAX_RUNS_A_DAY: Final = 1_000_000
_MAX_BODY_BYTES: Final = 16 * 1024
_MAX_REASON: Final = 500
_MAX_NAME: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRequest:
    """The wish to pause or to resume, with who says so and why; both may be empty."""

    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowanceRequest:
    """The wish that so many runs may begin today."""

    runs_today: int
    by: str = ""


def parse_pause_request(body: bytes) -> PauseRequest:
    """Return what a body says; an empty one says nothing. Raises InvalidRequestError listing every mistake."""
    problems: list[Problem] = []
    root = _root(body, problems)
    root.mapping(optional=("by", "reason"))
    request = PauseRequest(by=_line(root.child("by"), _MAX_NAME), reason=_line(root.child("reason"), _MAX_REASON))
    if problems:
        raise InvalidRequestError(problems)
    return request


def parse_allowance_request(body: bytes) -> AllowanceRequest:
    """Return what a body says; raises InvalidRequestError listing every mistake."""
    problems: list[Problem] = []
    root = _root(body, problems)
    root.mapping(required=("runs_today",), optional=("by",))
    runs = root.child("runs_today")
    request = AllowanceRequest(
        runs_today=0 if runs.is_absent else runs.integer(minimum=0, maximum=MAX_RUNS_A_DAY),
        by=_line(root.child("by"), _MAX_NAME),
    )
    if problems:
        raise InvalidRequestError(problems)
    return request


def _root(body: bytes, problems: list[Problem]) -> Reader:
    if len(body) > _MAX_BODY_BYTES:
        raise InvalidRequestError([Problem("body", f"{len(body)} bytes", f"at most {_MAX_BODY_BYTES}")])
    try:
        document: object = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        raise InvalidRequestError([Problem("body", f"{len(body)} bytes", "JSON in UTF-8, or nothing")]) from None
    return Reader(document, "", problems)


def _line(reader: Reader, at_most: int) -> str:
    text = reader.text(max_length=at_most, default="")
    if not text.isprintable():
        reader.refuse("one line of printable characters")
    return text
