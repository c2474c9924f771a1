"""Reads and writes rows of Table Storage by compare-and-set, one partition at a time."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from functions.adapters.azure_errors import azure_errors
from functions.adapters.storage import StorageAccount
from functions.core.errors import LedgerUnavailableError
from functions.core.rows import Row

if TYPE_CHECKING:
    from azure.data.tables import TableClient, TableEntity

__all__ = ["AzureTable", "AzureTables", "StoredRow", "Table", "Tables"]

_TRANSACTION_ROWS: Final = 100  # the service's limit for one transaction, which stays within one partition
_PAGE_ROWS: Final = 1000  # likewise for one page of an answer


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as it was read, and the version that a later write must still find."""

    partition: str
    key: str
    values: Mapping[str, object]
    version: str


class Table(Protocol):
    """One table; every method is one request, except where it says otherwise."""

    def insert(self, partition: str, key: str, values: Row) -> str | None:
        """Return the new row's version, or None if the key is taken."""
        ...

    def put(self, partition: str, key: str, values: Row) -> str:
        """Write a row whatever is there; return its version."""
        ...

    def replace(self, partition: str, key: str, values: Row, version: str) -> str | None:
        """Return the row's new version, or None if it is not at `version` any more."""
        ...

    def replace_many(self, partition: str, changes: Sequence[tuple[str, Row, str]]) -> list[str | None]:
        """Replace many rows of one partition, a hundred a request; None for each row that was not at its version."""
        ...

    def delete(self, partition: str, key: str, version: str | None = None) -> None:
        """Delete a row if it is there; with a version, only that one."""
        ...

    def delete_many(self, partition: str, rows: Sequence[tuple[str, str]]) -> None:
        """Delete rows of one partition that are still at their versions, a hundred a request."""
        ...

    def get(self, partition: str, key: str) -> StoredRow | None:
        """Return a row, or None."""
        ...

    def query(self, partition: str, *, low: str = "", high: str | None = None, limit: int) -> Iterator[StoredRow]:
        """Yield rows of one partition with low <= key < high, in the order of their keys, a thousand a request."""
        ...

    def scan(self, column: str, low: str, *, limit: int) -> Iterator[StoredRow]:
        """Yield rows of every partition whose text column is at least `low`; reads the whole table: for people only."""
        ...


class Tables(Protocol):
    """The tables of one ledger."""

    def table(self, name: str) -> Table:
        """Return one table."""
        ...


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

    def insert(self, partition: str, key: str, values: Row) -> str | None:
        """Return the new row's version, or None if the key is taken."""
        entity = _entity(partition, key, values)
        answer = self._write(lambda table: table.create_entity(entity), makes_table=True)
        return None if answer is None else _version_in(answer)

    def put(self, partition: str, key: str, values: Row) -> str:
        """Write a row whatever is there; return its version."""
        from azure.data.tables import UpdateMode

        entity = _entity(partition, key, values)
        answer = self._write(lambda table: table.upsert_entity(entity, mode=UpdateMode.REPLACE), makes_table=True)
        if answer is None:
            raise LedgerUnavailableError(f"writing to {self._name}", "a write without a condition met a conflict")
        return _version_in(answer)

    def replace(self, partition: str, key: str, values: Row, version: str) -> str | None:
        """Return the row's new version, or None if it is not at `version` any more."""
        from azure.core import MatchConditions
        from azure.data.tables import UpdateMode

        entity = _entity(partition, key, values)
        condition = MatchConditions.IfNotModified
        answer = self._write(
            lambda table: table.update_entity(entity, mode=UpdateMode.REPLACE, etag=version, match_condition=condition)
        )
        return None if answer is None else _version_in(answer)

    def replace_many(self, partition: str, changes: Sequence[tuple[str, Row, str]]) -> list[str | None]:
        """Replace many rows of one partition; a chunk in which one row has moved on is repeated row by row."""
        from azure.core import MatchConditions
        from azure.data.tables import UpdateMode

        versions: list[str | None] = []
        for start in range(0, len(changes), _TRANSACTION_ROWS):
            chunk = changes[start : start + _TRANSACTION_ROWS]
            operations = [
                (
                    "update",
                    _entity(partition, key, values),
                    {"mode": UpdateMode.REPLACE, "etag": version, "match_condition": MatchConditions.IfNotModified},
                )
                for key, values, version in chunk
            ]
            answers = self._transact(operations) if len(chunk) > 1 else None
            if answers is not None:
                versions += [_version_in(answer) for answer in answers]
            else:
                versions += [self.replace(partition, key, values, version) for key, values, version in chunk]
        return versions

    def delete(self, partition: str, key: str, version: str | None = None) -> None:
        """Delete a row if it is there; with a version, only that one."""
        from azure.core import MatchConditions

        options: dict[str, Any] = (
            {} if version is None else {"etag": version, "match_condition": MatchConditions.IfNotModified}
        )

        def request(table: "TableClient") -> Mapping[str, Any]:
            table.delete_entity(partition, key, **options)
            return {}

        self._write(request)

    def delete_many(self, partition: str, rows: Sequence[tuple[str, str]]) -> None:
        """Delete rows of one partition that are still at their versions."""
        from azure.core import MatchConditions

        for start in range(0, len(rows), _TRANSACTION_ROWS):
            chunk = rows[start : start + _TRANSACTION_ROWS]
            operations = [
                (
                    "delete",
                    {"PartitionKey": partition, "RowKey": key},
                    {"etag": version, "match_condition": MatchConditions.IfNotModified},
                )
                for key, version in chunk
            ]
            if len(chunk) == 1 or self._transact(operations) is None:
                for key, version in chunk:
                    self.delete(partition, key, version)

    def get(self, partition: str, key: str) -> StoredRow | None:
        """Return a row, or None."""
        from azure.core.exceptions import ResourceNotFoundError

        with azure_errors(f"reading from {self._name}", LedgerUnavailableError):
            try:
                return _stored(self._table.get_entity(partition, key))
            except ResourceNotFoundError:
                return None

    def query(self, partition: str, *, low: str = "", high: str | None = None, limit: int) -> Iterator[StoredRow]:
        """Yield rows of one partition with low <= key < high, in the order of their keys."""
        condition = "PartitionKey eq @partition and RowKey ge @low"
        parameters = {"partition": partition, "low": low}
        if high is not None:
            condition += " and RowKey lt @high"
            parameters["high"] = high
        yield from self._select(condition, parameters, limit)

    def scan(self, column: str, low: str, *, limit: int) -> Iterator[StoredRow]:
        """Yield rows of every partition whose text column is at least `low`."""
        yield from self._select(f"{column} ge @low", {"low": low}, limit)

    def _select(self, condition: str, parameters: dict[str, str], limit: int) -> Iterator[StoredRow]:
        from azure.core.exceptions import ResourceNotFoundError

        if limit < 1:
            return
        with azure_errors(f"reading from {self._name}", LedgerUnavailableError):
            found = self._table.query_entities(
                condition, parameters=parameters, results_per_page=min(limit, _PAGE_ROWS)
            )
            try:
                for count, entity in enumerate(found, start=1):
                    yield _stored(entity)
                    if count == limit:
                        return
            except ResourceNotFoundError:  # nothing was ever written: the table is not made yet
                return

    @property
    def _table(self) -> "TableClient":
        if self._client is None:
            self._client = self._storage.tables.get_table_client(self._name)
        return self._client

    def _write(
        self, request: Callable[["TableClient"], Mapping[str, Any]], *, makes_table: bool = False
    ) -> Mapping[str, Any] | None:
        """Return the answer to a write, or None if its condition did not hold."""
        from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError

        with azure_errors(f"writing to {self._name}", LedgerUnavailableError):
            try:
                return request(self._table)
            except (ResourceExistsError, ResourceModifiedError):
                return None
            except ResourceNotFoundError:
                if not makes_table:
                    return None  # the row to change is not there (any more)
                self._make()
            try:
                return request(self._table)
            except ResourceExistsError:
                return None

    def _transact(self, operations: Sequence[Any]) -> Sequence[Mapping[str, Any]] | None:
        """Return the answers to all operations, or None if the condition of one did not hold: then none was done."""
        from azure.core.exceptions import HttpResponseError

        with azure_errors(f"writing to {self._name}", LedgerUnavailableError):
            try:
                return self._table.submit_transaction(operations)
            except HttpResponseError as error:
                if error.status_code in {404, 409, 412}:
                    return None
                raise

    def _make(self) -> None:
        from azure.core.exceptions import ResourceExistsError

        with suppress(ResourceExistsError):  # another worker was first
            self._table.create_table()


def _entity(partition: str, key: str, values: Row) -> dict[str, Any]:
    return {**values, "PartitionKey": partition, "RowKey": key}


def _stored(entity: "TableEntity") -> StoredRow:
    values = {name: value for name, value in entity.items() if name not in {"PartitionKey", "RowKey"}}
    return StoredRow(entity["PartitionKey"], entity["RowKey"], values, str(entity.metadata["etag"]))


def _version_in(answer: Mapping[str, Any]) -> str:
    return str(answer["etag"])
