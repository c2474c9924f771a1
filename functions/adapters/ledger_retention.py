"""Removes what was settled long ago, a bounded number of rows at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from functions.adapters.arrival_marks import ArrivalMarks
from functions.adapters.ledger_layout import newest_first, timeline_partition
from functions.adapters.table_port import StoredRow, Tables, Write
from functions.core.ledger import Run
from functions.core.ledger_rows import arrival_from_row, run_from_row
from functions.core.model import ArrivalState, PipelineKey
from functions.core.rows import Row

__all__ = ["LedgerRetention"]

_MARKS: Final = "retention"
_OLDEST: Final = timedelta(days=10 * 366)  # nothing is older than the first ledger
_MONTHS_A_STEP: Final = 24  # of which most are empty at the first step
_MOST_REDELIVERIES: Final = 1000
_SETTLED: Final = frozenset({ArrivalState.SCORED, ArrivalState.FAILED, ArrivalState.IGNORED, ArrivalState.SUPERSEDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cursor:
    """Where the walk over a pipeline's months is."""

    month: datetime
    after: str = ""  # the last row of the month's timeline that was looked at
    left: datetime | None = None  # the first month in which something was left, where the next walk begins


class LedgerRetention:
    """Walks over the months of a pipeline, oldest first, and remembers in the ledger how far it came.

    The index rows go last, so a crash leaves an index row without its arrival, which the next walk removes. A row
    that changed since it was read stays. Known paths stay: a path that comes again is then looked at with care.
    """

    def __init__(self, tables: Tables) -> None:
        self._arrivals = tables.table("arrivals")
        self._redeliveries = tables.table("redeliveries")
        self._timeline = tables.table("timeline")
        self._runs = tables.table("runs")
        self._marks = tables.table("marks")
        self._consignments = ArrivalMarks(self._marks)

    def forget(self, pipeline: PipelineKey | None, *, before: datetime, limit: int) -> int:
        """Look at so many arrivals and runs that are older; return how many were removed.

        Never what is open or held, and nothing that was changed since.
        """
        name = pipeline or "-"
        mark = self._marks.get(_MARKS, name)
        cursor = _first_month(before) if mark is None else _cursor_in(mark)
        removed = looked = 0
        for _ in range(_MONTHS_A_STEP):
            wanted = limit - looked
            rows = self._older(pipeline, cursor, before, wanted)
            gone, is_left = self._forget_arrivals(rows, before)
            removed, looked = removed + gone, looked + len(rows)
            if rows:
                cursor = replace(cursor, after=rows[-1].key)
            if len(rows) < wanted:  # the month's arrivals are through
                gone, runs_left, is_more = self._forget_runs(pipeline, cursor.month, before, wanted - len(rows))
                removed, looked, is_left = removed + gone, looked + gone, is_left or runs_left
            else:
                is_more = True
            if is_left and cursor.left is None:
                cursor = replace(cursor, left=cursor.month)
            if is_more:
                break
            if cursor.month >= _month_of(before):
                cursor = _Cursor(month=cursor.left or cursor.month)  # a new walk, from where something was left
                break
            cursor = _Cursor(month=_next_month(cursor.month), left=cursor.left)
        self._remember(name, mark, cursor)
        return removed

    def _older(self, pipeline: PipelineKey | None, cursor: _Cursor, before: datetime, limit: int) -> list[StoredRow]:
        low = f"{newest_first(before)}/"
        if cursor.after:
            low = max(low, f"{cursor.after}!")
        return list(self._timeline.query(timeline_partition(pipeline, cursor.month), low=low, limit=limit))

    def _forget_arrivals(self, index: Sequence[StoredRow], before: datetime) -> tuple[int, bool]:
        """Return how many arrivals were removed, and whether any was left."""
        places = [(str(row.values["partition"]), str(row.values["key"])) for row in index]
        removed, is_left = 0, False
        over: list[StoredRow] = []
        for row, found in zip(index, self._arrivals.get_many(places), strict=True):
            if found is not None:
                arrival = arrival_from_row(found.values)
                if arrival.state not in _SETTLED or arrival.updated_at >= before:
                    is_left = True
                    continue
                self._forget_redeliveries(found)
                self._arrivals.delete(found.partition, found.key, found.version)
                removed += 1
            over.append(row)
        for partition, rows in _by_partition(over):
            self._timeline.write_many(partition, [Write.delete(row.key, row.version) for row in rows])
        return removed, is_left

    def _forget_redeliveries(self, arrival: StoredRow) -> None:
        rows = self._redeliveries.query(
            arrival.partition, low=f"{arrival.key}.", high=f"{arrival.key}/", limit=_MOST_REDELIVERIES
        )
        self._redeliveries.write_many(arrival.partition, [Write.delete(row.key) for row in rows])

    def _forget_runs(
        self, pipeline: PipelineKey | None, month: datetime, before: datetime, limit: int
    ) -> tuple[int, bool, bool]:
        """Return how many runs were removed, whether any was left, and whether there are more to look at now."""
        if pipeline is None:
            return 0, False, False
        partition = f"{pipeline}.{month:%Y%m}"
        rows = list(self._runs.query(partition, high=f"{before:%Y%m%dT%H%M%SZ}", limit=limit))
        over = [row for row in rows if _is_over(row, before)]
        for row in over:
            self._note_frozen(run_from_row(row.values))
        self._runs.write_many(partition, [Write.delete(row.key, row.version) for row in over])
        return len(over), len(over) < len(rows), len(rows) == limit and bool(over)

    def _note_frozen(self, run: Run) -> None:
        """Have the run's consignment say that it is frozen, if a crash has left that to the run's entry."""
        entry = self._consignments.consignment(run.pipeline, run.consignment) if run.consignment else None
        if entry is not None and entry.value.run_id == run.id and not entry.value.is_frozen:
            self._consignments.move_consignment(entry, replace(entry.value, is_frozen=True))

    def _remember(self, name: str, mark: StoredRow | None, cursor: _Cursor) -> None:
        row: Row = {
            "month": f"{cursor.month:%Y%m}",
            "after": cursor.after,
            "left": "" if cursor.left is None else f"{cursor.left:%Y%m}",
        }
        if mark is None:
            self._marks.insert(_MARKS, name, row)
        elif dict(mark.values) != row:
            self._marks.replace(_MARKS, name, row, mark.version)


def _is_over(row: StoredRow, before: datetime) -> bool:
    run = run_from_row(row.values)
    return run.is_story_over and run.updated_at < before


def _by_partition(rows: Sequence[StoredRow]) -> Iterator[tuple[str, list[StoredRow]]]:
    for partition in dict.fromkeys(row.partition for row in rows):
        yield partition, [row for row in rows if row.partition == partition]


def _cursor_in(mark: StoredRow) -> _Cursor:
    left = str(mark.values["left"])
    return _Cursor(
        month=_month_in(str(mark.values["month"])),
        after=str(mark.values["after"]),
        left=_month_in(left) if left else None,
    )


def _first_month(before: datetime) -> _Cursor:
    return _Cursor(month=_month_of(before - _OLDEST))


def _month_in(text: str) -> datetime:
    return datetime(int(text[:4]), int(text[4:]), 1, tzinfo=UTC)


def _month_of(instant: datetime) -> datetime:
    return instant.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _next_month(month: datetime) -> datetime:
    return _month_of(month + timedelta(days=32))
