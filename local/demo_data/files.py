"""Writes the demo's files as they are uploaded: Parquet, good and broken."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa  # type: ignore[import-untyped] # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped] # it ships no types

from local.demo_data.flights import month_of

__all__ = ["TRAINING_MONTHS", "DemoFile", "broken_file", "history_files", "new_file", "unrouted_file"]

TRAINING_MONTHS = range(1, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFile:
    """One file, named within the input container."""

    path: str
    content: bytes
    rows: int


def history_files(flights: pa.Table) -> Iterator[DemoFile]:
    """Yield the months to train on, with what became of each flight."""
    for month in TRAINING_MONTHS:
        table = month_of(flights, month, with_outcome=True)
        yield DemoFile(path=f"flights/history/2013-{month:02}.parquet", content=to_parquet(table), rows=len(table))


def new_file(flights: pa.Table, month: int, name: str) -> DemoFile:
    """Return a month to score: its schedule only."""
    table = month_of(flights, month, with_outcome=False)
    return DemoFile(path=f"flights/new/{name}.parquet", content=to_parquet(table), rows=len(table))


def broken_file(flights: pa.Table, month: int, name: str) -> DemoFile:
    """Return a month whose sender lost two columns that the model cannot do without."""
    table = month_of(flights, month, with_outcome=False).drop_columns(["carrier", "distance"])
    return DemoFile(path=f"flights/new/{name}.parquet", content=to_parquet(table), rows=len(table))


def unrouted_file(name: str) -> DemoFile:
    """Return a file that no route wants."""
    return DemoFile(path=f"flights/notes/{name}.txt", content=b"A note that somebody left among the data.\n", rows=0)


def to_parquet(table: pa.Table) -> bytes:
    """Return the table as one Parquet file; the same table always gives the same bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
