"""Keeps in the table of marks which consignments were frozen, and where walks that go on another time have stopped."""

from hashlib import sha256

from functions.adapters.tables import StoredRow, Table
from functions.core.consignments import Consignment
from functions.core.errors import LedgerConflictError
from functions.core.model import PipelineKey, RunId
from functions.core.rows import Row, pack_row, unpack_row
from functions.ports import Entry

__all__ = ["ArrivalMarks"]

_BOOKMARKS = "bookmark"


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
