"""Keeps what operators asked for in a table of its own: replays under their ids.

operations   partition replay.<first two hex of the id>, key id     one row a replay
"""

from functions.adapters.tables import Tables
from functions.core.errors import LedgerConflictError
from functions.core.replays import Replay, replay_from_row, replay_to_row

__all__ = ["TableOperations"]


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


def _place_of(replay: Replay) -> tuple[str, str]:
    return f"replay.{replay.id[:2]}", replay.id
