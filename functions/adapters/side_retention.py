"""Removes what people and monitors asked for long ago, and what was told about it, a page at a time."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from functions.adapters.table_port import StoredRow, Table, Tables, Write
from functions.core.backfills import BackfillState
from functions.core.model import RunId
from functions.core.reading import parse_utc
from functions.core.rows import Row
from functions.core.tokens import partition_of_run

__all__ = ["SideRetention"]

_CURSORS: Final = "retention"
# The time that counts, by the kind of row, which is its partition's first word. What is not here is never removed:
# slots, consignments, cooldowns, bookmarks and the turnstile say what must not be done again.
_TIMES: Final[Mapping[str, Mapping[str, str]]] = {
    "marks": {"request": "requested_at", "signal": "recorded_at", "alert": "at", "quarantined": "at"},
    "operations": {"replay": "done_at", "backfill": "updated_at"},
}


class SideRetention:
    """Walks over the tables of marks and operations, a page of each at a time, and remembers where it is.

    A row that changed since it was read stays, as does a replay that is not done, a backfill that goes on, and a
    request whose run is there.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = {name: tables.table(name) for name in _TIMES}
        self._marks = tables.table("marks")
        self._runs = tables.table("runs")

    def forget(self, *, before: datetime, limit: int) -> int:
        """Look at so many rows of each table, and return how many were removed."""
        return sum(self._step(name, table, before, limit) for name, table in self._tables.items())

    def _step(self, name: str, table: Table, before: datetime, limit: int) -> int:
        cursor = self._marks.get(_CURSORS, f"table.{name}")
        begun = "" if cursor is None else str(cursor.values["continuation"])
        rows, continuation = table.page(begun or None, limit=limit)
        over = self._without_a_run([row for row in rows if _is_over(name, row, before)])
        removed = 0
        for partition in dict.fromkeys(row.partition for row in over):
            mine = [Write.delete(row.key, row.version) for row in over if row.partition == partition]
            table.write_many(partition, mine)
            removed += len(mine)
        # A crash before this line looks at the same page again.
        now: Row = {"continuation": continuation or ""}
        if cursor is None:
            self._marks.insert(_CURSORS, f"table.{name}", now)
        elif dict(cursor.values) != now:
            self._marks.replace(_CURSORS, f"table.{name}", now, cursor.version)
        return removed

    def _without_a_run(self, rows: list[StoredRow]) -> list[StoredRow]:
        """Return the rows but for those of requests whose run is there, for the key must go on to stand for it."""
        asked = [(row, _run_of(row)) for row in rows]
        places = [partition_of_run(run_id) for _, run_id in asked if run_id is not None]
        runs = (run is not None for run in self._runs.get_many(places))
        return [row for row, run_id in asked if run_id is None or not next(runs)]


def _run_of(row: StoredRow) -> RunId | None:
    """Return the run that a request asks for; other rows, and those of an earlier release, name none."""
    run_id = row.values.get("run_id") if row.partition.startswith("request.") else None
    return None if run_id is None else RunId(str(run_id))


def _is_over(name: str, row: StoredRow, before: datetime) -> bool:
    kind = row.partition.partition(".")[0]
    column = _TIMES[name].get(kind)
    at = None if column is None else parse_utc(str(row.values.get(column)))
    if kind == "backfill" and BackfillState(str(row.values["state"])).is_active:
        return False
    return at is not None and at < before
