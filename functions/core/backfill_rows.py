"""Turns backfills into flat table rows and back, and into what people are shown."""

from collections.abc import Mapping
from dataclasses import fields

from functions.core.backfills import Backfill, BackfillState, Counts
from functions.core.model import PipelineKey
from functions.core.reading import Reader, to_iso
from functions.core.row_fields import RowFields, history_to_text, to_text
from functions.core.rows import Row, pack_row

__all__ = ["backfill_from_row", "backfill_to_public_json", "backfill_to_row"]


def backfill_to_row(backfill: Backfill) -> Row:
    """Return the backfill as a flat row."""
    return pack_row(
        {
            "schema": 1,
            "id": backfill.id,
            "pipeline": backfill.pipeline,
            "prefix": backfill.prefix,
            "since": to_iso(backfill.since),
            "until": to_iso(backfill.until),
            "again": backfill.again,
            "per_minute": backfill.per_minute,
            "places": to_text([list(place) for place in backfill.places]),
            "state": backfill.state.value,
            "asked_by": backfill.asked_by,
            "created_at": to_iso(backfill.created_at),
            "updated_at": to_iso(backfill.updated_at),
            "is_confirmed": backfill.is_confirmed,
            "place": backfill.place,
            "continuation": backfill.continuation,
            "pages": backfill.pages,
            "counts": to_text(_counts_json(backfill.counts)),
            "plan": None if backfill.plan is None else to_text(_counts_json(backfill.plan)),
            "note": backfill.note,
            "history": history_to_text(backfill.history),
        }
    )


def backfill_from_row(row: Mapping[str, object]) -> Backfill:
    """Return the backfill in a row; raises InvalidDocumentError."""
    columns = RowFields(row, "backfill row")
    return columns.build(
        lambda: Backfill(
            id=columns.text("id"),
            pipeline=PipelineKey(columns.text("pipeline")),
            prefix=columns.text("prefix"),
            since=columns.instant("since"),
            until=columns.instant("until"),
            again=columns.reader("again").boolean(),
            per_minute=columns.reader("per_minute").integer(minimum=1),
            places=tuple(_place(item) for item in columns.document("places").items()),
            state=columns.reader("state").one_of(BackfillState),
            asked_by=columns.text("asked_by"),
            created_at=columns.instant("created_at"),
            updated_at=columns.instant("updated_at"),
            is_confirmed=columns.reader("is_confirmed").boolean(),
            place=columns.reader("place").integer(minimum=0),
            continuation=columns.optional_text("continuation"),
            pages=columns.reader("pages").integer(minimum=0),
            counts=_counts(columns.document("counts")),
            plan=None if columns.reader("plan").is_absent else _counts(columns.document("plan")),
            note=columns.text("note"),
            history=columns.history("history"),
        )
    )


def backfill_to_public_json(backfill: Backfill) -> dict[str, object]:
    """Return what people are shown of a backfill; `confirm` is what to repeat to start it."""
    is_waiting = backfill.state is BackfillState.COUNTED
    return {
        "id": backfill.id,
        "pipeline": backfill.pipeline,
        "prefix": backfill.prefix,
        "since": to_iso(backfill.since),
        "until": to_iso(backfill.until),
        "again": backfill.again,
        "per_minute": backfill.per_minute,
        "places": [f"{container}/{prefix}" for container, prefix in backfill.places],
        "state": backfill.state.value,
        "note": backfill.note or None,
        "plan": None if backfill.plan is None else _shown(backfill.plan),
        "counts": _shown(backfill.counts),
        "pages": backfill.pages,
        "confirm": backfill.confirmation if is_waiting else None,
        "asked_by": backfill.asked_by,
        "created_at": to_iso(backfill.created_at),
        "updated_at": to_iso(backfill.updated_at),
        "history": [
            {"state": change.state, "at": to_iso(change.at), "note": change.note} for change in backfill.history
        ],
    }


def _counts_json(counts: Counts) -> dict[str, int]:
    return {item.name: getattr(counts, item.name) for item in fields(counts)}


def _shown(counts: Counts) -> dict[str, int]:
    return {"seen": counts.seen, **_counts_json(counts)}


def _counts(reader: Reader) -> Counts:
    return Counts(**{item.name: reader.child(item.name).integer(minimum=0) for item in fields(Counts)})


def _place(item: Reader) -> tuple[str, str]:
    parts = item.items(min_items=2, max_items=2)
    return (parts[0].text(), parts[1].text()) if parts else ("", "")
