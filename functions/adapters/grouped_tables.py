"""Lets writes that meet in one process and one partition share a transaction.

A writer that finds nobody at its partition writes at once, by itself, as without this module: nobody waits for
company. Who comes while that write is under way waits for it to end; then one of those who wait writes for all of
them, a hundred rows at most, and hands over to the next. So the groups grow with the load, by themselves.

Nothing is acknowledged before it is written: a writer returns with the answer for its own row, or with the error of
the transaction that its row was in. A row whose condition does not hold is refused alone; the others are written.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from functions.adapters.table_port import StoredRow, Table, Tables, Write, WriteKind
from functions.core.errors import LedgerConflictError, LedgerUnavailableError
from functions.core.rows import Row

__all__ = ["GroupedTable", "GroupedTables"]

_GROUP_ROWS: Final = 100  # what one transaction takes
_LOOKS_AFTER_A_REFUSAL: Final = 64
_MOSTLY_TAKEN: Final = 0.45  # of the last inserts: from there on, looking first costs less, a refusal being the dearest
_WEIGHT_OF_THE_LAST: Final = 1 / 32
_MOST_REMEMBERED: Final = 1000  # partitions; of one that nobody uses, only that its next inserts should look


class GroupedTables:
    """Implements `Tables` on other tables."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._grouped: dict[str, GroupedTable] = {}
        self._lock = threading.Lock()

    def table(self, name: str) -> "GroupedTable":
        """Return one table, always the same object."""
        with self._lock:
            if name not in self._grouped:
                self._grouped[name] = GroupedTable(self._tables.table(name))
            return self._grouped[name]


class _Waiting:
    """A write that has not been done yet, and what its writer is to be told."""

    __slots__ = ("error", "is_done", "told", "version", "write")

    def __init__(self, write: Write) -> None:
        self.write = write
        self.told = threading.Event()  # either that it is done, or that it is this writer's turn to write for all
        self.is_done = False
        self.version: str | None = None
        self.error: BaseException | None = None


class _Partition:
    """Who waits for one partition; `users` is how many hold on to this object."""

    __slots__ = ("is_busy", "looks", "users", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[_Waiting] = deque()
        self.is_busy = False
        self.looks = 0  # how many more inserts look before they write, because keys were found taken
        self.users = 0


class GroupedTable:
    """Implements `Table`; reads, and what already is many rows, go through as they are."""

    def __init__(self, table: Table, *, most_remembered: int = _MOST_REMEMBERED) -> None:
        self._table = table
        self._most_remembered = most_remembered
        self._partitions: dict[str, _Partition] = {}
        self._lock = threading.Lock()
        self._taken = 0.0  # which part of the last inserts found their key taken

    def insert(self, partition: str, key: str, values: Row) -> str | None:
        """Return the new row's version, or None if the key is taken."""
        return self._write(partition, Write.insert(key, values))

    def insert_or_get(self, partition: str, key: str, values: Row) -> str | StoredRow:
        """Return the new row's version, or the row that has the key already.

        One taken key undoes a whole transaction. So when keys were found taken while others waited, the next
        inserts look first: a storm of repeats then costs one read each, and their company nothing. Likewise when
        most keys of the table were found taken lately, alone or not.
        """
        if self._must_look(partition):
            row = self._table.get(partition, key)
            if row is not None:
                self._note(is_taken=True)
                return row
        version = self.insert(partition, key, values)
        self._note(is_taken=version is None)
        if version is not None:
            return version
        self._have_others_look(partition)
        row = self._table.get(partition, key)
        if row is None:
            raise LedgerConflictError(f"inserting {key!r}", "the row was there and is gone")
        return row

    def put(self, partition: str, key: str, values: Row) -> str:
        """Write a row whatever is there; return its version."""
        version = self._write(partition, Write.put(key, values))
        if version is None:
            raise LedgerUnavailableError(f"writing {key!r}", "a write without a condition was refused")
        return version

    def replace(self, partition: str, key: str, values: Row, version: str) -> str | None:
        """Return the row's new version, or None if it is not at `version` any more."""
        return self._write(partition, Write.replace(key, values, version))

    def delete(self, partition: str, key: str, version: str | None = None) -> None:
        """Delete a row if it is there; with a version, only that one."""
        self._write(partition, Write.delete(key, version))

    def write_many(self, partition: str, writes: Sequence[Write]) -> list[str | None]:
        """Do writes of different rows of one partition, a hundred a request."""
        return self._table.write_many(partition, writes)

    def get(self, partition: str, key: str) -> StoredRow | None:
        """Return a row, or None."""
        return self._table.get(partition, key)

    def get_many(self, places: Sequence[tuple[str, str]]) -> list[StoredRow | None]:
        """Return the row of each partition and key, or None; a few requests at a time."""
        return self._table.get_many(places)

    def query(self, partition: str, *, low: str = "", high: str | None = None, limit: int) -> Iterator[StoredRow]:
        """Yield rows of one partition with low <= key < high, in the order of their keys."""
        return self._table.query(partition, low=low, high=high, limit=limit)

    def page(self, continuation: str | None, *, limit: int) -> tuple[list[StoredRow], str | None]:
        """Return rows of all partitions, in order, and what continues after them, None at the end."""
        return self._table.page(continuation, limit=limit)

    def waiting(self, partition: str) -> int:
        """Return how many writes wait for the partition behind the one that is under way."""
        with self._lock:
            known = self._partitions.get(partition)
            return 0 if known is None else len(known.waiting)

    @property
    def remembered(self) -> int:
        """How many partitions are in use, or had a key that was found taken."""
        with self._lock:
            return len(self._partitions)

    def _must_look(self, partition: str) -> bool:
        with self._lock:
            if self._taken > _MOSTLY_TAKEN:
                return True
            known = self._partitions.get(partition)
            if known is None or known.looks == 0 or not known.is_busy:
                return False
            known.looks -= 1
            return True

    def _note(self, *, is_taken: bool) -> None:
        with self._lock:
            self._taken += (is_taken - self._taken) * _WEIGHT_OF_THE_LAST

    def _have_others_look(self, partition: str) -> None:
        with self._lock:
            known = self._partitions.get(partition)
            if known is not None:  # nobody else is there: the next one is alone again and need not look
                known.looks = _LOOKS_AFTER_A_REFUSAL

    def _write(self, partition: str, write: Write) -> str | None:
        mine = _Waiting(write)
        with self._lock:
            place = self._place_of(partition)
            place.users += 1
            place.waiting.append(mine)
            is_first, place.is_busy = not place.is_busy, True
        try:
            if not is_first:
                mine.told.wait()
            if not mine.is_done:
                self._write_for_all(partition, place)
        finally:
            with self._lock:
                place.users -= 1
                if place.users == 0 and place.looks == 0:
                    del self._partitions[partition]
        if mine.error is not None:
            raise mine.error
        return mine.version

    def _place_of(self, partition: str) -> _Partition:
        """Return the partition's object; makes room for a new one if there are many that nobody uses."""
        known = self._partitions.get(partition)
        if known is None:
            if len(self._partitions) >= self._most_remembered:  # what is forgotten costs a refused insert at most
                self._partitions = {name: place for name, place in self._partitions.items() if place.users}
            known = self._partitions[partition] = _Partition()
        return known

    def _write_for_all(self, partition: str, place: _Partition) -> None:
        """Write what waits now, this writer's own row among it, and hand over to one of those who came meanwhile."""
        with self._lock:
            group = _take_group(place.waiting)
        try:
            versions = self._do(partition, [waiting.write for waiting in group])
            for waiting, version in zip(group, versions, strict=True):
                waiting.version = version
        except Exception as error:  # noqa: BLE001 - each of the group raises it
            for waiting in group:
                waiting.error = error
        except BaseException:  # this thread is being ended: the others must not end with it, nor wait for it
            for waiting in group:
                waiting.error = LedgerUnavailableError("writing together with others", "the writer was ended")
            raise
        finally:
            for waiting in group:
                waiting.is_done = True
            with self._lock:
                if place.waiting:
                    place.waiting[0].told.set()
                else:
                    place.is_busy = False
            for waiting in group:
                waiting.told.set()

    def _do(self, partition: str, writes: Sequence[Write]) -> list[str | None]:
        if len(writes) > 1:
            return self._table.write_many(partition, writes)
        (write,) = writes
        match write.kind:
            case WriteKind.INSERT:
                return [self._table.insert(partition, write.key, write.values)]
            case WriteKind.PUT:
                return [self._table.put(partition, write.key, write.values)]
            case WriteKind.REPLACE:
                return [self._table.replace(partition, write.key, write.values, write.version or "")]
            case WriteKind.DELETE:
                self._table.delete(partition, write.key, write.version)
                return [None]


def _take_group(waiting: deque[_Waiting]) -> list[_Waiting]:
    """Take the writes of one transaction, the oldest first; a second write of one row waits for the first."""
    group: list[_Waiting] = []
    later: list[_Waiting] = []
    keys: set[str] = set()
    while waiting and len(group) < _GROUP_ROWS:
        item = waiting.popleft()
        if item.write.key in keys:
            later.append(item)
        else:
            keys.add(item.write.key)
            group.append(item)
    waiting.extendleft(reversed(later))
    return group
