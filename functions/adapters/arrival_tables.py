"""Keeps arrivals, the index of held ones, and what was delivered again."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from functions.adapters.arrival_timeline import ArrivalTimeline
from functions.adapters.first_layout import FirstLayout
from functions.adapters.ledger_layout import CONSIGNMENTS, path_place, pending_bounds, pending_place, place_of
from functions.adapters.recent_arrivals import RecentArrivals
from functions.adapters.table_port import StoredRow, Tables, Write
from functions.core.errors import LedgerConflictError
from functions.core.ledger import Arrival, Run
from functions.core.ledger_rows import arrival_from_row, arrival_to_row
from functions.core.model import ArrivalSource, ArrivalState, BlobVersion, PipelineKey
from functions.core.reading import to_iso
from functions.ports import Entry, HeldArrival, LayoutStatus

__all__ = ["ArrivalTables"]

_CLOCKS_DIFFER_BY: Final = timedelta(hours=1)
_UNKNOWN_VERSION: Final = ""
_FIRST_DELIVERY_ENDS_WITHIN: Final = timedelta(minutes=2)  # else its message has failed, and is poison by then
_EVERY_VERSION: Final = 1_000_000  # of one path; the answer must not leave out the newest
_MOST_REDELIVERIES: Final = 1000  # of one version, or of all versions of a path
_COUNTED: Final = "+"


class ArrivalTables:
    """The part of `RunLedger` that is about arrivals.

    An entry's version has the count of redeliveries beside the row's own version, so that a write does not add the
    redeliveries, which have rows of their own, to the number in the arrival's row.
    """

    def __init__(self, tables: Tables) -> None:
        self._arrivals = tables.table("arrivals")
        self._pending = tables.table("pending")
        self._paths = tables.table("paths")
        self._redeliveries = tables.table("redeliveries")
        self._timeline = ArrivalTimeline(tables)
        self._recent = RecentArrivals()
        self._first_layout = FirstLayout(tables, self._timeline)

    def record_arrival(
        self, arrival: Arrival, *, is_first_try: bool = False
    ) -> tuple[Entry[Arrival], HeldArrival | None, bool]:
        """Return the arrival's entry, its index row if there is something to do, and whether this call made it."""
        place = place_of(arrival.blob)
        known = self._recent.get(place)
        if known is not None and is_first_try and _is_young(known.value, arrival):
            return self._count(place, known, arrival), None, False
        if arrival.state is ArrivalState.HELD and arrival.source is not ArrivalSource.EVENT:
            # No message repeats it, and its blob may be overwritten: who finds the index row alone writes the other.
            self._index(Entry(value=arrival, version=_UNKNOWN_VERSION))
        return self._record(arrival, is_first_try=is_first_try)

    def _record(self, arrival: Arrival, *, is_first_try: bool) -> tuple[Entry[Arrival], HeldArrival | None, bool]:
        place = place_of(arrival.blob)
        row = self._first_layout.bring(arrival.blob) or self._arrivals.insert_or_get(*place, arrival_to_row(arrival))
        if isinstance(row, StoredRow):
            return self._redeliver(row, arrival, is_first_try=is_first_try)
        entry = Entry(value=arrival, version=row)
        held = self._index(entry) if arrival.state is ArrivalState.HELD else None
        self._timeline.put(arrival)
        # Looked at after the arrival is written, so of two versions that arrive together at least one sees the other.
        is_known_path = isinstance(self._paths.insert_or_get(*_path_of(arrival.blob), {}), StoredRow)
        is_known_path = is_known_path or not self._first_layout.is_gone  # which has no such table
        self._recent.add(place, entry)
        return entry, None if held is None else replace(held, is_known_path=is_known_path), True

    def _redeliver(
        self, row: StoredRow, again: Arrival, *, is_first_try: bool
    ) -> tuple[Entry[Arrival], HeldArrival | None, bool]:
        """Count a redelivery in a row of its own, which disturbs nobody who is about to change the arrival.

        The first delivery may have died between the arrival and its index row. Then its own message comes back, as
        a later try; another message of the same event need not look after it, unless that was long ago.
        """
        first = arrival_from_row(row.values)
        entry = self._count((row.partition, row.key), Entry(value=first, version=row.version), again)
        if is_first_try and _is_young(first, again):
            return entry, None, False
        self._timeline.put(first)
        self._paths.put(*_path_of(first.blob), {})
        held = None
        if first.state is ArrivalState.HELD:
            held = self._index(Entry(value=first, version=row.version))
        return entry, held, False

    def _count(self, place: tuple[str, str], first: Entry[Arrival], again: Arrival) -> Entry[Arrival]:
        """Write one redelivery down; return the entry with it counted."""
        (partition, key), stamp = place, to_iso(again.recorded_at)
        self._redeliveries.put(partition, f"{key}.{stamp}.{uuid.uuid4().hex[:12]}", {"at": stamp})
        return Entry(value=first.value.redelivered(again.recorded_at), version=_version(first.version, counted=1))

    def _index(self, entry: Entry[Arrival]) -> HeldArrival:
        partition, key = pending_place(entry.value)
        row = {**arrival_to_row(entry.value), "arrival_version": entry.version}
        return HeldArrival(
            pipeline=PipelineKey(partition), entry=entry, key=key, index_version=self._pending.put(partition, key, row)
        )

    def get_arrival(self, blob: BlobVersion) -> Entry[Arrival] | None:
        """Return what is known of one version of one blob, its redeliveries counted."""
        row = self._find(blob)
        return None if row is None else self._counted(row, self._redelivered(row.partition, row.key))

    def get_arrivals(self, blobs: Sequence[BlobVersion]) -> list[Entry[Arrival] | None]:
        """Return what is known of each version, without counting redeliveries; one read each, several at a time."""
        rows = self._arrivals.get_many([place_of(blob) for blob in blobs])
        found = [row or self._first_layout.bring(blob) for row, blob in zip(rows, blobs, strict=True)]
        return [
            None if row is None else Entry(value=arrival_from_row(row.values), version=row.version) for row in found
        ]

    def arrivals_of_path(self, account: str, container: str, path: str) -> Sequence[Entry[Arrival]]:
        """Return every version of one path that ever arrived, in no particular order."""
        partition, path_hash = path_place(account, container, path)
        self._first_layout.bring_path(account, container, path)
        rows = list(self._arrivals.query(partition, low=f"{path_hash}.", high=f"{path_hash}/", limit=_EVERY_VERSION))
        counts = self._redelivered(partition, path_hash) if rows else {}
        return [self._counted(row, counts) for row in rows]

    def _find(self, blob: BlobVersion) -> StoredRow | None:
        return self._arrivals.get(*place_of(blob)) or self._first_layout.bring(blob)

    def _redelivered(self, partition: str, prefix: str) -> dict[str, int]:
        """Return how often each arrival whose key begins so was delivered again."""
        counts: dict[str, int] = {}
        for row in self._redeliveries.query(partition, low=f"{prefix}.", high=f"{prefix}/", limit=_MOST_REDELIVERIES):
            key = ".".join(row.key.split(".", 2)[:2])
            counts[key] = counts.get(key, 0) + 1
        return counts

    def _counted(self, row: StoredRow, counts: dict[str, int]) -> Entry[Arrival]:
        arrival, count = arrival_from_row(row.values), counts.get(row.key, 0)
        counted = replace(arrival, deliveries=arrival.deliveries + count)
        return Entry(value=counted, version=_version(row.version, counted=count))

    def update_arrival(self, entry: Entry[Arrival], arrival: Arrival) -> Entry[Arrival]:
        """Return the new entry; one that becomes held, or is moved, is put into the index before and after.

        Before, because a crash in between must leave an index row too many, never one too few; whoever looks in
        between sees that its arrival is only about to be held. After, because a writer that slept for long before the
        second write was given up by then, and its row removed.
        """
        was_held, is_held = (item.state is ArrivalState.HELD for item in (entry.value, arrival))
        is_moved = was_held and is_held and pending_place(entry.value) != pending_place(arrival)
        left = self._pending.get(*pending_place(entry.value)) if is_moved else None
        is_indexed = is_held and (is_moved or not was_held)
        if is_indexed:
            # The index must not let anyone claim the arrival before its own row says that it is held.
            own = replace(arrival, deliveries=arrival.deliveries - _opened(entry.version)[1])
            self._index(Entry(value=own, version=_UNKNOWN_VERSION))
        if arrival.pipeline != entry.value.pipeline:
            self._timeline.put(arrival)
        (updated,) = self.update_arrivals([(entry, arrival)])
        if updated is None:
            raise LedgerConflictError(f"arrival {arrival.blob.path!r}", "it changed since it was read")
        if is_indexed:
            self._index(updated)
        if left is not None:
            self._pending.delete(left.partition, left.key, left.version)
        return updated

    def update_arrivals(self, changes: Sequence[tuple[Entry[Arrival], Arrival]]) -> list[Entry[Arrival] | None]:
        """Return the new entry of each change, None where the entry has moved on."""
        by_partition: dict[str, list[tuple[int, Write, int]]] = {}
        for index, (entry, arrival) in enumerate(changes):
            partition, key = place_of(arrival.blob)
            own, counted = _opened(entry.version)
            row = arrival_to_row(replace(arrival, deliveries=arrival.deliveries - counted))
            by_partition.setdefault(partition, []).append((index, Write.replace(key, row, own), counted))
        updated: list[Entry[Arrival] | None] = [None] * len(changes)
        for partition, writes in by_partition.items():
            written = self._arrivals.write_many(partition, [write for _, write, _ in writes])
            for (index, _, counted), version in zip(writes, written, strict=True):
                if version is not None:
                    updated[index] = Entry(value=changes[index][1], version=_version(version, counted=counted))
        return updated

    def held_arrivals(
        self, pipeline: PipelineKey, *, limit: int, consignment: str | None = None
    ) -> Sequence[HeldArrival]:
        """Return the oldest rows of the pipeline's index, or of one consignment's, by event time."""
        held: list[HeldArrival] = []
        found: set[str] = set()
        low, high = pending_bounds(consignment)
        for row in self._pending.query(pipeline, low=low, high=high, limit=limit):
            values = dict(row.values)
            version = str(values.pop("arrival_version"))
            entry = Entry(value=arrival_from_row(values), version=version)
            announced_at = None
            if version == _UNKNOWN_VERSION:
                indexed, entry = entry.value, self._complete(entry.value)
                announced_at = None if _has_come_about(indexed, entry.value) else indexed.updated_at
            if entry.value.id not in found:  # its event may have come meanwhile, and indexed it at another time
                found.add(entry.value.id)
                held.append(
                    HeldArrival(
                        pipeline=pipeline,
                        entry=entry,
                        key=row.key,
                        index_version=row.version,
                        announced_at=announced_at,
                    )
                )
        return held

    def _complete(self, indexed: Arrival) -> Entry[Arrival]:
        """Return the arrival of an index row that was written first, and write it if that has not come about."""
        (known,) = self.get_arrivals([indexed.blob])
        if known is not None:
            return known
        entry, _, _ = self._record(indexed, is_first_try=False)
        return entry

    def next_consignment(self, pipeline: PipelineKey, *, after: str) -> tuple[str, str] | None:
        """Return a place in the index and the consignment that holds arrivals there, the next one after `after`."""
        for row in self._pending.query(pipeline, low=f"{after}/" if after else CONSIGNMENTS, limit=1):
            return row.key.partition(".")[0], arrival_from_row(row.values).consignment
        return None

    def note_held(self, held: HeldArrival, arrival: Arrival) -> None:
        """Write a new reason for waiting to the arrival and its index row."""
        (updated,) = self.update_arrivals([(held.entry, arrival)])
        if updated is not None:
            version, counted = _opened(updated.version)
            own = replace(updated.value, deliveries=updated.value.deliveries - counted)
            self._index(Entry(value=own, version=version))

    def forget_held(self, held: Sequence[HeldArrival]) -> None:
        """Remove index rows that are still at their versions."""
        by_partition: dict[str, list[Write]] = {}
        for item in held:
            by_partition.setdefault(item.pipeline, []).append(Write.delete(item.key, item.index_version))
        for partition, writes in by_partition.items():
            self._pending.write_many(partition, writes)

    def arrivals(
        self,
        pipelines: Sequence[PipelineKey | None],
        *,
        since: datetime,
        until: datetime,
        limit: int,
        where: Callable[[Arrival], bool] | None = None,
    ) -> Sequence[Arrival]:
        """Return arrivals of these pipelines (None: of none) recorded in [since, until), newest first."""
        return list(islice(self._timeline.newest(pipelines, since=since, until=until, where=where), limit))

    def arrivals_of_run(self, run: Run) -> Sequence[BlobVersion]:
        """Return the versions that a run got, from the index by time: for a run whose manifest is lost."""
        found = self._timeline.newest(
            [run.pipeline],
            since=run.cause.at - _CLOCKS_DIFFER_BY,
            until=run.created_at + _CLOCKS_DIFFER_BY,
            where=lambda arrival: arrival.run_id == run.id or arrival.id in run.arrivals,
        )
        return [arrival.blob for arrival in islice(found, run.arrival_count)]

    def layout_status(self) -> LayoutStatus:
        """Return whether every row is in the present layout."""
        return self._first_layout.status()

    def bring_up_to_date(self, *, limit: int) -> LayoutStatus:
        """Look at so many more rows of an earlier release and bring them up to date."""
        return self._first_layout.step(limit=limit)


def _has_come_about(indexed: Arrival, known: Arrival) -> bool:
    """Return whether the arrival was held as its index row says, which was written first; a new one always was.

    Of two who hold it at once the loser may write the row last: what is held there needs it, whoever it is by.
    """
    is_held_there = known.state is ArrivalState.HELD and pending_place(known) == pending_place(indexed)
    return is_held_there or len(indexed.history) < 2 or indexed.history[-1] in known.history  # noqa: PLR2004 - its first is its making


def _is_young(first: Arrival, again: Arrival) -> bool:
    """Return whether the first delivery may still be at work, or its message on its way back."""
    return timedelta(0) <= again.recorded_at - first.recorded_at < _FIRST_DELIVERY_ENDS_WITHIN


def _path_of(blob: BlobVersion) -> tuple[str, str]:
    return path_place(blob.account, blob.container, blob.path)


def _version(own: str, *, counted: int) -> str:
    """Return the version of an entry whose value counts so many redeliveries that its row does not."""
    return own if counted == 0 else f"{counted}{_COUNTED}{own}"


def _opened(version: str) -> tuple[str, int]:
    """Return the row's own version and how many redeliveries the entry counts beyond it."""
    count, separator, own = version.partition(_COUNTED)
    return (own, int(count)) if separator and count.isdecimal() else (version, 0)
