"""Keeps tables in memory and refuses what Table Storage refuses; the real ledger runs on them."""

import itertools
import json
import re
import threading
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from functions.adapters.table_ledger import TableLedger
from functions.adapters.table_port import StoredRow, Write, WriteKind
from functions.core.errors import LedgerConflictError
from functions.core.rows import Row
from tests.support.in_memory.faults import Calls, Faults, NoFaults

__all__ = ["InMemoryTable", "InMemoryTables", "make_ledger"]

_REFUSED_IN_KEYS = re.compile(r"[/\\#?\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_MAX_KEY_CHARACTERS = 512  # of two bytes each
_MAX_TEXT_CHARACTERS = 32 * 1024


class _SortedKeys:
    """The keys of one partition, kept in order at a cost that bears a million of them."""

    def __init__(self) -> None:
        self._sorted: list[str] = []
        self._added: list[str] = []

    def add(self, key: str) -> None:
        self._added.append(key)

    def remove(self, key: str) -> None:
        del self._all()[bisect_left(self._sorted, key)]

    def between(self, low: str, high: str | None, limit: int) -> list[str]:
        """Return the first keys with low <= key < high."""
        keys = self._all()
        start = bisect_left(keys, low)
        return keys[start : min(start + limit, len(keys) if high is None else bisect_left(keys, high))]

    def _all(self) -> list[str]:
        if len(self._added) > 64:
            self._sorted = sorted(self._sorted + self._added)
        else:
            for key in self._added:
                insort(self._sorted, key)
        self._added = []
        return self._sorted


def _check_place(partition: str, key: str) -> None:
    """Refuse what Table Storage refuses: keys of more than 1 KiB, or with characters that a URL's path cannot hold."""
    for part in (partition, key):
        if _REFUSED_IN_KEYS.search(part) or len(part) > _MAX_KEY_CHARACTERS:
            raise AssertionError(f"the service takes no such key: {part[:80]!r}")


def _check_row(values: Row) -> None:
    """Refuse what Table Storage refuses: texts of more than 64 KiB, and what is no text."""
    for name, value in values.items():
        if isinstance(value, str) and (len(value) > _MAX_TEXT_CHARACTERS or _SURROGATES.search(value)):
            raise AssertionError(f"the service takes no such value in the column {name!r}")


class InMemoryTables:
    """Implements `Tables`; `partitions` says which partitions each call touched."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.calls = Calls(faults or NoFaults())
        self.partitions: Counter[tuple[str, str]] = Counter()
        self.rows: dict[str, dict[tuple[str, str], tuple[Row, str]]] = {}
        self.on_write: Callable[[str, str, Row | None, Row], object] | None = None  # table, key, old row, new row
        self.keys: dict[tuple[str, str], _SortedKeys] = {}
        self._versions = itertools.count(1)
        self._lock = threading.RLock()

    def table(self, name: str) -> "InMemoryTable":
        self.rows.setdefault(name, {})
        return InMemoryTable(self, name)

    @contextmanager
    def touch(self, table: str, call: str, partition: str) -> Iterator[dict[tuple[str, str], tuple[Row, str]]]:
        """Count one request and give its table."""
        name = f"tables.{table}.{call}"
        self.partitions[(table, partition)] += 1
        self.calls.counts[name] += 1
        self.calls.faults.before(name)
        with self._lock:
            yield self.rows[table]
        self.calls.faults.after(name)

    def restore(self, table: str, partition: str, key: str, values: Row, version: str) -> None:
        """Put a row there as an earlier process left it."""
        self.rows.setdefault(table, {})[partition, key] = (values, version)
        self.keys.setdefault((table, partition), _SortedKeys()).add(key)

    def next_version(self) -> str:
        return f"v{next(self._versions)}"


class InMemoryTable:
    """Implements `Table`."""

    def __init__(self, tables: InMemoryTables, name: str) -> None:
        self._tables = tables
        self._name = name

    def insert(self, partition: str, key: str, values: Row) -> str | None:
        with self._tables.touch(self._name, "insert", partition) as rows:
            return self._do(rows, partition, Write.insert(key, values))

    def insert_or_get(self, partition: str, key: str, values: Row) -> str | StoredRow:
        version = self.insert(partition, key, values)
        if version is not None:
            return version
        row = self.get(partition, key)
        if row is None:
            raise LedgerConflictError(f"inserting {key!r}", "the row was there and is gone")
        return row

    def put(self, partition: str, key: str, values: Row) -> str:
        with self._tables.touch(self._name, "put", partition) as rows:
            return self._set(rows, partition, key, values)

    def replace(self, partition: str, key: str, values: Row, version: str) -> str | None:
        with self._tables.touch(self._name, "replace", partition) as rows:
            return self._do(rows, partition, Write.replace(key, values, version))

    def delete(self, partition: str, key: str, version: str | None = None) -> None:
        with self._tables.touch(self._name, "delete", partition) as rows:
            self._do(rows, partition, Write.delete(key, version))

    def write_many(self, partition: str, writes: Sequence[Write]) -> list[str | None]:
        versions: list[str | None] = []
        for start in range(0, len(writes), 100):
            versions += self._write_chunk(partition, writes[start : start + 100])
        return versions

    def _write_chunk(self, partition: str, writes: Sequence[Write]) -> list[str | None]:
        if len(writes) > 1:
            with self._tables.touch(self._name, "transact", partition) as rows:
                if len({write.key for write in writes}) < len(writes):
                    raise AssertionError("the service refuses a transaction with one row twice")
                if all(self._holds(rows, partition, write) for write in writes):
                    return [self._do(rows, partition, write) for write in writes]
        return [self._write_one(partition, write) for write in writes]

    def _write_one(self, partition: str, write: Write) -> str | None:
        with self._tables.touch(self._name, write.kind.value, partition) as rows:
            return self._do(rows, partition, write)

    def get(self, partition: str, key: str) -> StoredRow | None:
        _check_place(partition, key)
        with self._tables.touch(self._name, "get", partition) as rows:
            found = rows.get((partition, key))
            return None if found is None else StoredRow(partition, key, dict(found[0]), found[1])

    def get_many(self, places: Sequence[tuple[str, str]]) -> list[StoredRow | None]:
        return [self.get(*place) for place in places]

    def query(self, partition: str, *, low: str = "", high: str | None = None, limit: int) -> Iterator[StoredRow]:
        with self._tables.touch(self._name, "query", partition) as rows:
            keys = [key for key in self._keys(partition).between(low, high, limit) if (partition, key) in rows]
            found = [StoredRow(partition, key, dict(rows[partition, key][0]), rows[partition, key][1]) for key in keys]
        yield from found

    def page(self, continuation: str | None, *, limit: int) -> tuple[list[StoredRow], str | None]:
        with self._tables.touch(self._name, "scan", "*") as rows:
            after = ("", "") if continuation is None else tuple(json.loads(continuation))
            places = sorted(place for place in rows if place > after)
            found = [StoredRow(*place, dict(rows[place][0]), rows[place][1]) for place in places[:limit]]
        is_last = len(places) <= limit
        return found, None if is_last else json.dumps([found[-1].partition, found[-1].key])

    def _keys(self, partition: str) -> _SortedKeys:
        return self._tables.keys.setdefault((self._name, partition), _SortedKeys())

    def _holds(self, rows: dict[tuple[str, str], tuple[Row, str]], partition: str, write: Write) -> bool:
        found = rows.get((partition, write.key))
        match write.kind:
            case WriteKind.INSERT:
                return found is None
            case WriteKind.PUT:
                return True
            case WriteKind.REPLACE | WriteKind.DELETE:
                return found is not None and write.version in {None, found[1]}

    def _do(self, rows: dict[tuple[str, str], tuple[Row, str]], partition: str, write: Write) -> str | None:
        """Return the row's new version, or None if the write's condition does not hold."""
        _check_place(partition, write.key)
        if not self._holds(rows, partition, write):
            return None
        if write.kind is WriteKind.DELETE:
            del rows[partition, write.key]
            self._keys(partition).remove(write.key)
            return None
        return self._set(rows, partition, write.key, write.values)

    def _set(self, rows: dict[tuple[str, str], tuple[Row, str]], partition: str, key: str, values: Row) -> str:
        _check_place(partition, key)
        _check_row(values)
        version = self._tables.next_version()
        if self._tables.on_write is not None:
            old = rows.get((partition, key))
            self._tables.on_write(self._name, key, None if old is None else old[0], values)
        if (partition, key) not in rows:
            self._keys(partition).add(key)
        rows[partition, key] = (dict(values), version)
        return version


def make_ledger(tables: InMemoryTables | None = None) -> TableLedger:
    """Return the real ledger on tables in memory."""
    return TableLedger(tables if tables is not None else InMemoryTables())
