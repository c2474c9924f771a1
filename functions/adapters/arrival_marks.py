"""Keeps in the table of marks which consignments were frozen, where walks have stopped, and who will be woken when."""

from datetime import datetime
from hashlib import sha256
from typing import Final

from functions.adapters.tables import StoredRow, Table
from functions.core.consignments import Consignment
from functions.core.errors import LedgerConflictError
from functions.core.model import PipelineKey, RunId
from functions.core.reading import parse_utc, to_iso
from functions.core.rows import Row, pack_row, unpack_row
from functions.ports import Entry

__all__ = ["ArrivalMarks"]

_BOOKMARKS = "bookmark"
_TRIES: Final = 3  # a wake-up that could not be noted is a hint less


class ArrivalMarks:
    """The part of `RunLedger` that is about consignments and bookmarks; every access names one row."""

    def __init__(self, marks: Table) -> None:
        self._marks = marks

    def consignment(self, pipeline: PipelineKey, place: str) -> Entry[Consignment] | None:
        """Return what is known of a consignment's present version, or None before its first."""
        row = self._marks.get(*_place_of(pipeline, place))
        return None if row is None else Entry(value=_consignment_in(row), version=row.version)

    def move_consignment(self, entry: Entry[Consignment] | None, consignment: Consignment) -> Entry[Consignment]:
        """Return the new entry of a consignment that takes the step from `entry`, or from nothing."""
        partition, key = _place_of(consignment.pipeline, consignment.place)
        row: Row = pack_row(
            {
                "pipeline": consignment.pipeline,
                "place": consignment.place,
                "run_id": consignment.run_id,
                "number": consignment.version,
                "replaces": consignment.replaces,
                "is_frozen": consignment.is_frozen,
            }
        )
        version = (
            self._marks.insert(partition, key, row)
            if entry is None
            else self._marks.replace(partition, key, row, entry.version)
        )
        if version is None:
            raise LedgerConflictError(f"freezing {consignment.place!r}", "another worker freezes it too")
        return Entry(value=consignment, version=version)

    def bookmark(self, name: str) -> dict[str, str]:
        """Return what was remembered under a name; nothing before the first time."""
        row = self._marks.get(_BOOKMARKS, _hash(name))
        if row is None:
            return {}
        return {key: str(value) for key, value in unpack_row(row.values).items() if key != "name"}

    def set_bookmark(self, name: str, values: dict[str, str]) -> None:
        """Remember something under a name; the last writer wins, so it may be a hint only."""
        self._marks.put(_BOOKMARKS, _hash(name), pack_row({"name": name, **values}))

    def note_wake_up(self, pipeline: PipelineKey, due: datetime, *, not_before: datetime) -> datetime | None:
        """Note that a message wakes the dispatcher at `due`, unless one is noted that does between the two times."""
        place, noted = _wake_up_of(pipeline), pack_row({"name": f"wake.{pipeline}", "due": to_iso(due)})
        for _ in range(_TRIES):
            row = self._marks.get(*place)
            others = None if row is None else parse_utc(str(row.values.get("due", "")))
            if others is not None and not_before < others <= due:
                return others
            if row is None:
                version = self._marks.insert(*place, noted)
            else:
                version = self._marks.replace(*place, noted, row.version)
            if version is not None:
                return None
        return None

    def forget_wake_up(self, pipeline: PipelineKey) -> None:
        """Forget the message that was noted: it was not sent."""
        self._marks.put(*_wake_up_of(pipeline), pack_row({"name": f"wake.{pipeline}", "due": ""}))


def _wake_up_of(pipeline: PipelineKey) -> tuple[str, str]:
    return _BOOKMARKS, _hash(f"wake.{pipeline}")


def _place_of(pipeline: PipelineKey, place: str) -> tuple[str, str]:
    return f"consignment.{pipeline}", _hash(place)


def _consignment_in(row: StoredRow) -> Consignment:
    values = row.values
    replaces = values.get("replaces")
    return Consignment(
        pipeline=PipelineKey(str(values["pipeline"])),
        place=str(values["place"]),
        run_id=RunId(str(values["run_id"])),
        version=int(str(values["number"])),
        replaces=None if replaces is None else RunId(str(replaces)),
        is_frozen=values.get("is_frozen") is True,
    )


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:40]
