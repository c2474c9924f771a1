"""Keeps events, deliveries and subscriptions in SQLite, so that none is lost when the process dies."""

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from local.event_grid.events import EventSchema, NewEvent
from local.event_grid.wire import JsonObject

__all__ = ["Delivery", "DeliveryState", "Store"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, source TEXT NOT NULL, schema TEXT NOT NULL,
    body TEXT NOT NULL, accepted_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_id ON events (id);
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, event_seq INTEGER NOT NULL REFERENCES events (seq) ON DELETE CASCADE,
    subscription TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL,
    published_at REAL NOT NULL, last_attempt_at REAL, last_outcome TEXT, last_status INTEGER, reason TEXT);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (subscription, due)
    WHERE state IN ('pending', 'dead_lettering');
CREATE INDEX IF NOT EXISTS deliveries_by_event ON deliveries (event_seq);
CREATE TABLE IF NOT EXISTS subscriptions (
    key TEXT PRIMARY KEY, name TEXT NOT NULL, source TEXT NOT NULL, resource_id TEXT NOT NULL, state TEXT NOT NULL,
    validation_code TEXT NOT NULL, state_since REAL NOT NULL, properties TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
KEPT_SETTLED_EVENTS: Final = 20_000


class DeliveryState(StrEnum):
    """Where the delivery of one event to one subscription stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD_LETTERING = "dead_lettering"  # given up, waits for its blob to be written
    DEAD_LETTERED = "dead_lettered"
    DROPPED = "dropped"  # given up, no dead-letter destination
    LOST = "lost"  # by a scripted fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to one subscription."""

    id: int
    subscription: str
    state: DeliveryState
    attempts: int
    due: float
    published_at: float
    last_attempt_at: float | None
    last_outcome: str | None
    last_status: int | None
    reason: str | None
    event: NewEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSubscription:
    """A subscription made at run time, as it is kept."""

    name: str
    source: str
    resource_id: str
    state: str
    validation_code: str
    state_since: float
    properties: JsonObject


_COLUMNS: Final = (
    "d.id, d.subscription, d.state, d.attempts, d.due, d.published_at, d.last_attempt_at, d.last_outcome, "
    "d.last_status, d.reason, e.source, e.schema, e.body FROM deliveries d JOIN events e ON e.seq = d.event_seq"
)


class Store:
    """The emulator's memory. Every method is one transaction: it happened entirely, or not at all."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(folder / "event-grid.sqlite3", isolation_level=None, check_same_thread=False)
        self._lock = threading.Lock()
        self._db.execute("PRAGMA journal_mode=WAL")
        # NORMAL loses nothing when the process is killed, only when the machine loses power.
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA foreign_keys=ON")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def accept(
        self, events: Sequence[tuple[NewEvent, Sequence[str]]], *, now: float, counter: tuple[str, int] | None = None
    ) -> None:
        """Keep each event with a pending delivery for each of its subscriptions, and a counter's new value."""
        with self._transaction() as db:
            for event, subscriptions in events:
                row = (event.id, event.source, event.schema.value, json.dumps(event.body, ensure_ascii=False), now)
                seq = db.execute(
                    "INSERT INTO events (id, source, schema, body, accepted_at) VALUES (?,?,?,?,?)", row
                ).lastrowid
                db.executemany(
                    "INSERT INTO deliveries (event_seq, subscription, state, due, published_at) VALUES (?,?,?,?,?)",
                    [(seq, key, DeliveryState.PENDING.value, now, now) for key in subscriptions],
                )
            if counter is not None:
                db.execute(
                    "INSERT INTO counters VALUES (?,?) "
                    "ON CONFLICT (name) DO UPDATE SET value = MAX(value, excluded.value)",
                    counter,
                )

    def counter(self, name: str) -> int:
        """Return the counter's last kept value, 0 if there is none."""
        row = self._db.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def due(self, subscription: str, *, now: float, limit: int) -> list[Delivery]:
        """Return deliveries and dead letters of the subscription whose time has come, oldest first."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} WHERE d.subscription = ? AND d.state IN ('pending', 'dead_lettering') AND d.due <= ? "
            "ORDER BY d.due, d.id LIMIT ?",
            (subscription, now, limit),
        )
        return [_delivery(row) for row in rows.fetchall()]

    def next_due(self, subscription: str, *, after: float) -> float | None:
        """Return when the subscription has something to do next."""
        row = self._db.execute(
            "SELECT MIN(due) FROM deliveries "
            "WHERE subscription = ? AND state IN ('pending', 'dead_lettering') AND due > ?",
            (subscription, after),
        ).fetchone()
        return None if row[0] is None else float(row[0])

    def settle(
        self,
        ids: Sequence[int],
        state: DeliveryState,
        *,
        due: float | None = None,
        attempted_at: float | None = None,
        outcome: str | None = None,
        status: int | None = None,
        reason: str | None = None,
    ) -> None:
        """Write what became of an attempt; `attempted_at` counts it as one."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE deliveries SET state = ?, due = COALESCE(?, due), attempts = attempts + (? IS NOT NULL), "
                "last_attempt_at = COALESCE(?, last_attempt_at), last_outcome = COALESCE(?, last_outcome), "
                "last_status = COALESCE(?, last_status), reason = COALESCE(?, reason) WHERE id = ?",
                [(state.value, due, attempted_at, attempted_at, outcome, status, reason, key) for key in ids],
            )

    def repeat(self, ids: Sequence[int], *, copies: int, now: float) -> None:
        """Add pending copies of deliveries, as at-least-once allows."""
        with self._transaction() as db:
            for key in ids:
                db.executemany(
                    "INSERT INTO deliveries (event_seq, subscription, state, due, published_at) "
                    "SELECT event_seq, subscription, 'pending', ?, ? FROM deliveries WHERE id = ?",
                    [(now, now, key)] * copies,
                )

    def redeliver(self, event_id: str, *, copies: int, subscription: str | None, now: float) -> int:
        """Add pending deliveries of the latest event with this id to the subscriptions it went to; return how many."""
        with self._transaction() as db:
            row = db.execute("SELECT MAX(seq) FROM events WHERE id = ?", (event_id,)).fetchone()
            keys = db.execute("SELECT DISTINCT subscription FROM deliveries WHERE event_seq = ?", (row[0],)).fetchall()
            wanted = [key for (key,) in keys if subscription is None or subscription in (key, key.partition("/")[2])]
            db.executemany(
                "INSERT INTO deliveries (event_seq, subscription, state, due, published_at) VALUES (?,?,'pending',?,?)",
                [(row[0], key, now, now) for key in wanted for _ in range(copies)],
            )
        return len(wanted) * copies

    def deliveries(self, *, event_id: str | None, subject_contains: str | None, limit: int) -> list[Delivery]:
        """Return the latest deliveries, newest first."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} WHERE (? IS NULL OR e.id = ?) "
            "AND (? IS NULL OR instr(json_extract(e.body, '$.subject'), ?) > 0) ORDER BY d.id DESC LIMIT ?",
            (event_id, event_id, subject_contains, subject_contains, limit),
        )
        return [_delivery(row) for row in rows.fetchall()]

    def drop_pending_of(self, subscription: str) -> None:
        """Give up what a deleted subscription still waits for."""
        with self._transaction() as db:
            db.execute(
                "UPDATE deliveries SET state = 'dropped' "
                "WHERE subscription = ? AND state IN ('pending', 'dead_lettering')",
                (subscription,),
            )

    def drop_pending_except(self, subscriptions: Sequence[str]) -> None:
        """Give up what waits for subscriptions that are no more."""
        known = json.dumps(list(subscriptions))
        with self._transaction() as db:
            db.execute(
                "UPDATE deliveries SET state = 'dropped' WHERE state IN ('pending', 'dead_lettering') "
                "AND subscription NOT IN (SELECT value FROM json_each(?))",
                (known,),
            )

    def forget_settled(self, *, keep: int = KEPT_SETTLED_EVENTS) -> None:
        """Delete the oldest events beyond `keep`, unless something of them is still pending."""
        with self._transaction() as db:
            db.execute(
                "DELETE FROM events WHERE seq <= (SELECT MAX(seq) FROM events) - ? AND seq NOT IN "
                "(SELECT event_seq FROM deliveries WHERE state IN ('pending', 'dead_lettering'))",
                (keep,),
            )

    def keep_subscription(self, key: str, item: StoredSubscription) -> None:
        """Keep a subscription made at run time."""
        row = (
            key, item.name, item.source, item.resource_id, item.state, item.validation_code, item.state_since,
            json.dumps(item.properties),
        )  # fmt: skip
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO subscriptions VALUES (?,?,?,?,?,?,?,?)", row)

    def forget_subscription(self, key: str) -> None:
        """Forget a subscription made at run time."""
        with self._transaction() as db:
            db.execute("DELETE FROM subscriptions WHERE key = ?", (key,))

    def subscriptions(self) -> list[StoredSubscription]:
        """Return the subscriptions made at run time."""
        rows = self._db.execute(
            "SELECT name, source, resource_id, state, validation_code, state_since, properties FROM subscriptions"
        )
        return [
            StoredSubscription(
                name=name, source=source, resource_id=resource_id, state=state, validation_code=code,
                state_since=since, properties=json.loads(properties),
            )
            for name, source, resource_id, state, code, since, properties in rows.fetchall()
        ]  # fmt: skip


def _delivery(row: Sequence[object]) -> Delivery:
    (
        key,
        subscription,
        state,
        attempts,
        due,
        published_at,
        attempted_at,
        outcome,
        status,
        reason,
        source,
        schema,
        body,
    ) = row
    return Delivery(
        id=int(str(key)),
        subscription=str(subscription),
        state=DeliveryState(str(state)),
        attempts=int(str(attempts)),
        due=float(str(due)),
        published_at=float(str(published_at)),
        last_attempt_at=None if attempted_at is None else float(str(attempted_at)),
        last_outcome=None if outcome is None else str(outcome),
        last_status=None if status is None else int(str(status)),
        reason=None if reason is None else str(reason),
        event=NewEvent(source=str(source), schema=EventSchema(str(schema)), body=json.loads(str(body))),
    )
