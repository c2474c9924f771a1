"""Lays the ledger out in tables, so that every read and write of the hot path names one partition.

    arrivals   partition account.container.shard of 16, key path hash + ETag hash      one row a version of a path
    pending    partition pipeline, key [consignment +] event time + arrival id         index of held arrivals
    runs       partition pipeline.yyyymm, key the rest of the run id                   one row a run, with its outbox
    open       partition "open", key run id                                            index of unfinished stories
    marks      partition by kind                                                       requests, slots, quarantined,
                                                                                       alerts, consignments, bookmarks,
                                                                                       the turnstile's one row

An index row is written before the row that needs it and removed after, so a crash in between leaves an index row
too many, never one too few; readers of an index know that.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from functions.adapters.arrival_marks import ArrivalMarks
from functions.adapters.tables import StoredRow, Tables
from functions.core.alerts import Alert, AlertKind
from functions.core.errors import InvalidDocumentError, LedgerConflictError, Problem
from functions.core.ledger import Arrival, Run
from functions.core.ledger_rows import arrival_from_row, arrival_to_row, run_from_row, run_to_row
from functions.core.model import ArrivalState, BlobVersion, DatabricksRunId, PipelineKey, RunId
from functions.core.reading import parse_utc, to_iso
from functions.core.rows import Row
from functions.core.tokens import partition_of_run
from functions.core.turnstile import Turnstile
from functions.core.turnstile_rows import turnstile_from_row, turnstile_to_row
from functions.ports import ClaimedRequest, Entry, HeldArrival, OpenRun, QuarantinedMessage

__all__ = ["TableLedger"]

_COUNTING_TRIES: Final = 5
_FIRST_WINDOW: Final = timedelta(hours=1)
_LONGEST_WINDOW: Final = timedelta(days=31)  # a partition is a month
_UNKNOWN_VERSION: Final = ""
_CONSIGNMENTS: Final = "c"  # begins the keys of held arrivals that belong to a consignment
_OPEN: Final = "open"
_TURNSTILE: Final = "turnstile"
_EVERYTHING: Final = 1_000_000
_MAX_REASON: Final = 8000
_LAST_SECOND: Final = 10**11 - 1


class TableLedger(ArrivalMarks):
    """Implements `RunLedger` on five tables."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables.table("marks"))
        self._arrivals = tables.table("arrivals")
        self._pending = tables.table("pending")
        self._runs = tables.table("runs")
        self._open = tables.table("open")

    def record_arrival(self, arrival: Arrival) -> tuple[Entry[Arrival], HeldArrival | None, bool]:
        """Return the arrival's entry, its index row if it is held, and whether this call made it."""
        partition, key = _place_of(arrival.blob)
        version = self._arrivals.insert(partition, key, arrival_to_row(arrival))
        if version is not None:
            entry = Entry(value=arrival, version=version)
        else:
            entry = self._count_redelivery(partition, key, arrival)
        # A first delivery may have died between the row and its index row, so a redelivery writes it again.
        held = self._index(entry) if entry.value.state is ArrivalState.HELD else None
        return entry, held, version is not None

    def _count_redelivery(self, partition: str, key: str, arrival: Arrival) -> Entry[Arrival]:
        for _ in range(_COUNTING_TRIES):
            row = self._arrivals.get(partition, key)
            if row is None:  # retention removed it between the two requests
                break
            counted = arrival_from_row(row.values).redelivered(arrival.recorded_at)
            version = self._arrivals.replace(partition, key, arrival_to_row(counted), row.version)
            if version is not None:
                return Entry(value=counted, version=version)
        raise LedgerConflictError(f"recording {arrival.blob.path!r}", "the entry kept changing")

    def _index(self, entry: Entry[Arrival]) -> HeldArrival:
        partition, key = _pending_place_of(entry.value)
        row = {**arrival_to_row(entry.value), "arrival_version": entry.version}
        return HeldArrival(
            pipeline=PipelineKey(partition), entry=entry, key=key, index_version=self._pending.put(partition, key, row)
        )

    def get_arrival(self, blob: BlobVersion) -> Entry[Arrival] | None:
        """Return what is known of one version of one blob."""
        row = self._arrivals.get(*_place_of(blob))
        return None if row is None else _arrival_entry(row)

    def arrivals_of_path(self, account: str, container: str, path: str) -> Sequence[Entry[Arrival]]:
        """Return every version of one path that ever arrived, in no particular order."""
        partition, path_hash = _path_place(account, container, path)
        rows = self._arrivals.query(partition, low=f"{path_hash}.", high=f"{path_hash}/", limit=1000)
        return [_arrival_entry(row) for row in rows]

    def update_arrival(self, entry: Entry[Arrival], arrival: Arrival) -> Entry[Arrival]:
        """Return the new entry; one that becomes held, or is moved, is put into the index first."""
        was_held, is_held = (item.state is ArrivalState.HELD for item in (entry.value, arrival))
        is_moved = was_held and is_held and _pending_place_of(entry.value) != _pending_place_of(arrival)
        left = self._pending.get(*_pending_place_of(entry.value)) if is_moved else None
        if is_held and (is_moved or not was_held):
            # The index must not let anyone claim the arrival before its own row says that it is held.
            self._index(Entry(value=arrival, version=_UNKNOWN_VERSION))
        (updated,) = self.update_arrivals([(entry, arrival)])
        if updated is None:
            raise LedgerConflictError(f"arrival {arrival.blob.path!r}", "it changed since it was read")
        if left is not None:
            self._pending.delete(left.partition, left.key, left.version)
        return updated

    def update_arrivals(self, changes: Sequence[tuple[Entry[Arrival], Arrival]]) -> list[Entry[Arrival] | None]:
        """Return the new entry of each change, None where the entry has moved on."""
        by_partition: dict[str, list[int]] = {}
        places = [_place_of(arrival.blob) for _, arrival in changes]
        for index, (partition, _) in enumerate(places):
            by_partition.setdefault(partition, []).append(index)
        updated: list[Entry[Arrival] | None] = [None] * len(changes)
        for partition, indices in by_partition.items():
            rows = [(places[at][1], arrival_to_row(changes[at][1]), changes[at][0].version) for at in indices]
            for at, version in zip(indices, self._arrivals.replace_many(partition, rows), strict=True):
                updated[at] = None if version is None else Entry(value=changes[at][1], version=version)
        return updated

    def held_arrivals(
        self, pipeline: PipelineKey, *, limit: int, consignment: str | None = None
    ) -> Sequence[HeldArrival]:
        """Return the oldest rows of the pipeline's index, or of one consignment's, by event time."""
        held: list[HeldArrival] = []
        low, high = _pending_bounds(consignment)
        for row in self._pending.query(pipeline, low=low, high=high, limit=limit):
            values = dict(row.values)
            version = str(values.pop("arrival_version"))
            entry: Entry[Arrival] | None = Entry(value=arrival_from_row(values), version=version)
            if version == _UNKNOWN_VERSION:
                entry = self.get_arrival(arrival_from_row(values).blob)
            if entry is not None:
                held.append(HeldArrival(pipeline=pipeline, entry=entry, key=row.key, index_version=row.version))
        return held

    def next_consignment(self, pipeline: PipelineKey, *, after: str) -> tuple[str, str] | None:
        """Return a place in the index and the consignment that holds arrivals there, the next one after `after`."""
        for row in self._pending.query(pipeline, low=f"{after}/" if after else _CONSIGNMENTS, limit=1):
            return row.key.partition(".")[0], arrival_from_row(row.values).consignment
        return None

    def note_held(self, held: HeldArrival, arrival: Arrival) -> None:
        """Write a new reason for waiting to the arrival and its index row."""
        (updated,) = self.update_arrivals([(held.entry, arrival)])
        if updated is not None:
            self._index(updated)

    def forget_held(self, held: Sequence[HeldArrival]) -> None:
        """Remove index rows that are still at their versions."""
        by_partition: dict[str, list[tuple[str, str]]] = {}
        for item in held:
            by_partition.setdefault(item.pipeline, []).append((item.key, item.index_version))
        for partition, rows in by_partition.items():
            self._pending.delete_many(partition, rows)

    def insert_run(self, run: Run) -> tuple[Entry[Run], bool]:
        """Return the run's entry and whether this call made it; the first writer wins."""
        # Opened first: a crash before the next line leaves an index row that the reconciler finds empty.
        opened = self._open.insert(_OPEN, run.id, _open_row(run))
        version = self._runs.insert(*partition_of_run(run.id), run_to_row(run))
        if version is not None:
            return Entry(value=run, version=version), True
        existing = self.get_run(run.id)
        if existing is None:
            raise LedgerConflictError(f"run {run.id!r}", "it was there and is gone")
        if opened is not None and existing.value.is_story_over:
            self._open.delete(_OPEN, run.id, opened)  # only the row that this call wrote, not that of a retry
        return existing, False

    def get_run(self, run_id: RunId) -> Entry[Run] | None:
        """Return a run, or None."""
        row = self._runs.get(*partition_of_run(run_id))
        return None if row is None else Entry(value=run_from_row(row.values), version=row.version)

    def update_run(self, entry: Entry[Run], run: Run) -> Entry[Run]:
        """Return the new entry; keeps the index of open runs in step."""
        closes = run.is_story_over and not entry.value.is_story_over
        is_reopened = entry.value.is_story_over and not run.is_story_over
        if is_reopened or (run.is_cancel_wanted and not entry.value.is_cancel_wanted and not run.is_story_over):
            self._open.put(_OPEN, run.id, _open_row(run))  # first, so that the reconciler will look at it
        # Read before the write: a retry that reopens the run after it changes the index row, which then stays.
        opened = self._open.get(_OPEN, run.id) if closes else None
        version = self._runs.replace(*partition_of_run(run.id), run_to_row(run), entry.version)
        if version is None:
            raise LedgerConflictError(f"run {run.id!r}", "it changed since it was read")
        if opened is not None:
            self._open.delete(_OPEN, run.id, opened.version)
        elif _hint(run) not in {None, _hint(entry.value)} and not run.is_story_over:
            # The reconciler need not read the rows of runs that Databricks lists as active. If the run is closed in
            # between, this leaves an index row too many, which the reconciler removes.
            self._open.put(_OPEN, run.id, _open_row(run))
        return Entry(value=run, version=version)

    def open_runs(self, pipeline: PipelineKey | None = None) -> Iterator[OpenRun]:
        """Yield runs, of one pipeline or all, that have not ended or are not announced yet."""
        bounds = ("", None) if pipeline is None else (f"{pipeline}-", f"{pipeline}.")  # "." follows "-"
        for row in self._open.query(_OPEN, low=bounds[0], high=bounds[1], limit=_EVERYTHING):
            hint = row.values.get("databricks_run_id")
            yield OpenRun(
                run_id=RunId(row.key),
                opened_at=_instant(row, "opened_at"),
                databricks_run_id=None if hint is None else DatabricksRunId(int(str(hint))),
                version=row.version,
            )

    def forget_open(self, run: OpenRun) -> None:
        """Remove an index row whose run is over, or was never made."""
        self._open.delete(_OPEN, run.run_id, run.version)

    def runs(
        self,
        pipelines: Sequence[PipelineKey],
        *,
        since: datetime,
        until: datetime,
        limit: int,
        where: Callable[[Run], bool] | None = None,
    ) -> Sequence[Run]:
        """Return runs of these pipelines whose cause lies in [since, until), newest first."""
        found = [run for pipeline in pipelines for run in self._newest_runs(pipeline, since, until, limit, where)]
        return sorted(found, key=lambda run: (run.cause.at, run.id), reverse=True)[:limit]

    def _newest_runs(
        self,
        pipeline: PipelineKey,
        since: datetime,
        until: datetime,
        limit: int,
        where: Callable[[Run], bool] | None,
    ) -> list[Run]:
        """Return the newest runs of a pipeline, reading backwards in windows that double while they stay empty."""
        found: list[Run] = []
        end, width = until, _FIRST_WINDOW
        while end > since and len(found) < limit:
            start = max(since, end - width, _month_of(end - timedelta(microseconds=1)))
            rows = self._runs.query(
                f"{pipeline}.{start:%Y%m}",
                low=f"{start:%Y%m%dT%H%M%SZ}",
                high=f"{_ceil(end):%Y%m%dT%H%M%SZ}",
                limit=_EVERYTHING,
            )
            window = [run_from_row(row.values) for row in rows]
            found += [run for run in window if start <= run.cause.at < end and (where is None or where(run))]
            end, width = start, min(width * 2, _LONGEST_WINDOW)
        return found

    def arrivals(
        self,
        pipelines: Sequence[PipelineKey | None],
        *,
        since: datetime,
        until: datetime,
        limit: int,
        where: Callable[[Arrival], bool] | None = None,
    ) -> Sequence[Arrival]:
        """Return arrivals of these pipelines recorded in [since, until), newest first."""
        rows = self._arrivals.scan("recorded_at", to_iso(since), limit=_EVERYTHING)
        found = sorted((arrival_from_row(row.values) for row in rows), key=lambda arrival: arrival.recorded_at)
        wanted = (arrival for arrival in found[::-1] if arrival.recorded_at < until and arrival.pipeline in pipelines)
        return [arrival for arrival in wanted if where is None or where(arrival)][:limit]

    def claim_request(self, request: ClaimedRequest) -> ClaimedRequest:
        """Return the request that was first made under this id."""
        key = sha256(request.request_id.encode()).hexdigest()
        row: Row = {
            "request_id": request.request_id,
            "requested_at": to_iso(request.requested_at),
            "fingerprint": request.fingerprint,
        }
        partition = f"request.{key[:2]}"
        if self._marks.insert(partition, key, row) is not None:
            return request
        first = self._marks.get(partition, key)
        if first is None:
            raise LedgerConflictError("claiming a request", "it was there and is gone")
        return ClaimedRequest(
            request_id=str(first.values["request_id"]),
            requested_at=_instant(first, "requested_at"),
            fingerprint=str(first.values["fingerprint"]),
        )

    def last_slot(self, pipeline: PipelineKey, schedule: str) -> datetime | None:
        """Return the last slot of a schedule that was dealt with, or None before the first."""
        row = self._marks.get("slot", f"{pipeline}.{schedule}")
        return None if row is None else _instant(row, "slot")

    def note_slot(self, pipeline: PipelineKey, schedule: str, slot: datetime, note: str) -> None:
        """Remember that this slot and those before it were dealt with, and how."""
        key, values = f"{pipeline}.{schedule}", Row({"slot": to_iso(slot), "note": note[:_MAX_REASON]})
        row = self._marks.get("slot", key)
        if row is None:
            is_noted = self._marks.insert("slot", key, values) is not None
        else:
            is_noted = (
                _instant(row, "slot") >= slot or self._marks.replace("slot", key, values, row.version) is not None
            )
        if not is_noted:
            raise LedgerConflictError(f"noting a slot of {pipeline!r}", "another instance notes one too")

    def read_turnstile(self) -> Entry[Turnstile]:
        """Return the turnstile as it stands; before the first write it is empty."""
        row = self._marks.get(_TURNSTILE, _TURNSTILE)
        if row is None:
            return Entry(value=Turnstile(), version=_UNKNOWN_VERSION)
        return Entry(value=turnstile_from_row(row.values), version=row.version)

    def update_turnstile(self, entry: Entry[Turnstile], turnstile: Turnstile) -> Entry[Turnstile]:
        """Return the new entry."""
        row = turnstile_to_row(turnstile)
        if entry.version == _UNKNOWN_VERSION:
            version = self._marks.insert(_TURNSTILE, _TURNSTILE, row)
        else:
            version = self._marks.replace(_TURNSTILE, _TURNSTILE, row, entry.version)
        if version is None:
            raise LedgerConflictError("the turnstile", "it changed since it was read")
        return Entry(value=turnstile, version=version)

    def take_back_slot(self, pipeline: PipelineKey, schedule: str, noted: datetime, slot: datetime, note: str) -> None:
        """Remember `slot` instead of the later one that a wrong clock noted."""
        key, row = f"{pipeline}.{schedule}", self._marks.get("slot", f"{pipeline}.{schedule}")
        if row is not None and _instant(row, "slot") == noted:
            self._marks.replace("slot", key, Row({"slot": to_iso(slot), "note": note[:_MAX_REASON]}), row.version)

    def record_quarantined(self, message: QuarantinedMessage) -> None:
        """Keep where a message went that could not be understood."""
        row: Row = {
            "id": message.id,
            "queue": message.queue,
            "at": to_iso(message.at),
            "reason": message.reason[:_MAX_REASON],
            "url": message.url,
        }
        self._marks.insert("quarantined", f"{_newest_first(message.at)}.{message.id}", row)

    def quarantined(self, *, limit: int) -> Sequence[QuarantinedMessage]:
        """Return quarantined messages, newest first."""
        return [
            QuarantinedMessage(
                id=str(row.values["id"]),
                queue=str(row.values["queue"]),
                at=_instant(row, "at"),
                reason=str(row.values["reason"]),
                url=str(row.values["url"]),
            )
            for row in self._marks.query("quarantined", limit=limit)
        ]

    def record_alert(self, alert: Alert) -> None:
        """Keep what a person must look at."""
        row: Row = {
            "kind": alert.kind.value,
            "run_id": alert.run_id,
            "attempt": alert.attempt,
            "at": to_iso(alert.at),
            "detail": alert.detail[:_MAX_REASON],
        }
        self._marks.put("alert", f"{_newest_first(alert.at)}.{alert.id}", row)

    def alerts(self, *, since: datetime, limit: int) -> Sequence[Alert]:
        """Return alerts raised since then, newest first, each id once."""
        found: dict[str, Alert] = {}
        for row in self._marks.query("alert", high=f"{_newest_first(since)}/", limit=limit):
            if (kind := str(row.values["kind"])) not in AlertKind:
                continue  # a later version's
            alert = Alert(
                kind=AlertKind(kind),
                run_id=RunId(str(row.values["run_id"])),
                attempt=int(str(row.values["attempt"])),
                at=_instant(row, "at"),
                detail=str(row.values["detail"]),
            )
            found.setdefault(alert.id, alert)
        return list(found.values())


def _path_place(account: str, container: str, path: str) -> tuple[str, str]:
    """Return the partition of a path and the first part of its rows' keys."""
    digest = sha256(path.encode()).hexdigest()
    return f"{account}.{container}.{digest[0]}", digest[1:41]


def _place_of(blob: BlobVersion) -> tuple[str, str]:
    partition, path_hash = _path_place(blob.account, blob.container, blob.path)
    return partition, f"{path_hash}.{sha256(blob.etag.encode()).hexdigest()[:24]}"


def _pending_place_of(arrival: Arrival) -> tuple[str, str]:
    if arrival.pipeline is None:
        raise ValueError(f"arrival {arrival.id!r} has no pipeline to be held for")
    # Times begin with a digit, so arrivals without a consignment come first, and each consignment's are together.
    group = f"{_consignment_key(arrival.consignment)}." if arrival.consignment else ""
    return arrival.pipeline, f"{group}{to_iso(arrival.event_time)}.{arrival.id[:32]}"


def _pending_bounds(consignment: str | None) -> tuple[str, str | None]:
    """Return where arrivals are in their pipeline's index: all, those without a consignment, or one's."""
    if consignment is None:
        return "", None
    if not consignment:
        return "", _CONSIGNMENTS
    key = _consignment_key(consignment)
    return f"{key}.", f"{key}/"  # "/" follows "."


def _consignment_key(consignment: str) -> str:
    return f"{_CONSIGNMENTS}{sha256(consignment.encode()).hexdigest()[:24]}"


def _arrival_entry(row: StoredRow) -> Entry[Arrival]:
    return Entry(value=arrival_from_row(row.values), version=row.version)


def _instant(row: StoredRow, name: str) -> datetime:
    instant = parse_utc(str(row.values.get(name)))
    if instant is None:
        raise InvalidDocumentError([Problem(f"{row.partition}/{row.key}.{name}", "no time", "an ISO 8601 time")])
    return instant


def _open_row(run: Run) -> Row:
    row: Row = {"opened_at": to_iso(run.began_at)}
    if (hint := _hint(run)) is not None:
        row["databricks_run_id"] = str(hint)
    return row


def _hint(run: Run) -> DatabricksRunId | None:
    """Return the Databricks run whose being active says enough of the run: none if that is to be cancelled."""
    return None if run.is_cancel_wanted else run.databricks_run_id


def _month_of(instant: datetime) -> datetime:
    return instant.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _ceil(instant: datetime) -> datetime:
    """Return the next whole second, because run ids have whole seconds and windows must not lose one."""
    return instant.replace(microsecond=0) + timedelta(seconds=1)


def _newest_first(instant: datetime) -> str:
    """Return a key whose order is the reverse of time."""
    return f"{_LAST_SECOND - int(instant.timestamp()):011d}"
