"""Gives contract tests what several suites run on: one Azurite for all, and ledgers in memory and there."""

from collections.abc import Iterator

import pytest

from functions.adapters.table_ledger import TableLedger
from functions.adapters.tables import AzureTables
from tests.support.azurite import Azurite, azurite_running
from tests.support.in_memory import InMemoryTables
from tests.support.storage_ports import fresh_name, storage_of


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    with azurite_running() as running:
        yield running


@pytest.fixture(params=["memory", pytest.param("azurite", marks=pytest.mark.integration)])
def ledger(request: pytest.FixtureRequest) -> Iterator[TableLedger]:
    if request.param == "memory":
        yield TableLedger(InMemoryTables())
        return
    with storage_of(request.getfixturevalue("azurite")) as storage:
        yield TableLedger(AzureTables(storage, prefix=fresh_name("l")))
