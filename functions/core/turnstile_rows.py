"""Turns the turnstile into one flat table row and back."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Final

from functions.core.errors import InvalidDocumentError, Problem
from functions.core.model import PipelineKey, RunId
from functions.core.reading import Reader, to_iso
from functions.core.rows import Row, pack_row, unpack_row
from functions.core.tokens import pipeline_of_run
from functions.core.turnstile import Allowance, Barred, Pause, Queued, Seat, Turnstile

__all__ = ["turnstile_from_row", "turnstile_to_row"]

_SCHEMA: Final = 1
_KEYS: Final = ("seats", "day", "begun", "pauses", "allowances", "told", "queue", "barred", "next_start_at")


def turnstile_to_row(turnstile: Turnstile) -> Row:
    """Return the turnstile as a row: one JSON document, cut into as many properties as it needs."""
    leaps: list[list[object]] = [[day.isoformat(), dict(begun)] for day, begun in turnstile.leapt_from]
    document: dict[str, object] = {
        "seats": [
            [seat.run_id, seat.attempt, to_iso(seat.taken_at), _iso_or_none(seat.not_before)]
            for seat in turnstile.seats
        ],
        "day": None if turnstile.day is None else turnstile.day.isoformat(),
        "begun": dict(turnstile.begun),
        "pauses": [[item.pipeline, item.by, to_iso(item.at), item.reason] for item in turnstile.pauses],
        "allowances": [
            [item.pipeline, item.day.isoformat(), item.runs, item.by, to_iso(item.at)] for item in turnstile.allowances
        ],
        "told": {pipeline: day.isoformat() for pipeline, day in turnstile.told.items()},
        "queue": [[item.pipeline, to_iso(item.since), to_iso(item.seen_at)] for item in turnstile.queue],
        "barred": [[item.run_id, item.attempt, to_iso(item.at), item.why] for item in turnstile.barred],
        "next_start_at": _iso_or_none(turnstile.next_start_at),
    }
    if leaps:
        document["leapt_from"] = leaps
    text = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return pack_row({"schema": _SCHEMA, "document": text})


def turnstile_from_row(row: Mapping[str, object]) -> Turnstile:
    """Return the turnstile in a row; raises InvalidDocumentError listing every mistake."""
    problems: list[Problem] = []
    values = Reader(unpack_row(row), "turnstile row", problems)
    values.child("schema").constant(_SCHEMA)
    try:
        document: object = json.loads(values.child("document").text())
    except (ValueError, RecursionError):
        raise InvalidDocumentError([Problem("turnstile row.document", "no JSON", "JSON")]) from None
    root = Reader(document, "turnstile", problems)
    root.mapping(required=_KEYS, optional=("leapt_from",))
    turnstile = Turnstile(
        seats=tuple(_seat(item) for item in _rows(root, "seats", 4)),
        day=None if root.child("day").value is None else _day(root.child("day")),
        begun=_counts(root.child("begun")),
        leapt_from=() if root.child("leapt_from").is_absent else _leaps(_rows(root, "leapt_from", 2)),
        pauses=tuple(_pause(item) for item in _rows(root, "pauses", 4)),
        allowances=tuple(_allowance(item) for item in _rows(root, "allowances", 5)),
        told={PipelineKey(name): _day(reader) for name, reader in root.child("told").children()},
        queue=tuple(_queued(item) for item in _rows(root, "queue", 3)),
        barred=tuple(_barred(item) for item in _rows(root, "barred", 4)),
        next_start_at=_instant_or_none(root.child("next_start_at")),
    )
    if problems:
        raise InvalidDocumentError(problems)
    return turnstile


def _rows(root: Reader, name: str, width: int) -> list[list[Reader]]:
    rows = [item.items(min_items=width, max_items=width) for item in root.child(name).items()]
    return [row for row in rows if row]


def _iso_or_none(instant: datetime | None) -> str | None:
    return None if instant is None else to_iso(instant)


def _instant_or_none(reader: Reader) -> datetime | None:
    return None if reader.value is None else reader.instant()


def _day(reader: Reader) -> date:
    try:
        return date.fromisoformat(reader.text())
    except ValueError:
        reader.refuse("a day as yyyy-mm-dd")
        return datetime.fromtimestamp(0, UTC).date()


def _counts(reader: Reader) -> dict[PipelineKey, int]:
    return {PipelineKey(name): count.integer(minimum=0) for name, count in reader.children()}


def _leaps(rows: list[list[Reader]]) -> tuple[tuple[date, dict[PipelineKey, int]], ...]:
    return tuple((_day(day), _counts(begun)) for day, begun in rows)


def _seat(row: list[Reader]) -> Seat:
    run_id, attempt, taken_at, not_before = row
    try:
        pipeline = pipeline_of_run(RunId(run_id.text()))
    except ValueError:
        run_id.refuse("a run id")
        pipeline = PipelineKey("")
    return Seat(
        run_id=RunId(run_id.text()),
        attempt=attempt.integer(minimum=1),
        pipeline=pipeline,
        taken_at=taken_at.instant(),
        not_before=_instant_or_none(not_before),
    )


def _pause(row: list[Reader]) -> Pause:
    pipeline, by, at, reason = row
    return Pause(pipeline=PipelineKey(pipeline.text()), by=by.text(), at=at.instant(), reason=reason.text())


def _allowance(row: list[Reader]) -> Allowance:
    pipeline, day, runs, by, at = row
    return Allowance(
        pipeline=PipelineKey(pipeline.text()),
        day=_day(day),
        runs=runs.integer(minimum=0),
        by=by.text(),
        at=at.instant(),
    )


def _barred(row: list[Reader]) -> Barred:
    run_id, attempt, at, why = row
    return Barred(run_id=RunId(run_id.text()), attempt=attempt.integer(minimum=1), at=at.instant(), why=why.text())


def _queued(row: list[Reader]) -> Queued:
    pipeline, since, seen_at = row
    return Queued(pipeline=PipelineKey(pipeline.text()), since=since.instant(), seen_at=seen_at.instant())
