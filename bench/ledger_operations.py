"""Counts what the ledger asks of its tables, and in how many partitions, while its history grows a hundredfold."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from rich.console import Console

from bench.figures import Figure
from functions.adapters.ledger_layout import place_of, timeline_place
from functions.core.ledger import Change
from functions.core.ledger_rows import arrival_to_row, run_to_row
from functions.core.model import ArrivalState, RunId
from functions.core.tokens import partition_of_run
from functions.services.arrive import arrive
from functions.services.reconcile import reconcile
from tests.support.control_plane import SCORING, World, blob_message, make_blob, make_pipelines

__all__ = ["measure"]

_NAME: Final = "ledger_operations"
_SPAN: Final = timedelta(days=365)
_FILES_A_RUN: Final = 100
_OPEN_RUNS: Final = 10
_LISTED: Final = 100


@dataclass(frozen=True, slots=True)
class _Count:
    """What one thing took."""

    requests: int
    partitions: int
    seconds: float


def measure(console: Console, arrivals: int) -> Sequence[Figure]:
    """Return requests and partitions with a long history, and their ratio to those with a hundredth of it."""
    short, long = (_count_all(size, console) for size in (max(arrivals // 100, 1), arrivals))
    figures: list[Figure] = []
    for what, count in long.items():
        before = short[what]
        figures.append(
            Figure(
                measurement=_NAME,
                name=f"{what}: requests, {arrivals:,} arrivals to {max(arrivals // 100, 1):,}",
                value=count.requests / before.requests,
                unit="x",
                goal=1.0,
                detail=f"{count.requests} requests in {count.partitions} partitions ({before.partitions} before)",
            )
        )
    return figures


def _count_all(size: int, console: Console) -> dict[str, _Count]:
    world = World(pipelines=make_pipelines(quiet=30, max_wait=60, max_files=_FILES_A_RUN))
    began = time.perf_counter()
    _write_history(world, size)
    console.print(f"{size:,} arrivals of history in {time.perf_counter() - began:.0f} s")
    world.clock.advance(timedelta(minutes=10))
    now = world.clock.now()
    fresh = [make_blob(f"now-{index}.parquet", sequencer=f"{index:048x}") for index in range(_FILES_A_RUN)]
    world.deliver(make_blob("now-first.parquet", sequencer="0"))  # what a process looks up once

    message = blob_message(fresh[0], at=now)

    def a_run() -> None:
        for blob in fresh[1:]:
            world.deliver(blob, at=now)
        world.clock.advance(timedelta(minutes=2))
        world.work()
        if len(world.databricks_runs()) < 2:  # that of the history, and this one
            raise RuntimeError(f"no run was started: {world.queue.messages}, {world.telemetry.spans[-1].fields}")

    def its_end() -> None:
        world.finish(world.databricks_runs()[1])
        world.clock.advance(timedelta(seconds=30))  # the confirmation is asked for a little later
        world.work()

    span = {"since": now - _SPAN, "until": now + timedelta(hours=1)}
    ledger = world.ledger
    return {
        "an arrival": _count(world, lambda: arrive(world.plane, message, is_first_try=True)),
        "a redelivery": _count(world, lambda: arrive(world.plane, message, is_first_try=True)),
        "a run of 100 files, arrivals included": _count(world, a_run),
        "its end": _count(world, its_end),
        "the newest 100 arrivals": _count(
            world, lambda: ledger.arrivals([SCORING], since=span["since"], until=span["until"], limit=_LISTED)
        ),
        "the newest 100 runs": _count(
            world, lambda: ledger.runs([SCORING], since=span["since"], until=span["until"], limit=_LISTED)
        ),
        "the versions of a path": _count(
            world, lambda: ledger.arrivals_of_path("tidegatelocal", "input", fresh[0].path)
        ),
        "a reconciler's pass": _count(world, lambda: reconcile(world.plane)),
    }


def _count(world: World, act: Callable[[], object]) -> _Count:
    world.tables.calls.counts.clear()
    world.tables.partitions.clear()
    began = time.perf_counter()
    act()
    return _Count(
        requests=world.tables.calls.counts.total(),
        partitions=len(world.tables.partitions),
        seconds=time.perf_counter() - began,
    )


def _write_history(world: World, size: int) -> None:
    """Put scored arrivals and their runs there, spread over a year; the rows share their values, which saves memory."""
    world.deliver(make_blob("history-0.parquet"))
    world.clock.advance(timedelta(minutes=2))
    world.settle_submissions()
    world.finish(world.databricks_runs()[0])
    world.settle()
    now = world.clock.now()
    (run,) = world.runs()
    arrival = world.arrival(make_blob("history-0.parquet"))
    scored = replace(arrival, state=ArrivalState.SCORED, history=(Change(state="scored", at=now),))
    row, run_row, empty = arrival_to_row(scored), run_to_row(run), dict[str, str | int | bool]()
    step = _SPAN / size
    for index in range(1, size):
        at: datetime = now - step * index
        blob = replace(arrival.blob, path=f"flights/new/history-{index}.parquet")
        partition, key = place_of(blob)
        world.tables.restore("arrivals", partition, key, row, "v")
        world.tables.restore("paths", partition, key.partition(".")[0], empty, "v")
        place = timeline_place(replace(arrival, blob=blob, recorded_at=at, id=type(arrival.id)(f"{index:064x}")))
        world.tables.restore("timeline", *place, {"partition": partition, "key": key}, "v")
        if index % _FILES_A_RUN == 0:
            run_id = RunId(f"{SCORING}-{at:%Y%m%dT%H%M%SZ}-{index:012x}")
            world.tables.restore("runs", *partition_of_run(run_id), {**run_row, "id": run_id}, "v")
