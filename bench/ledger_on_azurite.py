"""Times the ledger on a real Azurite, beside what one row costs there, while its history grows a hundredfold."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import batched, groupby
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.bare_inserts import sample_arrival
from bench.figures import Figure
from bench.storm_cloud import storm_cloud
from functions.adapters.ledger_layout import place_of, timeline_place
from functions.adapters.storage import StorageAccount
from functions.adapters.table_ledger import TableLedger
from functions.adapters.table_port import Write
from functions.adapters.tables import AzureTables
from functions.core.ledger import Arrival, Change
from functions.core.ledger_rows import arrival_to_row
from functions.core.model import ArrivalState, RunId
from functions.core.tokens import arrival_id_of

__all__ = ["measure"]

_NAME: Final = "ledger_on_azurite"
_SPAN: Final = timedelta(days=365)
_RUN: Final = RunId("p00-20260101T000000Z-0123456789ab")
_REPEATS: Final = 40
_LISTED: Final = 100
_A_TRANSACTION: Final = 100
_WRITERS: Final = 8
_TOO_SLOW: Final = 1.5


def measure(console: Console, arrivals: int) -> Sequence[Figure]:
    """Return the seconds of each request with a long history, and their ratio to those with a hundredth of it."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder, storm_cloud(Path(folder)) as cloud:
        storage = StorageAccount(connection_string=cloud.connection_string)
        sizes = {"short": max(arrivals // 100, 1), "long": arrivals}
        short, long = (_time_all(storage, console, name, size) for name, size in sizes.items())
        storage.close()
    return [
        Figure(
            measurement=_NAME,
            name=f"{what}: time, {sizes['long']:,} arrivals to {sizes['short']:,}",
            value=seconds / short[what],
            unit="x",
            goal=_TOO_SLOW,
            detail=f"{1000 * seconds:.1f} ms, {1000 * short[what]:.1f} ms before",
        )
        for what, seconds in long.items()
    ]


def _time_all(storage: StorageAccount, console: Console, prefix: str, size: int) -> dict[str, float]:
    tables = AzureTables(storage, prefix=prefix)
    began = time.perf_counter()
    history = [_scored(index, size) for index in range(size)]
    _write_history(tables, history)
    console.print(f"{size:,} arrivals of history in {time.perf_counter() - began:.0f} s")
    ledger, another = TableLedger(tables), TableLedger(tables)  # the second remembers nothing of the first's
    fresh = [_held(f"p00/2026/now-{index:06}.parquet") for index in range(_REPEATS)]
    known = history[size // 2]
    pipeline = known.pipeline
    if pipeline is None:
        raise RuntimeError("the sample has no pipeline")
    now = datetime.now(UTC)
    return {
        "one row by its key": _median(lambda _: tables.table("arrivals").get(*place_of(known.blob))),
        "an arrival": _median(lambda index: ledger.record_arrival(fresh[index], is_first_try=True)),
        "a redelivery": _median(lambda index: another.record_arrival(fresh[index], is_first_try=True)),
        f"{_REPEATS} held arrivals": _median(lambda _: ledger.held_arrivals(pipeline, limit=_LISTED)),
        "the versions of a path": _median(
            lambda _: ledger.arrivals_of_path(known.blob.account, known.blob.container, known.blob.path)
        ),
        f"the newest {_LISTED} arrivals": _median(
            lambda _: ledger.arrivals([pipeline], since=now - _SPAN, until=now + timedelta(hours=1), limit=_LISTED)
        ),
    }


def _median(act: Callable[[int], object]) -> float:
    seconds = []
    for index in range(_REPEATS):
        began = time.perf_counter()
        act(index)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _held(path: str) -> Arrival:
    sample = sample_arrival()
    blob = replace(sample.blob, path=path)
    return replace(sample, blob=blob, id=arrival_id_of(blob))


def _scored(index: int, size: int) -> Arrival:
    at = datetime.now(UTC) - _SPAN / size * (index + 1)
    return replace(
        _held(f"p00/2026/file-{index:06}.parquet"),
        state=ArrivalState.SCORED,
        run_id=_RUN,
        event_time=at,
        recorded_at=at,
        updated_at=at,
        history=(Change(state="scored", at=at),),
    )


def _write_history(tables: AzureTables, history: Sequence[Arrival]) -> None:
    """Write each arrival's three rows as the ledger does, but in full transactions."""
    for name, rows in (("arrivals", _arrival_rows), ("paths", _path_rows), ("timeline", _timeline_rows)):
        table = tables.table(name)
        placed = sorted(rows(history), key=lambda row: row[0])
        chunks = [
            (partition, [Write.put(key, values) for _, key, values in chunk])
            for partition, group in groupby(placed, key=lambda row: row[0])
            for chunk in batched(group, _A_TRANSACTION, strict=False)
        ]
        with ThreadPoolExecutor(_WRITERS) as pool:
            for _ in pool.map(lambda chunk, table=table: table.write_many(*chunk), chunks):
                pass


type _Placed = tuple[str, str, dict[str, str | int | bool]]


def _arrival_rows(history: Sequence[Arrival]) -> Iterator[_Placed]:
    return ((*place_of(arrival.blob), arrival_to_row(arrival)) for arrival in history)


def _path_rows(history: Sequence[Arrival]) -> Iterator[_Placed]:
    for arrival in history:
        partition, key = place_of(arrival.blob)
        yield partition, key.partition(".")[0], {}


def _timeline_rows(history: Sequence[Arrival]) -> Iterator[_Placed]:
    for arrival in history:
        partition, key = place_of(arrival.blob)
        yield *timeline_place(arrival), {"partition": partition, "key": key}
