"""Holds the log of operations, on tables in memory and on Azurite, to one suite."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from functions.adapters.table_operations import TableOperations
from functions.adapters.tables import AzureTables
from functions.core.backfills import BackfillState, Counts
from functions.core.errors import LedgerConflictError
from functions.core.replays import Replay
from tests.support.in_memory import InMemoryTables
from tests.support.records import make_backfill
from tests.support.storage_ports import fresh_name, storage_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["memory", pytest.param("azurite", marks=pytest.mark.integration)])
def operations(request: pytest.FixtureRequest) -> Iterator[TableOperations]:
    if request.param == "memory":
        yield TableOperations(InMemoryTables())
        return
    with storage_of(request.getfixturevalue("azurite")) as storage:
        yield TableOperations(AzureTables(storage, prefix=fresh_name("o")))


def test_the_first_replay_of_an_id_stays_and_so_does_its_first_account(operations: TableOperations) -> None:
    first = Replay(id="a" * 64, target="run:r", actor="ann", requested_at=NOON)
    other = replace(first, target="run:s", actor="bob")

    assert operations.claim_replay(first) == first
    assert operations.claim_replay(other) == first
    done = replace(first, done_at=NOON, did=("began attempt 2",), did_not=("nothing",))
    operations.finish_replay(done)
    operations.finish_replay(replace(done, did=("something else",)))
    assert operations.claim_replay(first) == done


def test_a_backfill_moves_on_by_compare_and_set(operations: TableOperations) -> None:
    entry, is_new = operations.claim_backfill(make_backfill(prefix="naïve #1/"))
    again, is_new_again = operations.claim_backfill(make_backfill(created_at=NOON + timedelta(1)))

    updated = operations.update_backfill(entry, replace(entry.value, counts=Counts(new=2), continuation="next page"))

    assert (is_new, is_new_again, again.value) == (True, False, entry.value)
    with pytest.raises(LedgerConflictError):
        operations.update_backfill(entry, entry.value)
    assert operations.get_backfill(entry.value.id) == updated
    assert operations.get_backfill("none") is None


def test_the_index_has_the_active_ones_only(operations: TableOperations) -> None:
    entry, _ = operations.claim_backfill(make_backfill())
    operations.claim_backfill(make_backfill(id="f" * 16))

    stopped = operations.update_backfill(entry, replace(entry.value, state=BackfillState.STOPPED))
    while_stopped = [found.value.id for found in operations.active_backfills()]
    operations.update_backfill(stopped, replace(stopped.value, state=BackfillState.RUNNING))

    assert while_stopped == ["f" * 16]
    assert [found.value.id for found in operations.active_backfills()] == [entry.value.id, "f" * 16]


def test_backfills_are_listed_latest_first(operations: TableOperations) -> None:
    assert list(operations.backfills(limit=5)) == []
    for number in range(3):
        operations.claim_backfill(make_backfill(id=f"{number}" * 16, created_at=NOON + timedelta(minutes=number)))

    assert [backfill.id[0] for backfill in operations.backfills(limit=2)] == ["2", "1"]
