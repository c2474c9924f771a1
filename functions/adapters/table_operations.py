"""Keeps what operators asked for in one table: replays under their ids, backfills with their progress.

    operations   partition replay.<first two hex of the id>, key id     one row a replay
                 partition backfill, key id                             one row a backfill
                 partition active, key backfill id                      index of backfills that have a next page

The index row is written before the backfill's own row becomes active and removed after it no longer is, so a crash
in between leaves an index row too many, never one too few.
"""

from collections.abc import Sequence
from typing import Final

from functions.adapters.tables import Tables
from functions.core.backfill_rows import backfill_from_row, backfill_to_row
from functions.core.backfills import Backfill
from functions.core.errors import LedgerConflictError
from functions.core.replays import Replay, replay_from_row, replay_to_row
from functions.ports import Entry

__all__ = ["TableOperations"]

_BACKFILL: Final = "backfill"
_ACTIVE: Final = "active"
_EVERYTHING: Final = 1_000_000  # the keys are in no order that means anything, so a beginning of them says nothing


class TableOperations:
    """Implements `OperationLog`."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.table("operations")

    def claim_replay(self, replay: Replay) -> Replay:
        """Return the replay that was first asked for under this id."""
        place = _place_of(replay)
        if self._table.insert(*place, replay_to_row(replay)) is not None:
            return replay
        row = self._table.get(*place)
        if row is None:
            raise LedgerConflictError("claiming a replay", "it was there and is gone")
        return replay_from_row(row.values)

    def finish_replay(self, replay: Replay) -> None:
        """Write down what came of a replay; the first account of it stays."""
        place = _place_of(replay)
        row = self._table.get(*place)
        if row is not None and replay_from_row(row.values).done_at is None:
            self._table.replace(*place, replay_to_row(replay), row.version)

    def claim_backfill(self, backfill: Backfill) -> tuple[Entry[Backfill], bool]:
        """Return the backfill of this id, and whether this call made it."""
        if backfill.state.is_active:
            self._table.put(_ACTIVE, backfill.id, {"id": backfill.id})
        version = self._table.insert(_BACKFILL, backfill.id, backfill_to_row(backfill))
        if version is not None:
            return Entry(value=backfill, version=version), True
        found = self.get_backfill(backfill.id)
        if found is None:
            raise LedgerConflictError(f"backfill {backfill.id!r}", "it was there and is gone")
        return found, False

    def get_backfill(self, backfill_id: str) -> Entry[Backfill] | None:
        """Return a backfill, or None."""
        row = self._table.get(_BACKFILL, backfill_id)
        return None if row is None else Entry(value=backfill_from_row(row.values), version=row.version)

    def update_backfill(self, entry: Entry[Backfill], backfill: Backfill) -> Entry[Backfill]:
        """Return the new entry; keeps the index of active ones in step."""
        is_revived = backfill.state.is_active and not entry.value.state.is_active
        if is_revived:
            self._table.put(_ACTIVE, backfill.id, {"id": backfill.id})
        version = self._table.replace(_BACKFILL, backfill.id, backfill_to_row(backfill), entry.version)
        if version is None:
            raise LedgerConflictError(f"backfill {backfill.id!r}", "it changed since it was read")
        if is_revived:  # a look at the index between the two writes may have removed the row as one too many
            self._table.put(_ACTIVE, backfill.id, {"id": backfill.id})
        return Entry(value=backfill, version=version)

    def active_backfills(self) -> Sequence[Entry[Backfill]]:
        """Return backfills that have a next page; index rows of others are removed on the way."""
        found: list[Entry[Backfill]] = []
        for row in list(self._table.query(_ACTIVE, limit=_EVERYTHING)):
            entry = self.get_backfill(row.key)
            if entry is not None and entry.value.state.is_active:
                found.append(entry)
            elif entry is not None:
                self._table.delete(_ACTIVE, row.key, row.version)
        return found

    def backfills(self, *, limit: int) -> Sequence[Backfill]:
        """Return backfills, the latest first."""
        found = [backfill_from_row(row.values) for row in self._table.query(_BACKFILL, limit=_EVERYTHING)]
        return sorted(found, key=lambda backfill: backfill.created_at, reverse=True)[:limit]


def _place_of(replay: Replay) -> tuple[str, str]:
    return f"replay.{replay.id[:2]}", replay.id
