"""Holds the stores of the subscriber's helper to one suite, on SQLite and on an Azure table."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from azure.data.tables import TableServiceClient

from samples.subscriber.dedupe import (
    ClaimState,
    Handled,
    Order,
    SeenEvents,
    SqliteSeenEvents,
    TableSeenEvents,
    handle_once,
)
from tests.support.storage_ports import fresh_name

KEY = "/tidegate/prod r-1/#? ü.1.completed"
NOW = 1_000_000.0


class ProcessDiedError(BaseException):
    """The process is gone; nothing in it can catch this."""


@pytest.fixture(params=["sqlite", pytest.param("azurite", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SeenEvents]:
    if request.param == "sqlite":
        yield SqliteSeenEvents(tmp_path / "seen.db", retention_s=100)
        return
    connection = request.getfixturevalue("azurite").connection_string
    with TableServiceClient.from_connection_string(connection) as service:
        yield TableSeenEvents(service.create_table(fresh_name("seen")), retention_s=100)


def test_an_event_is_claimed_by_one_until_it_is_done(store: SeenEvents) -> None:
    first = store.claim(KEY, now=NOW, lease_s=60)
    second = store.claim(KEY, now=NOW + 59, lease_s=60)
    store.finish(KEY, first.ticket, now=NOW + 59)
    third = store.claim(KEY, now=NOW + 90, lease_s=60)

    assert [claim.state for claim in (first, second, third)] == [ClaimState.MINE, ClaimState.BUSY, ClaimState.DONE]
    assert store.claim("another", now=NOW, lease_s=60).state is ClaimState.MINE


def test_a_claim_that_ran_out_is_taken_over_and_cannot_finish_the_later_one(store: SeenEvents) -> None:
    """A worker that was asleep for longer than its lease must not mark, or release, what another one handles now."""
    slow = store.claim(KEY, now=NOW, lease_s=60)
    later = store.claim(KEY, now=NOW + 60, lease_s=60)

    store.finish(KEY, slow.ticket, now=NOW + 61)
    store.release(KEY, slow.ticket)

    assert later.state is ClaimState.MINE
    assert store.claim(KEY, now=NOW + 62, lease_s=60).state is ClaimState.BUSY
    store.finish(KEY, later.ticket, now=NOW + 63)
    assert store.claim(KEY, now=NOW + 64, lease_s=60).state is ClaimState.DONE


def test_a_released_claim_is_free_at_once_and_a_finished_one_stays(store: SeenEvents) -> None:
    claim = store.claim(KEY, now=NOW, lease_s=60)
    store.release(KEY, claim.ticket)
    again = store.claim(KEY, now=NOW + 1, lease_s=60)
    store.finish(KEY, again.ticket, now=NOW + 1)
    store.release(KEY, again.ticket)

    assert again.state is ClaimState.MINE
    assert store.claim(KEY, now=NOW + 2, lease_s=60).state is ClaimState.DONE


def test_deliveries_at_once_are_handled_once(store: SeenEvents) -> None:
    """R55: eight threads have the same five events; each is handled by one of them, the others find it busy or done."""
    handled: Counter[str] = Counter()
    outcomes: list[Handled] = []
    lock, start = threading.Lock(), threading.Barrier(8)

    def handle(key: str) -> None:
        with lock:
            handled[key] += 1

    def deliver() -> None:
        start.wait(10)
        for number in range(5):
            outcome = handle_once(store, f"event {number}", lambda number=number: handle(f"event {number}"))  # type: ignore[misc] # bound now
            with lock:
                outcomes.append(outcome)

    threads = [threading.Thread(target=deliver) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert handled == {f"event {number}": 1 for number in range(5)}
    assert Counter(outcomes)[Handled.HANDLED] == 5
    assert len(outcomes) == 40


def test_an_error_passes_and_the_next_delivery_handles_the_event(store: SeenEvents) -> None:
    def fail() -> None:
        raise RuntimeError("the database is away")

    with pytest.raises(RuntimeError, match="away"):
        handle_once(store, KEY, fail)

    assert handle_once(store, KEY, lambda: None) is Handled.HANDLED
    assert handle_once(store, KEY, fail) is Handled.REPEATED


def die() -> None:
    raise ProcessDiedError


@pytest.mark.parametrize(
    ("order", "at_once", "after_the_lease"),
    [
        (Order.HANDLE_THEN_MARK, Handled.BUSY, Handled.HANDLED),
        (Order.MARK_THEN_HANDLE, Handled.REPEATED, Handled.REPEATED),
    ],
)
def test_what_a_crash_costs_is_chosen_by_the_order(
    store: SeenEvents, order: Order, at_once: Handled, after_the_lease: Handled
) -> None:
    """At least once, or at most once; nobody gets both across two systems."""
    with pytest.raises(ProcessDiedError):
        handle_once(store, KEY, die, order=order, lease_s=60, clock=lambda: NOW)
    deliver: Callable[[float], Handled] = lambda at: handle_once(  # noqa: E731 - the same call at two times
        store, KEY, lambda: None, order=order, lease_s=60, clock=lambda: at
    )

    assert deliver(NOW + 1) is at_once
    assert deliver(NOW + 61) is after_the_lease


def test_handled_events_are_forgotten_after_their_retention_and_not_before(store: SeenEvents) -> None:
    for number, at in enumerate((NOW, NOW + 50)):
        handle_once(store, f"event {number}", lambda: None, clock=lambda at=at: at)  # type: ignore[misc] # bound now
    unfinished = store.claim("unfinished", now=NOW, lease_s=1)

    if isinstance(store, TableSeenEvents):
        assert store.purge(now=NOW + 120) == 1
    states = [store.claim(f"event {number}", now=NOW + 120, lease_s=60).state for number in (0, 1)]

    assert unfinished.state is ClaimState.MINE
    assert states == [ClaimState.MINE, ClaimState.DONE]
