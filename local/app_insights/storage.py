"""Keeps telemetry as JSON lines in files of bounded size, and finds it again."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Final

from local.app_insights.items import InvalidItemError, Item, encoded, parse_item
from local.event_grid.wire import parse_json

__all__ = ["Storage"]

MAX_FILE_BYTES: Final = {"items": 8 * 1024 * 1024, "metrics": 2 * 1024 * 1024}
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """Where a kept item is found, without its parsed form: memory stays near the files' size."""

    item_type: str
    operation_id: str
    timestamp: datetime
    raw: bytes


class _Log:
    """One file and the one before it; the older is forgotten when the newer is full."""

    def __init__(self, folder: Path, name: str, max_bytes: int) -> None:
        self._file, self._older = folder / f"{name}.jsonl", folder / f"{name}.1.jsonl"
        self._max_bytes = max_bytes
        self._old_lines, self._lines = list(_lines_in(self._older)), list(_lines_in(self._file))
        self._out: IO[bytes] = self._file.open("ab", buffering=0)

    def append(self, lines: Iterable[_Line]) -> None:
        """Write the lines, one after the other; whoever is killed between two loses only those to come."""
        for line in lines:
            if self._out.tell() + len(line.raw) > self._max_bytes and self._out.tell():
                self._rotate()
            self._out.write(line.raw)
            self._lines.append(line)

    def __iter__(self) -> Iterator[_Line]:
        yield from self._old_lines
        yield from self._lines

    def close(self) -> None:
        self._out.close()

    def _rotate(self) -> None:
        self._out.close()
        self._file.replace(self._older)
        self._out = self._file.open("ab", buffering=0)
        self._old_lines, self._lines = self._lines, []


class Storage:
    """All telemetry that is still kept; metrics are apart, so that they cannot push traces out."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._logs = {name: _Log(folder, name, size) for name, size in MAX_FILE_BYTES.items()}

    def close(self) -> None:
        """Close the files."""
        for log in self._logs.values():
            log.close()

    def keep(self, items: Iterable[Item]) -> None:
        """Write the items down."""
        for item in items:
            log = self._logs["metrics" if item.item_type == "customMetric" else "items"]
            log.append([_line_of(item, encoded(item.envelope))])

    def find(
        self, *, operation_id: str | None = None, item_type: str | None = None, since: datetime | None = None
    ) -> list[Item]:
        """Return the items that fit all given conditions, in the order of their time."""
        found = [
            parse_item(parse_json(line.raw))
            for log in self._logs.values()
            for line in log
            if (operation_id is None or line.operation_id == operation_id)
            and (item_type is None or line.item_type == item_type)
            and (since is None or line.timestamp >= since)
        ]
        return sorted(found, key=lambda item: item.timestamp)

    def latest_operations(self, limit: int) -> list[str]:
        """Return the operations that were heard of last, the latest first."""
        seen: dict[str, None] = {}
        for line in reversed(list(self._logs["items"])):
            if line.operation_id:
                seen.setdefault(line.operation_id)
            if len(seen) == limit:
                break
        return list(seen)


def _line_of(item: Item, raw: bytes) -> _Line:
    return _Line(item_type=item.item_type, operation_id=item.operation_id, timestamp=item.timestamp, raw=raw)


def _lines_in(file: Path) -> Iterator[_Line]:
    """Yield the lines of a file; one that a crash cut short is skipped."""
    if not file.exists():
        return
    for raw in file.read_bytes().splitlines(keepends=True):
        try:
            yield _line_of(parse_item(parse_json(raw)), raw)
        except (InvalidItemError, ValueError):
            _LOG.warning("unreadable line skipped", extra={"file": file.name})
