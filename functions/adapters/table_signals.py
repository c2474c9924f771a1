"""Lays signals out in the table of marks: what became of each, and which window last started a run.

signal        key newest first + hash of source and id      one row a signal, with what became of it
signal_mark   key pipeline.rule                             one row a rule, the cooldown's only authority
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from functions.adapters.tables import StoredRow, Tables
from functions.core.errors import InvalidDocumentError, Problem
from functions.core.model import ModelSignal, PipelineKey, RunId
from functions.core.reading import parse_utc, to_iso
from functions.core.rows import Row
from functions.core.signal_records import SignalMark, SignalRecord
from functions.core.tokens import digest
from functions.ports import Entry

__all__ = ["TableSignals"]

_RECORDS: Final = "signal"
_MARKS: Final = "signal_mark"
_LAST_SECOND: Final = 10**12 - 1


class TableSignals:
    """Implements `SignalLedger` on the table of marks."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.table("marks")

    def find(self, signal: ModelSignal) -> SignalRecord | None:
        """Return what became of a signal, or None if it was not dealt with yet."""
        row = self._table.get(_RECORDS, _key_of(signal.time, signal.source, signal.event_id))
        return None if row is None else _record_of(row)

    def record(self, record: SignalRecord) -> SignalRecord:
        """Return what became of the signal; the first record stays."""
        key = _key_of(record.event_time, record.source, record.event_id)
        row: Row = {
            "source": record.source,
            "event_id": record.event_id,
            "event_time": to_iso(record.event_time),
            "type": record.type,
            "model_name": record.model_name,
            "window_start": to_iso(record.window_start),
            "window_end": to_iso(record.window_end),
            "recorded_at": to_iso(record.recorded_at),
            "pipeline": record.pipeline or "",
            "rule": record.rule,
            "run_id": record.run_id or "",
            "reason": record.reason,
            "what": record.what[:8000],
            "config_version": record.config_version,
        }
        if self._table.insert(_RECORDS, key, row) is not None:
            return record
        first = self._table.get(_RECORDS, key)
        return record if first is None else _record_of(first)

    def recent(self, *, limit: int) -> Sequence[SignalRecord]:
        """Return what became of signals, newest first."""
        return [_record_of(row) for row in self._table.query(_RECORDS, limit=limit)]

    def mark_of(self, pipeline: PipelineKey, rule: str) -> Entry[SignalMark] | None:
        """Return the window that last started a run by this rule, or None before the first."""
        row = self._table.get(_MARKS, f"{pipeline}.{rule}")
        if row is None:
            return None
        mark = SignalMark(
            run_id=_run_id(row, "run_id"),
            at=_instant(row, "at"),
            before_run_id=_run_id(row, "before_run_id"),
            before_at=_instant(row, "before_at") if "before_at" in row.values else None,
        )
        return Entry(value=mark, version=row.version)

    def claim(self, pipeline: PipelineKey, rule: str, mark: SignalMark, seen: Entry[SignalMark] | None) -> bool:
        """Write the mark if it is still as it was seen; return whether it was."""
        key = f"{pipeline}.{rule}"
        row: Row = {"run_id": mark.run_id or "", "at": to_iso(mark.at), "before_run_id": mark.before_run_id or ""}
        if mark.before_at is not None:
            row["before_at"] = to_iso(mark.before_at)
        if seen is None:
            return self._table.insert(_MARKS, key, row) is not None
        return self._table.replace(_MARKS, key, row, seen.version) is not None


def _key_of(time: datetime, source: str, event_id: str) -> str:
    newest_first = _LAST_SECOND - int(time.timestamp())
    return f"{newest_first:013d}.{digest('signal', source, event_id)[:40]}"


def _record_of(row: StoredRow) -> SignalRecord:
    values = row.values
    pipeline = str(values["pipeline"])
    return SignalRecord(
        source=str(values["source"]),
        event_id=str(values["event_id"]),
        event_time=_instant(row, "event_time"),
        type=str(values["type"]),
        model_name=str(values["model_name"]),
        window_start=_instant(row, "window_start"),
        window_end=_instant(row, "window_end"),
        recorded_at=_instant(row, "recorded_at"),
        pipeline=PipelineKey(pipeline) if pipeline else None,
        rule=str(values["rule"]),
        run_id=_run_id(row, "run_id"),
        reason=str(values["reason"]),
        what=str(values["what"]),
        config_version=str(values["config_version"]),
    )


def _run_id(row: StoredRow, name: str) -> RunId | None:
    text = str(row.values.get(name, ""))
    return RunId(text) if text else None


def _instant(row: StoredRow, name: str) -> datetime:
    instant = parse_utc(str(row.values.get(name)))
    if instant is None:
        raise InvalidDocumentError([Problem(f"{row.partition}/{row.key}.{name}", "no time", "an ISO 8601 time")])
    return instant
