"""Reads and writes rows of Table Storage by compare-and-set, one partition at a time."""

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from functions.adapters.azure_errors import azure_errors
from functions.adapters.storage import StorageAccount
from functions.adapters.table_connection import TableConnection
from functions.adapters.table_port import StoredRow, Table, Tables, Write, WriteKind
from functions.adapters.table_requests import CONDITIONS, Refused, read_row, read_rows, write_row, write_rows
from functions.core.errors import LedgerConflictError, LedgerUnavailableError
from functions.core.rows import Row

if TYPE_CHECKING:
    from azure.data.tables import TableClient, TableEntity

__all__ = ["AzureTable", "AzureTables", "StoredRow", "Table", "Tables", "Write", "WriteKind"]

_TRANSACTION_ROWS: Final = 100  # the service's limit for one transaction, which stays within one partition
_PAGE_ROWS: Final = 1000  # likewise for one page of an answer
_TRANSACTION_CHARACTERS: Final = 600_000  # the limit is 4 MiB, and a character is written as six bytes at most
_ROW_CHARACTERS: Final = 1000  # of what each row adds to a request beside its values
_MISSING: Final = 404
_MAKE_A_TABLE: Final = frozenset({WriteKind.INSERT, WriteKind.PUT})
_REFUSALS: Final = 3  # so many rows are taken out of a transaction one after another, then each goes by itself
_GETS_AT_A_TIME: Final = 8


class AzureTables:
    """Implements `Tables`; a table that does not exist yet is made by its first write."""

    def __init__(self, storage: StorageAccount, *, prefix: str) -> None:
        self._storage = storage
        self._prefix = prefix
        self._tables: dict[str, AzureTable] = {}
        self._lock = threading.Lock()

    def table(self, name: str) -> "AzureTable":
        """Return one table, always the same object."""
        with self._lock:
            if name not in self._tables:
                self._tables[name] = AzureTable(self._storage, f"{self._prefix}{name}")
            return self._tables[name]


class AzureTable:
    """Implements `Table`."""

    def __init__(self, storage: StorageAccount, name: str) -> None:
        self._storage = storage
        self._name = name
        self._client: TableClient | None = None
        self._connected: TableConnection | None = None

    def insert(self, partition: str, key: str, values: Row) -> str | None:
        """Return the new row's version, or None if the key is taken."""
        return self._write(partition, Write.insert(key, values))

    def insert_or_get(self, partition: str, key: str, values: Row) -> str | StoredRow:
        """Return the new row's version, or the row that has the key already."""
        version = self.insert(partition, key, values)
        if version is not None:
            return version
        row = self.get(partition, key)
        if row is None:
            raise LedgerConflictError(f"inserting into {self._name}", "the row was there and is gone")
        return row

    def put(self, partition: str, key: str, values: Row) -> str:
        """Write a row whatever is there; return its version."""
        version = self._write(partition, Write.put(key, values))
        if version is None:
            raise LedgerUnavailableError(f"writing to {self._name}", "a write without a condition met a conflict")
        return version

    def replace(self, partition: str, key: str, values: Row, version: str) -> str | None:
        """Return the row's new version, or None if it is not at `version` any more."""
        return self._write(partition, Write.replace(key, values, version))

    def delete(self, partition: str, key: str, version: str | None = None) -> None:
        """Delete a row if it is there; with a version, only that one."""
        self._write(partition, Write.delete(key, version))

    def write_many(self, partition: str, writes: Sequence[Write]) -> list[str | None]:
        """Do writes of different rows of one partition, a hundred a request."""
        versions: list[str | None] = []
        for chunk in _chunks(writes):
            versions += self._write_chunk(partition, chunk)
        return versions

    def _write_chunk(self, partition: str, writes: Sequence[Write]) -> list[str | None]:
        """Do the writes in one transaction; a row that is refused is tried by itself, and the others again."""
        versions: dict[str, str | None] = {}
        left = list(writes)
        for _ in range(_REFUSALS):
            if len(left) < 2:  # noqa: PLR2004 - one write needs no transaction
                break
            answers = self._transact(partition, left)
            if not isinstance(answers, int):
                versions |= {write.key: version for write, version in zip(left, answers, strict=True)}
                left = []
                break
            refused = left.pop(min(answers, len(left) - 1))
            versions[refused.key] = self._write(partition, refused)
        versions |= {write.key: self._write(partition, write) for write in left}
        return [versions[write.key] for write in writes]

    def get(self, partition: str, key: str) -> StoredRow | None:
        """Return a row, or None."""
        with azure_errors(f"reading from {self._name}", LedgerUnavailableError):
            return read_row(self._connection, self._name, partition, key)

    def get_many(self, places: Sequence[tuple[str, str]]) -> list[StoredRow | None]:
        """Return the row of each partition and key, or None; a few requests at a time."""
        if len(places) < 2:  # noqa: PLR2004 - one row needs no threads
            return [self.get(*place) for place in places]
        with ThreadPoolExecutor(min(_GETS_AT_A_TIME, len(places)), thread_name_prefix="get_many") as pool:
            return list(pool.map(lambda place: self.get(*place), places))

    def query(self, partition: str, *, low: str = "", high: str | None = None, limit: int) -> Iterator[StoredRow]:
        """Yield rows of one partition with low <= key < high, in the order of their keys."""
        with azure_errors(f"reading from {self._name}", LedgerUnavailableError):
            yield from read_rows(self._connection, self._name, partition, low=low, high=high, limit=limit)

    def page(self, continuation: str | None, *, limit: int) -> tuple[list[StoredRow], str | None]:
        """Return rows of all partitions, in order, and what continues after them, None at the end."""
        from azure.core.exceptions import ResourceNotFoundError

        with azure_errors(f"reading from {self._name}", LedgerUnavailableError):
            pages = self._table.list_entities(results_per_page=min(limit, _PAGE_ROWS)).by_page(
                continuation_token=None if continuation is None else json.loads(continuation)
            )
            try:
                rows = [_stored(entity) for entity in next(pages, ())]
            except ResourceNotFoundError:
                return [], None
            token = pages.continuation_token  # type: ignore[attr-defined] # of the SDK's page iterator
        return rows, json.dumps(token) if token else None

    @property
    def _table(self) -> "TableClient":
        if self._client is None:
            self._client = self._storage.tables.get_table_client(self._name)
        return self._client

    def _write(self, partition: str, row: Write) -> str | None:
        """Return the row's new version; None if the write's condition did not hold, and after a delete."""
        with azure_errors(f"writing to {self._name}", LedgerUnavailableError):
            answer = self._try(partition, row)
            if answer == _MISSING and row.kind in _MAKE_A_TABLE:
                self._make()
                answer = self._try(partition, row)
        return answer if isinstance(answer, str) and row.kind is not WriteKind.DELETE else None

    def _try(self, partition: str, row: Write) -> str | int:
        """Return the row's new version, or the status of a condition that does not hold."""
        try:
            return write_row(self._connection, self._name, partition, row)
        except Refused as refused:
            return refused.status

    def _transact(self, partition: str, writes: Sequence[Write]) -> Sequence[str] | int:
        """Return the new version of each row, or which write was refused: then none was done.

        A table that is not there yet refuses the first one, whose own write then makes it.
        """
        from azure.core.exceptions import HttpResponseError

        with azure_errors(f"writing to {self._name}", LedgerUnavailableError):
            try:
                return write_rows(self._connection, self._name, partition, writes)
            except Refused as refused:
                if refused.status in CONDITIONS:
                    return refused.index
                error = HttpResponseError(refused.text)
                error.status_code = refused.status
                raise error from refused
            except HttpResponseError as error:
                if error.status_code in CONDITIONS:
                    return 0
                raise

    @property
    def _connection(self) -> TableConnection:
        if self._connected is None:
            self._connected = self._storage.table_connection
        return self._connected

    def _make(self) -> None:
        from azure.core.exceptions import ResourceExistsError

        with suppress(ResourceExistsError):  # another worker was first
            self._table.create_table()


def _chunks(writes: Sequence[Write]) -> Iterator[Sequence[Write]]:
    """Yield the writes in parts that one transaction takes."""
    chunk: list[Write] = []
    size = 0
    for row in writes:
        characters = _ROW_CHARACTERS + sum(len(value) for value in row.values.values() if isinstance(value, str))
        if chunk and (len(chunk) == _TRANSACTION_ROWS or size + characters > _TRANSACTION_CHARACTERS):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += characters
    if chunk:
        yield chunk


def _stored(entity: "TableEntity") -> StoredRow:
    values = {name: value for name, value in entity.items() if name not in {"PartitionKey", "RowKey"}}
    return StoredRow(entity["PartitionKey"], entity["RowKey"], values, str(entity.metadata["etag"]))
