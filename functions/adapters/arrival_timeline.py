"""Keeps the index of arrivals by time, one partition a pipeline and month, the newest first."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from functions.adapters.ledger_layout import newest_first, place_of, timeline_partition, timeline_place
from functions.adapters.table_port import StoredRow, Tables
from functions.core.ledger import Arrival
from functions.core.ledger_rows import arrival_from_row
from functions.core.model import PipelineKey

__all__ = ["ArrivalTimeline"]

_READ_AT_A_TIME: Final = 100


class ArrivalTimeline:
    """Rows that say where the arrivals of a time are; what became of them, the arrivals themselves say."""

    def __init__(self, tables: Tables) -> None:
        self._timeline = tables.table("timeline")
        self._arrivals = tables.table("arrivals")

    def put(self, arrival: Arrival) -> None:
        """Write an arrival's row; writing it again changes nothing."""
        partition, key = place_of(arrival.blob)
        self._timeline.put(*timeline_place(arrival), {"partition": partition, "key": key})

    def newest(
        self,
        pipelines: Sequence[PipelineKey | None],
        *,
        since: datetime,
        until: datetime,
        where: Callable[[Arrival], bool] | None,
    ) -> Iterator[Arrival]:
        """Yield the pipelines' arrivals recorded in [since, until), newest first, reading as they are taken."""
        found = (self._of_pipeline(pipeline, since, until) for pipeline in pipelines)
        for arrival in heapq.merge(*found, key=lambda arrival: arrival.recorded_at, reverse=True):
            if where is None or where(arrival):
                yield arrival

    def _of_pipeline(self, pipeline: PipelineKey | None, since: datetime, until: datetime) -> Iterator[Arrival]:
        for partition, first, high in _months(pipeline, since, until):
            low = first
            while rows := list(self._timeline.query(partition, low=low, high=high, limit=_READ_AT_A_TIME)):
                found = self._arrivals.get_many([_place_in(row) for row in rows])
                arrivals = [arrival_from_row(row.values) for row in found if row is not None]
                # A replay may have given an arrival to another pipeline, whose index has it too.
                yield from (arrival for arrival in arrivals if arrival.pipeline == pipeline)
                if len(rows) < _READ_AT_A_TIME:
                    break
                low = f"{rows[-1].key}\x21"  # the first key after it that text can have


def _months(pipeline: PipelineKey | None, since: datetime, until: datetime) -> Iterator[tuple[str, str, str]]:
    """Yield partition and bounds of keys of each month in [since, until), the newest first."""
    end = until
    while end > since:
        start = max(since, (end - timedelta(microseconds=1)).replace(day=1, hour=0, minute=0, second=0, microsecond=0))
        # Keys fall as time rises: of times before `end` they are greater than `end`'s own.
        yield timeline_partition(pipeline, start), f"{newest_first(end)}/", f"{newest_first(start)}/"
        end = start


def _place_in(row: StoredRow) -> tuple[str, str]:
    return str(row.values["partition"]), str(row.values["key"])
