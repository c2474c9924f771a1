"""Has each event handled once in effect, although it is delivered several times: take this file alone.

Event Grid delivers at least once, and a publisher that dies after publishing publishes again. Both repeats have the
same source and id, so a subscriber remembers which it has handled:

    store = SqliteSeenEvents("seen.db")
    outcome = handle_once(store, key_of(event), lambda: act_upon(event))
    # HANDLED and REPEATED: answer 200. BUSY: answer 503, so that Event Grid delivers it again later.

There is no exactly-once between two systems, so choose what a crash between the handling and its mark may cost:

* `Order.HANDLE_THEN_MARK` (the default): the event is handled again. Right where handling twice is harmless, such as
  writing the same row.
* `Order.MARK_THEN_HANDLE`: the event is never handled. Right where twice is worse than not at all, such as a payment.
* `SqliteSeenEvents.transaction`: neither, if what handling changes is in the same database.

Both stores work for many processes at once: one claims an event, and the others find it busy until the claim is
finished, is released because handling failed, or runs out because its process died.
"""

import contextlib
import hashlib
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

__all__ = [
    "Claim",
    "ClaimState",
    "Handled",
    "Order",
    "SeenEvents",
    "SqliteSeenEvents",
    "TableSeenEvents",
    "handle_once",
    "key_of",
]

# Event Grid tries for a day at most; a dead letter is replayed by hand some days later.
_RETENTION_S: Final = 14 * 24 * 3600.0
_LEASE_S: Final = 300.0
_PURGED_A_CLAIM: Final = 100
_CLAIM: Final = (
    "INSERT OR REPLACE INTO seen_events (key, ticket, lease_until, done_at) "
    "VALUES (:key, :ticket, :lease_until, :done_at)"
)


class ClaimState(StrEnum):
    """What became of a wish to handle an event."""

    MINE = "mine"  # handle it, then finish the claim
    BUSY = "busy"  # someone else is at it, or died less than a lease ago
    DONE = "done"  # it was handled


class Handled(StrEnum):
    """What `handle_once` did."""

    HANDLED = "handled"
    REPEATED = "repeated"  # an earlier delivery was handled
    BUSY = "busy"  # another delivery is being handled: have it delivered again


class Order(StrEnum):
    """Which comes first, the handling or the mark: what a crash in between costs."""

    HANDLE_THEN_MARK = "handle_then_mark"  # at least once
    MARK_THEN_HANDLE = "mark_then_handle"  # at most once


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The answer to a claim; the ticket names it, so that one that has run out cannot finish a later one."""

    state: ClaimState
    ticket: str = ""


class SeenEvents(Protocol):
    """Remembers which events were handled, and who is at which."""

    def claim(self, key: str, *, now: float, lease_s: float) -> Claim:
        """Take an event that nobody has handled or is handling."""
        ...

    def finish(self, key: str, ticket: str, *, now: float) -> None:
        """Remember that the event was handled; a ticket that has run out and was taken over changes nothing."""
        ...

    def release(self, key: str, ticket: str) -> None:
        """Give a claim back, because handling failed."""
        ...


def key_of(event: Mapping[str, object]) -> str:
    """Return the identity of an event in either schema; raises ValueError if it has none.

    >>> key_of({"specversion": "1.0", "source": "/tidegate/prod", "id": "r-1.1.completed"})
    '/tidegate/prod r-1.1.completed'
    """
    source = event.get("source" if "specversion" in event else "topic")
    event_id = event.get("id")
    if not isinstance(source, str) or not isinstance(event_id, str) or not event_id:
        raise ValueError("an event needs a text as id, and one as source (CloudEvents) or topic (Event Grid)")
    return f"{source} {event_id}"


def handle_once(
    store: SeenEvents,
    key: str,
    handle: Callable[[], object],
    *,
    order: Order = Order.HANDLE_THEN_MARK,
    lease_s: float = _LEASE_S,
    clock: Callable[[], float] = time.time,
) -> Handled:
    """Handle the event unless that was done; an error of `handle` passes, and the next delivery handles it.

    Args:
        store: Where handled events are remembered.
        key: The event's identity.
        handle: What to do; shall take less than `lease_s`.
        order: What a crash in between may cost.
        lease_s: After how long a claim whose process died is taken over.
        clock: The time in seconds.
    """
    claim = store.claim(key, now=clock(), lease_s=lease_s)
    if claim.state is ClaimState.DONE:
        return Handled.REPEATED
    if claim.state is ClaimState.BUSY:
        return Handled.BUSY
    if order is Order.MARK_THEN_HANDLE:
        store.finish(key, claim.ticket, now=clock())
        handle()
        return Handled.HANDLED
    try:
        handle()
    except Exception:
        store.release(key, claim.ticket)
        raise
    store.finish(key, claim.ticket, now=clock())
    return Handled.HANDLED


class SqliteSeenEvents:
    """Remembers events in one SQLite file: for a service on one machine.

    Args:
        path: The file; it is made if it is not there.
        retention_s: For how long a handled event is remembered.
        max_events: Beyond so many, the oldest are forgotten before their time.
    """

    def __init__(self, path: Path | str, *, retention_s: float = _RETENTION_S, max_events: int = 1_000_000) -> None:
        self._path = str(path)
        self._retention_s = retention_s
        self._max_events = max_events
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS seen_events (number INTEGER PRIMARY KEY AUTOINCREMENT, "
                "key TEXT NOT NULL UNIQUE, ticket TEXT NOT NULL, lease_until REAL NOT NULL, done_at REAL)"
            )
            connection.execute("CREATE INDEX IF NOT EXISTS seen_events_done ON seen_events (done_at)")

    def claim(self, key: str, *, now: float, lease_s: float) -> Claim:
        """Take an event that nobody has handled or is handling, and forget some that are old."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")  # one claims at a time
            self._forget(connection, now)
            row = connection.execute("SELECT lease_until, done_at FROM seen_events WHERE key = ?", (key,)).fetchone()
            if row is not None and row[1] is not None:
                claim = Claim(state=ClaimState.DONE)
            elif row is not None and now < row[0]:
                claim = Claim(state=ClaimState.BUSY)
            else:
                claim = Claim(state=ClaimState.MINE, ticket=uuid.uuid4().hex)
                connection.execute(
                    _CLAIM, {"key": key, "ticket": claim.ticket, "lease_until": now + lease_s, "done_at": None}
                )
            connection.execute("COMMIT")
        return claim

    def finish(self, key: str, ticket: str, *, now: float) -> None:
        """Remember that the event was handled."""
        with self._connection() as connection:
            connection.execute(
                "UPDATE seen_events SET done_at = ? WHERE key = ? AND ticket = ? AND done_at IS NULL",
                (now, key, ticket),
            )

    def release(self, key: str, ticket: str) -> None:
        """Give a claim back."""
        with self._connection() as connection:
            connection.execute(
                "DELETE FROM seen_events WHERE key = ? AND ticket = ? AND done_at IS NULL", (key, ticket)
            )

    @contextmanager
    def transaction(self, key: str, *, now: float) -> Iterator[sqlite3.Connection | None]:
        """Yield a connection whose transaction also marks the event, or None if it was handled.

        What is changed through the connection is there exactly if the event is marked: exactly once, within this file.
        """
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")  # a second delivery waits here until the first has ended
            self._forget(connection, now)
            row = connection.execute("SELECT done_at FROM seen_events WHERE key = ?", (key,)).fetchone()
            if row is not None and row[0] is not None:
                connection.execute("COMMIT")
                yield None
                return
            connection.execute(_CLAIM, {"key": key, "ticket": "", "lease_until": 0.0, "done_at": now})
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _forget(self, connection: sqlite3.Connection, now: float) -> None:
        """Forget a bounded number of events that are too old or too many."""
        connection.execute(
            "DELETE FROM seen_events WHERE number IN "
            "(SELECT number FROM seen_events WHERE done_at < ? ORDER BY done_at LIMIT ?)",
            (now - self._retention_s, _PURGED_A_CLAIM),
        )
        connection.execute(  # numbers only grow, so the last `max_events` of them are that many events at most
            "DELETE FROM seen_events WHERE number IN (SELECT number FROM seen_events WHERE done_at IS NOT NULL "
            "AND number <= (SELECT MAX(number) FROM seen_events) - ? ORDER BY number LIMIT ?)",
            (self._max_events - 1, _PURGED_A_CLAIM),
        )

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=30, isolation_level=None)) as connection:
            yield connection


class TableSeenEvents:
    """Remembers events in an Azure table: for a service on many machines, such as a Function.

    Args:
        table: An `azure.data.tables.TableClient` of a table that is there.
        retention_s: For how long a handled event is remembered; `purge` forgets the older ones.
    """

    def __init__(self, table: Any, *, retention_s: float = _RETENTION_S) -> None:
        self._table = table
        self._retention_s = retention_s

    def claim(self, key: str, *, now: float, lease_s: float) -> Claim:
        """Take an event that nobody has handled or is handling, by compare-and-set."""
        from azure.core import MatchConditions
        from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError

        partition, row = _place_of(key)
        ticket = uuid.uuid4().hex
        wanted = {
            "PartitionKey": partition,
            "RowKey": row,
            "ticket": ticket,
            "lease_until": now + lease_s,
            "done_at": 0.0,
        }
        try:
            self._table.create_entity(wanted)
        except ResourceExistsError:
            pass
        else:
            return Claim(state=ClaimState.MINE, ticket=ticket)
        try:
            found = self._table.get_entity(partition, row)
            if found["done_at"]:
                return Claim(state=ClaimState.DONE)
            if now < found["lease_until"]:
                return Claim(state=ClaimState.BUSY)
            self._table.update_entity(
                wanted, mode="replace", etag=found.metadata["etag"], match_condition=MatchConditions.IfNotModified
            )
        except (ResourceModifiedError, ResourceNotFoundError):
            return Claim(state=ClaimState.BUSY)  # someone was faster; the next delivery sees what became of it
        return Claim(state=ClaimState.MINE, ticket=ticket)

    def finish(self, key: str, ticket: str, *, now: float) -> None:
        """Remember that the event was handled."""
        self._change(key, ticket, lambda entity: {**entity, "done_at": now})

    def release(self, key: str, ticket: str) -> None:
        """Give a claim back: it runs out at once."""
        self._change(key, ticket, lambda entity: {**entity, "lease_until": 0.0})

    def purge(self, *, now: float, limit: int = 1000) -> int:
        """Forget handled events that are too old, `limit` of them at most; return how many. For a timer."""
        query = "done_at gt 0.0 and done_at lt @until"
        old = self._table.query_entities(
            query, parameters={"until": now - self._retention_s}, select=["PartitionKey", "RowKey"]
        )
        count = 0
        for entity in old:
            if count == limit:
                break
            self._table.delete_entity(entity["PartitionKey"], entity["RowKey"])
            count += 1
        return count

    def _change(self, key: str, ticket: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        from azure.core import MatchConditions
        from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError

        try:
            found = self._table.get_entity(*_place_of(key))
            if found["ticket"] != ticket or found["done_at"]:
                return  # the claim ran out and was taken over
            self._table.update_entity(
                change(dict(found)),
                mode="replace",
                etag=found.metadata["etag"],
                match_condition=MatchConditions.IfNotModified,
            )
        except (ResourceModifiedError, ResourceNotFoundError):
            return  # likewise


def _place_of(key: str) -> tuple[str, str]:
    """Return partition and row of an event: spread over 256 partitions, whatever its id looks like."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    return digest[:2], digest
