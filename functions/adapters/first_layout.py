"""Moves what an earlier release wrote into the present layout: each row when it is met, the rest bit by bit."""

import json
import time
from dataclasses import replace
from typing import Final

from functions.adapters.arrival_timeline import ArrivalTimeline
from functions.adapters.ledger_layout import (
    LAYOUT,
    first_path_place,
    first_place_of,
    path_place,
    pending_place,
    place_of,
)
from functions.adapters.table_port import StoredRow, Table, Tables
from functions.core.errors import InvalidDocumentError, LedgerConflictError, Problem
from functions.core.ledger_rows import arrival_from_row, arrival_to_row, run_from_row, run_to_row
from functions.core.model import ArrivalState, BlobVersion
from functions.core.row_fields import SCHEMA_VERSION
from functions.core.rows import Row
from functions.ports import LayoutStatus

__all__ = ["FirstLayout"]

_MARK: Final = ("layout", "ledger")
_FRESH_FOR_S: Final = 10.0
_EVERY_VERSION: Final = 1_000_000  # of one path


class FirstLayout:
    """What may still be left of layout 1, and the mark that says when nothing is.

    A ledger without rows has the present layout from its first use on, and then nobody looks for an older one.
    Moving a row: it is written to its new place if that is free, with its index rows, and deleted from the old
    place last. Whoever repeats this after a crash finds the new row, keeps it, and deletes the old one.
    """

    def __init__(self, tables: Tables, timeline: ArrivalTimeline) -> None:
        self._marks = tables.table("marks")
        self._arrivals = tables.table("arrivals")
        self._pending = tables.table("pending")
        self._paths = tables.table("paths")
        self._runs = tables.table("runs")
        self._timeline = timeline
        self._is_gone = False
        self._looked_at = float("-inf")

    @property
    def is_gone(self) -> bool:
        """Whether no row is left in the first layout; once true, asks nobody any more."""
        if not self._is_gone and time.monotonic() - self._looked_at > _FRESH_FOR_S:
            self._is_gone = self.status().is_complete
            self._looked_at = time.monotonic()
        return self._is_gone

    def bring(self, blob: BlobVersion) -> StoredRow | None:
        """Return the arrival's row at its new place if it was still at the old one."""
        old = None if self.is_gone else self._arrivals.get(*first_place_of(blob))
        return None if old is None else self._move(old)

    def bring_path(self, account: str, container: str, path: str) -> None:
        """Move every version of a path that is still at its old place."""
        if not self.is_gone:
            partition, path_hash = first_path_place(account, container, path)
            for row in self._arrivals.query(partition, low=f"{path_hash}.", high=f"{path_hash}/", limit=_EVERY_VERSION):
                self._move(row)

    def _move(self, old: StoredRow) -> StoredRow:
        arrival = arrival_from_row(old.values)
        place, row = place_of(arrival.blob), arrival_to_row(arrival)
        found = self._arrivals.insert_or_get(*place, row)
        new = StoredRow(*place, row, found) if isinstance(found, str) else found
        current = arrival_from_row(new.values)
        self._timeline.put(current)
        partition, path_hash = path_place(arrival.blob.account, arrival.blob.container, arrival.blob.path)
        self._paths.put(partition, path_hash, {"path": arrival.blob.path})
        if current.state is ArrivalState.HELD:
            self._pending.put(*pending_place(current), {**arrival_to_row(current), "arrival_version": new.version})
        self._arrivals.delete(old.partition, old.key, old.version)
        return new

    def status(self) -> LayoutStatus:
        """Return how far the ledger is; makes the mark if there is none."""
        return self._read()[0]

    def step(self, *, limit: int) -> LayoutStatus:
        """Look at so many more rows, move those that need it, and return how far the ledger is then.

        Two who step at once do the same work, and one of them notes it.
        """
        before, version = self._read()
        if before.is_complete:
            return before
        name, token = json.loads(before.continuation) if before.continuation else ("arrivals", None)
        table = self._arrivals if name == "arrivals" else self._runs
        rows, token = table.page(token, limit=limit)
        moved = sum(self._bring_up(table, row) for row in rows)
        is_last = token is None and table is self._runs
        if token is None:
            name = "runs"
        after = replace(
            before,
            seen=before.seen + len(rows),
            moved=before.moved + moved,
            is_complete=is_last,
            continuation=None if is_last else json.dumps([name, token]),
        )
        if self._marks.replace(*_MARK, _row_of(after), version) is None:
            return self.status()
        return after

    def _bring_up(self, table: Table, row: StoredRow) -> bool:
        """Return whether the row was of an earlier release; then it is not any more."""
        if table is self._arrivals:
            blob = arrival_from_row(row.values).blob
            if (row.partition, row.key) == place_of(blob):
                return False
            self._move(row)
            return True
        if row.values.get("schema") == SCHEMA_VERSION:
            return False
        # Whoever changes it meanwhile writes it as the present release does.
        table.replace(row.partition, row.key, run_to_row(run_from_row(row.values)), row.version)
        return True

    def _read(self) -> tuple[LayoutStatus, str]:
        row = self._marks.get(*_MARK)
        if row is None:
            rows, _ = self._arrivals.page(None, limit=1)
            status = LayoutStatus(layout=LAYOUT, is_complete=not rows, seen=0, moved=0, continuation=None)
            version = self._marks.insert(*_MARK, _row_of(status))
            if version is not None:
                return status, version
            row = self._marks.get(*_MARK)
            if row is None:
                raise LedgerConflictError("reading the ledger's layout", "its mark was there and is gone")
        return _status_in(row), row.version


def _row_of(status: LayoutStatus) -> Row:
    return {
        "layout": status.layout,
        "is_complete": status.is_complete,
        "seen": status.seen,
        "moved": status.moved,
        "continuation": status.continuation or "",
    }


def _status_in(row: StoredRow) -> LayoutStatus:
    layout = int(str(row.values["layout"]))
    if layout > LAYOUT:
        raise InvalidDocumentError(
            [Problem("the ledger's layout", str(layout), f"at most {LAYOUT}, or a later release")]
        )
    return LayoutStatus(
        layout=layout,
        is_complete=row.values["is_complete"] is True,
        seen=int(str(row.values["seen"])),
        moved=int(str(row.values["moved"])),
        continuation=str(row.values["continuation"]) or None,
    )
