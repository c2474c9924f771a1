"""Makes each storage port twice, in memory and on Azurite, for the contract suites."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

from functions.adapters.storage import StorageAccount
from tests.support.azurite import Azurite

__all__ = ["fresh_name", "storage_of"]

_numbers = itertools.count()


def fresh_name(prefix: str) -> str:
    """Return a name that no other test uses, fit for tables, containers and queues."""
    return f"{prefix}{os.getpid()}x{next(_numbers)}"


@contextmanager
def storage_of(azurite: Azurite) -> Iterator[StorageAccount]:
    """Yield the account of a running Azurite, and close its connections."""
    storage = StorageAccount(connection_string=azurite.connection_string)
    try:
        yield storage
    finally:
        storage.close()
