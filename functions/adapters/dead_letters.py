"""Keeps, lists and reads what was given up: quarantined messages and the dead letters of Event Grid."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice

from functions.adapters.azure_errors import azure_errors
from functions.adapters.blobs import BlobQuarantine
from functions.adapters.storage import StorageAccount
from functions.core.dead_letters import MAX_DEAD_LETTER_BYTES
from functions.core.errors import NotFoundError, StorageUnavailableError

__all__ = ["BlobDeadLetters"]


class BlobDeadLetters(BlobQuarantine):
    """Implements `Quarantine` on the container into which Event Grid writes its dead letters too."""

    def __init__(self, storage: StorageAccount, *, container: str) -> None:
        super().__init__(storage, container=container)
        self._storage = storage
        self._container = container

    def read(self, name: str) -> bytes:
        """Return a blob that was kept here; raises NotFoundError."""
        blob = self._storage.blobs().get_blob_client(self._container, name)
        with azure_errors(f"reading {name}", StorageUnavailableError):
            return blob.download_blob(offset=0, length=MAX_DEAD_LETTER_BYTES + 1).readall()

    def list(self, prefix: str, *, limit: int) -> Sequence[tuple[str, datetime]]:
        """Return the first `limit` names with this prefix, in their order, and when each was kept."""
        client = self._storage.blobs().get_container_client(self._container)
        try:
            with azure_errors(f"listing {self._container}/{prefix}", StorageUnavailableError):
                listed = client.list_blobs(name_starts_with=prefix, results_per_page=min(limit, 5000))
                return [(blob.name, blob.last_modified.astimezone(UTC)) for blob in islice(listed, limit)]
        except NotFoundError:  # nothing was ever given up
            return []
