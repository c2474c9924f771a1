"""Holds the storage clients of the host, one service client for each connection string."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from local.functions_host.errors import StorageError

if TYPE_CHECKING:
    from azure.storage.blob.aio import BlobClient, BlobServiceClient
    from azure.storage.queue.aio import QueueClient, QueueServiceClient

__all__ = ["StorageClients"]


class StorageClients:
    """Makes queue and blob clients that share connections.

    The SDK is imported in a thread on first use: it takes longer than the host may take to listen.
    """

    def __init__(self) -> None:
        self._queues: dict[str, QueueServiceClient] = {}
        self._blobs: dict[str, BlobServiceClient] = {}
        self._making = asyncio.Lock()  # two listeners must not make the same client twice

    async def queue(self, connection_string: str, queue: str) -> "QueueClient":
        """Return a client of one queue, which sends and receives texts as they are."""
        async with self._making:
            if connection_string not in self._queues:
                self._queues[connection_string] = await asyncio.to_thread(_queue_service, connection_string)
        return self._queues[connection_string].get_queue_client(queue)

    async def send(self, connection_string: str, queue: str, text: str) -> None:
        """Put a message into a queue, creating the queue if need be.

        Raises:
            StorageError: The storage account does not take it.
        """
        from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError

        client = await self.queue(connection_string, queue)
        try:
            try:
                await client.send_message(text)
            except ResourceNotFoundError:
                with contextlib.suppress(ResourceExistsError):
                    await client.create_queue()
                await client.send_message(text)
        except AzureError as error:
            raise StorageError(f"cannot write to the queue {queue!r}: {error}") from error

    async def blob(self, connection_string: str, container: str, blob: str) -> "BlobClient":
        """Return a client of one blob."""
        async with self._making:
            if connection_string not in self._blobs:
                self._blobs[connection_string] = await asyncio.to_thread(_blob_service, connection_string)
        return self._blobs[connection_string].get_blob_client(container, blob)

    async def close(self) -> None:
        """Close every connection."""
        for queues in self._queues.values():
            await queues.close()
        for blobs in self._blobs.values():
            await blobs.close()


# The SDK's own first retry comes after 15 s or more. Without the last, each request looks for a .netrc in a thread.
_RETRIES: Mapping[str, Any] = {
    "initial_backoff": 0,
    "increment_base": 2,
    "retry_total": 3,
    "random_jitter_range": 1,
    "use_env_settings": False,
}


def _queue_service(connection_string: str) -> "QueueServiceClient":
    from azure.storage.queue.aio import QueueServiceClient

    return QueueServiceClient.from_connection_string(connection_string, **_RETRIES)


def _blob_service(connection_string: str) -> "BlobServiceClient":
    from azure.storage.blob.aio import BlobServiceClient

    return BlobServiceClient.from_connection_string(connection_string, **_RETRIES)
