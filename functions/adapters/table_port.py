"""Says what the ledger needs of a table store: rows in partitions, written by compare-and-set."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from functions.core.rows import Row

__all__ = ["StoredRow", "Table", "Tables", "Write", "WriteKind"]


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as it was read, and the version that a later write must still find."""

    partition: str
    key: str
    values: Mapping[str, object]
    version: str


class WriteKind(StrEnum):
    """What a write does to its row, and on which condition."""

    INSERT = "insert"  # if there is none
    PUT = "put"  # whatever is there
    REPLACE = "replace"  # if it is at the version
    DELETE = "delete"  # if it is there, and at the version if one is given


@dataclass(frozen=True, slots=True)
class Write:
    """One write of one row; made by the class methods, so that no kind lacks what it needs."""

    kind: WriteKind
    key: str
    values: Row
    version: str | None

    @classmethod
    def insert(cls, key: str, values: Row) -> "Write":
        """Return the write that makes a row if there is none."""
        return cls(WriteKind.INSERT, key, values, None)

    @classmethod
    def put(cls, key: str, values: Row) -> "Write":
        """Return the write that makes or overwrites a row."""
        return cls(WriteKind.PUT, key, values, None)

    @classmethod
    def replace(cls, key: str, values: Row, version: str) -> "Write":
        """Return the write that replaces a row if it is at the version."""
        return cls(WriteKind.REPLACE, key, values, version)

    @classmethod
    def delete(cls, key: str, version: str | None = None) -> "Write":
        """Return the write that deletes a row, with a version only that one."""
        return cls(WriteKind.DELETE, key, {}, version)


class Table(Protocol):
    """One table; every method is one request, except where it says otherwise."""

    def insert(self, partition: str, key: str, values: Row) -> str | None:
        """Return the new row's version, or None if the key is taken."""
        ...

    def insert_or_get(self, partition: str, key: str, values: Row) -> str | StoredRow:
        """Return the new row's version, or the row that has the key already; then it is two requests, or one read."""
        ...

    def put(self, partition: str, key: str, values: Row) -> str:
        """Write a row whatever is there; return its version."""
        ...

    def replace(self, partition: str, key: str, values: Row, version: str) -> str | None:
        """Return the row's new version, or None if it is not at `version` any more."""
        ...

    def delete(self, partition: str, key: str, version: str | None = None) -> None:
        """Delete a row if it is there; with a version, only that one."""
        ...

    def write_many(self, partition: str, writes: Sequence[Write]) -> list[str | None]:
        """Do writes of different rows of one partition, a hundred a request.

        Returns each row's new version, None where the condition did not hold; of a delete the answer says nothing.
        The rows of one request are written together unless one of them is refused: then each is tried by itself.
        """
        ...

    def get(self, partition: str, key: str) -> StoredRow | None:
        """Return a row, or None."""
        ...

    def get_many(self, places: Sequence[tuple[str, str]]) -> list[StoredRow | None]:
        """Return the row of each partition and key, or None; one request a row, several at a time."""
        ...

    def query(self, partition: str, *, low: str = "", high: str | None = None, limit: int) -> Iterator[StoredRow]:
        """Yield rows of one partition with low <= key < high, in the order of their keys, a thousand a request."""
        ...

    def page(self, continuation: str | None, *, limit: int) -> tuple[list[StoredRow], str | None]:
        """Return rows of all partitions, in order, and what continues after them, None at the end.

        For work that must see every row once, a bounded number at a time: never for an answer.
        """
        ...


class Tables(Protocol):
    """The tables of one ledger."""

    def table(self, name: str) -> Table:
        """Return one table."""
        ...
