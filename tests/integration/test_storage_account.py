"""The storage account's clients, on a real Azurite."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.adapters.storage import StorageAccount
from functions.adapters.tables import AzureTables
from tests.support.azurite import Azurite, azurite_running
from tests.support.storage_ports import fresh_name, storage_of

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    with azurite_running() as running:
        yield running


@pytest.fixture
def storage(azurite: Azurite) -> Iterator[StorageAccount]:
    with storage_of(azurite) as account:
        yield account


def test_a_netrc_on_the_machine_does_not_replace_the_signature(
    storage: StorageAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of none of the clients, nor of the requests that the ledger makes itself."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))

    name = fresh_name("n")
    storage.queues.get_queue_client(name).create_queue()
    storage.queues.get_queue_client(name).send_message("hello")
    storage.blobs().create_container(name)
    storage.blobs().get_blob_client(name, "a").upload_blob(b"hello")
    table = AzureTables(storage, prefix=name).table("rows")
    table.insert("p", "k", {"who": "first"})

    row = table.get("p", "k")
    assert row is not None
    assert row.values == {"who": "first"}
    assert [item.name for item in storage.blobs().get_container_client(name).list_blobs()] == ["a"]
