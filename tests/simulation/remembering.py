"""Spares the simulation the parsing of what it has just written: most of its time, and proven elsewhere to be exact."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Final
from unittest import mock

from functions.adapters import arrival_tables, table_ledger
from functions.core.ledger_rows import arrival_from_row, arrival_to_row, run_from_row, run_to_row
from functions.core.manifest import InputManifest
from functions.core.rows import Row
from tests.simulation import invariants
from tests.support import control_plane

__all__ = ["remembering"]

_KEPT: Final = 2048


@contextmanager
def remembering() -> Iterator[None]:
    """Have rows and manifests read back as the very entries that were written; entries never change."""
    runs = _Remembered(run_to_row, run_from_row)
    arrivals = _Remembered(arrival_to_row, arrival_from_row)
    with (
        mock.patch.object(table_ledger, "run_to_row", runs.write),
        mock.patch.object(table_ledger, "run_from_row", runs.read),
        mock.patch.object(arrival_tables, "arrival_to_row", arrivals.write),
        mock.patch.object(arrival_tables, "arrival_from_row", arrivals.read),
        mock.patch.object(control_plane, "run_from_row", runs.read),
        mock.patch.object(invariants, "arrival_from_row", arrivals.read),
        mock.patch.object(InputManifest, "from_bytes", lru_cache(_KEPT)(InputManifest.from_bytes)),
    ):
        yield


class _Remembered[T]:
    """A pair of converters whose writer teaches its reader."""

    def __init__(self, write: Callable[[T], Row], read: Callable[[Mapping[str, object]], T]) -> None:
        self._to_row = write
        self._from_row = read
        self._known: dict[tuple[tuple[str, object], ...], T] = {}

    def write(self, entry: T) -> Row:
        row = self._to_row(entry)
        if len(self._known) > _KEPT:
            self._known.clear()
        self._known[tuple(row.items())] = entry
        return row

    def read(self, row: Mapping[str, object]) -> T:
        known = self._known.get(tuple(row.items()))
        return self._from_row(row) if known is None else known
