"""Keeps the ledger in tables: runs, their index and marks here, arrivals in `arrival_tables`.

Where each thing is, `ledger_layout` says. An index row is written before the row that needs it or, where a
redelivery makes up for it, right after it, and is removed after the row; so a crash in between leaves an index row
too many, never one too few, and readers of an index know that.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from functions.adapters.arrival_marks import ArrivalMarks
from functions.adapters.arrival_tables import ArrivalTables
from functions.adapters.ledger_retention import LedgerRetention
from functions.adapters.side_retention import SideRetention
from functions.adapters.table_port import StoredRow, Tables
from functions.core.alerts import Alert, AlertKind
from functions.core.errors import InvalidDocumentError, LedgerConflictError, Problem
from functions.core.ledger import Run
from functions.core.ledger_rows import run_from_row, run_to_row
from functions.core.model import DatabricksRunId, PipelineKey, RunId
from functions.core.reading import parse_utc, to_iso
from functions.core.rows import Row
from functions.core.tokens import partition_of_run
from functions.core.turnstile import Turnstile
from functions.core.turnstile_rows import turnstile_from_row, turnstile_to_row
from functions.ports import ClaimedRequest, Entry, NotedSlot, OpenRun, QuarantinedMessage

__all__ = ["TableLedger"]

_FIRST_WINDOW: Final = timedelta(hours=1)
_LONGEST_WINDOW: Final = timedelta(days=31)  # a partition is a month
_UNKNOWN_VERSION: Final = ""
_OPEN: Final = "open"
_TURNSTILE: Final = "turnstile"
_EVERYTHING: Final = 1_000_000
_MAX_REASON: Final = 8000
_LAST_SECOND: Final = 10**11 - 1


class TableLedger(ArrivalTables, ArrivalMarks):
    """Implements `RunLedger`."""

    def __init__(self, tables: Tables) -> None:
        ArrivalTables.__init__(self, tables)
        ArrivalMarks.__init__(self, tables.table("marks"))
        self._retention = LedgerRetention(tables)
        self._beside = SideRetention(tables)
        self._runs = tables.table("runs")
        self._open = tables.table("open")

    def insert_run(self, run: Run) -> tuple[Entry[Run], bool]:
        """Return the run's entry and whether this call made it; the first writer wins."""
        # Opened first: a crash before the next line leaves an index row that the reconciler finds empty.
        opened = self._open.insert(_OPEN, run.id, _open_row(run, at=run.began_at))
        if opened is None:
            # A writer that died long ago left it: as of now, so that the reconciler does not take it for a leftover.
            self._refresh_open(run)
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
        # A row of a story that goes on says after which version of the run: it is no leftover of the end before.
        reopened = _open_row(run, at=run.updated_at, reopens=entry.version) if is_reopened else None
        is_cancel_news = run.is_cancel_wanted and not entry.value.is_cancel_wanted and not run.is_story_over
        if reopened is not None or is_cancel_news:  # first, so that the reconciler will look at it
            self._open.put(_OPEN, run.id, reopened or _open_row(run, at=run.began_at))
        has_news = not is_reopened and _hint(run) not in {None, _hint(entry.value)} and not run.is_story_over
        # Read before the write: a retry that reopens the run after it changes the index row, which then stays, as
        # does a wish to cancel it.
        opened = self._open.get(_OPEN, run.id) if closes or has_news else None
        version = self._runs.replace(*partition_of_run(run.id), run_to_row(run), entry.version)
        if version is None:
            raise LedgerConflictError(f"run {run.id!r}", "it changed since it was read")
        if opened is not None and closes:
            self._open.delete(_OPEN, run.id, opened.version)
        elif reopened is not None:
            # Again: who saw the first row before the run was written may have taken it for a leftover, and removed it.
            self._open.put(_OPEN, run.id, reopened)
        elif opened is not None:
            # The reconciler need not read the rows of runs that Databricks lists as active.
            self._open.replace(_OPEN, run.id, _open_row(run, at=run.began_at), opened.version)
        return Entry(value=run, version=version)

    def _refresh_open(self, run: Run) -> None:
        """Renew the index row of a run that is about to be written; of one that is there, the row is as it must be."""
        if self.get_run(run.id) is None:
            self._open.put(_OPEN, run.id, _open_row(run, at=run.began_at))

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
                reopens=str(row.values.get("reopens", "")),
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

    def forget_before(self, pipeline: PipelineKey | None, *, before: datetime, limit: int) -> int:
        """Look at so many arrivals and runs that are older, remove those that are settled; return how many.

        What belongs to no pipeline, as requests, signals and alerts, goes with the arrivals of none.
        """
        beside = 0 if pipeline is not None else self._beside.forget(before=before, limit=limit)
        return beside + self._retention.forget(pipeline, before=before, limit=limit)

    def claim_request(self, request: ClaimedRequest) -> ClaimedRequest:
        """Return the request that was first made under this id."""
        key = sha256(request.request_id.encode()).hexdigest()
        row: Row = {
            "request_id": request.request_id,
            "requested_at": to_iso(request.requested_at),
            "fingerprint": request.fingerprint,
        }
        if request.run_id is not None:
            row["run_id"] = request.run_id
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
            run_id=None if first.values.get("run_id") is None else RunId(str(first.values["run_id"])),
        )

    def last_slot(self, pipeline: PipelineKey, schedule: str) -> NotedSlot | None:
        """Return the last slot of a schedule that was dealt with, or None before the first."""
        row = self._marks.get("slot", f"{pipeline}.{schedule}")
        return None if row is None else _noted_slot(row)

    def note_slot(self, pipeline: PipelineKey, schedule: str, noted: NotedSlot, note: str) -> None:
        """Remember that this slot and those before it were dealt with, and how."""
        key, values = f"{pipeline}.{schedule}", _slot_row(noted, note)
        row = self._marks.get("slot", key)
        if row is None:
            is_noted = self._marks.insert("slot", key, values) is not None
        else:
            before = _noted_slot(row)
            is_there = before.slot > noted.slot or before == noted
            is_noted = is_there or self._marks.replace("slot", key, values, row.version) is not None
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
        if row is not None and (before := _noted_slot(row)).slot == noted:
            self._marks.replace("slot", key, _slot_row(replace(before, slot=slot), note), row.version)

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
            "pipeline": alert.pipeline,
            "at": to_iso(alert.at),
            "detail": alert.detail[:_MAX_REASON],
        }
        if alert.run_id is not None:
            row |= {"run_id": alert.run_id, "attempt": alert.attempt or 0}
        self._marks.put("alert", f"{_newest_first(alert.at)}.{alert.id}", row)

    def alerts(self, *, since: datetime, limit: int) -> Sequence[Alert]:
        """Return alerts raised since then, newest first, each id once."""
        found: dict[str, Alert] = {}
        for row in self._marks.query("alert", high=f"{_newest_first(since)}/", limit=limit):
            if (kind := str(row.values["kind"])) not in AlertKind:
                continue  # a later version's
            run_id = RunId(str(row.values["run_id"])) if row.values.get("run_id") is not None else None
            alert = Alert(
                kind=AlertKind(kind),
                # A row of an earlier release names the run only, whose id begins with the pipeline's name.
                pipeline=PipelineKey(str(row.values.get("pipeline") or str(run_id).partition("-")[0])),
                at=_instant(row, "at"),
                detail=str(row.values["detail"]),
                run_id=run_id,
                attempt=None if run_id is None else int(str(row.values["attempt"])),
            )
            found.setdefault(alert.id, alert)
        return list(found.values())


def _instant(row: StoredRow, name: str) -> datetime:
    instant = parse_utc(str(row.values.get(name)))
    if instant is None:
        raise InvalidDocumentError([Problem(f"{row.partition}/{row.key}.{name}", "no time", "an ISO 8601 time")])
    return instant


def _noted_slot(row: StoredRow) -> NotedSlot:
    return NotedSlot(slot=_instant(row, "slot"), timetable=str(row.values.get("timetable", "")))


def _slot_row(noted: NotedSlot, note: str) -> Row:
    return {"slot": to_iso(noted.slot), "timetable": noted.timetable, "note": note[:_MAX_REASON]}


def _open_row(run: Run, *, at: datetime, reopens: str = "") -> Row:
    row: Row = {"opened_at": to_iso(at)}
    if reopens:
        row["reopens"] = reopens
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
