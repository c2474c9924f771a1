"""Removes what people and monitors asked for long ago, and what was told about it, a page at a time."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from functions.adapters.table_port import StoredRow, Table, Tables, Write
from functions.core.backfills import BackfillState
from functions.core.reading import parse_utc
from functions.core.rows import Row

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

    A row that changed since it was read stays, as does a replay that is not done and a backfill that goes on.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = {name: tables.table(name) for name in _TIMES}
        self._marks = tables.table("marks")

    def forget(self, *, before: datetime, limit: int) -> int:
        """Look at so many rows of each table, and return how many were removed."""
        return sum(self._step(name, table, before, limit) for name, table in self._tables.items())

    def _step(self, name: str, table: Table, before: datetime, limit: int) -> int:
        cursor = self._marks.get(_CURSORS, f"table.{name}")
        begun = "" if cursor is None else str(cursor.values["continuation"])
        rows, continuation = table.page(begun or None, limit=limit)
        over = [row for row in rows if _is_over(name, row, before)]
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


def _is_over(name: str, row: StoredRow, before: datetime) -> bool:
    kind = row.partition.partition(".")[0]
    column = _TIMES[name].get(kind)
    at = None if column is None else parse_utc(str(row.values.get(column)))
    if kind == "backfill" and BackfillState(str(row.values["state"])).is_active:
        return False
    return at is not None and at < before
