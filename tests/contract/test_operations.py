"""Holds the log of operations, on tables in memory and on Azurite, to one suite."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from functions.adapters.table_operations import TableOperations
from functions.adapters.tables import AzureTables
from functions.core.replays import Replay
from tests.support.in_memory import InMemoryTables
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
