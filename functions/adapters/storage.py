"""Builds the storage account's clients at first use, on one pool of connections; the ledger's own has another."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from functions.adapters.table_connection import TableConnection, by_account_key, by_token, pool_for

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.data.tables import TableServiceClient
    from azure.storage.blob import BlobServiceClient
    from azure.storage.queue import QueueServiceClient

__all__ = ["StorageAccount"]

_POOL_SIZE: Final = 64


class StorageAccount:
    """One storage account, by connection string (the local cloud) or by name and managed identity (Azure).

    Every client is made once and shared by all threads. A request that is not answered is repeated once, at
    once (a kept connection may have gone stale), but for an insert of the ledger that may be done: other writes are
    compare-and-set, so a repeat that comes second loses harmlessly. More patience is the queue's, not a sleeping
    thread's.
    """

    def __init__(
        self, *, connection_string: str | None = None, account: str | None = None, client_id: str | None = None
    ) -> None:
        if (connection_string is None) == (account is None):
            raise ValueError("expected either a connection string or an account name")
        self._connection_string = connection_string
        self._client_id = client_id
        self._lock = threading.RLock()
        self._clients: dict[str, Any] = {}
        self.account = account or _account_in(connection_string or "")

    @property
    def tables(self) -> "TableServiceClient":
        """The client of Table Storage."""
        return self._once("tables", self._make_tables)

    @property
    def table_connection(self) -> TableConnection:
        """What sends the ledger's own requests to Table Storage; the first use makes it."""
        return self._once("table connection", self._make_table_connection)

    @property
    def queues(self) -> "QueueServiceClient":
        """The client of Queue Storage."""
        return self._once("queues", self._make_queues)

    def blobs(self, account: str | None = None) -> "BlobServiceClient":
        """Return the client of Blob Storage, of this account or, with the managed identity, of another one."""
        name = account or self.account
        return self._once(f"blobs of {name}", lambda: self._make_blobs(name))

    def _make_tables(self) -> "TableServiceClient":
        from azure.data.tables import TableServiceClient

        # A Retry-After is not slept through here: the work goes back to its queue instead.
        options: dict[str, Any] = {"transport": self._transport, "retry_total": 1, "retry_status": 0}
        if self._connection_string is not None:
            return TableServiceClient.from_connection_string(self._connection_string, **options)
        return TableServiceClient(
            f"https://{self.account}.table.core.windows.net", credential=self._credential, **options
        )

    def _make_table_connection(self) -> TableConnection:
        if self._connection_string is None:
            url, signature = f"https://{self.account}.table.core.windows.net", by_token(self._credential)
        else:
            url = _table_url_in(self._connection_string)
            signature = by_account_key(self.account, _part_of(self._connection_string, "AccountKey"))
        return TableConnection(url, pool_for(url, size=_POOL_SIZE), signature)

    def _make_queues(self) -> "QueueServiceClient":
        from azure.storage.queue import LinearRetry, QueueServiceClient

        retry = LinearRetry(backoff=0, random_jitter_range=0, retry_total=1)
        options: dict[str, Any] = {"transport": self._transport, "retry_policy": retry}
        if self._connection_string is not None:
            return QueueServiceClient.from_connection_string(self._connection_string, **options)
        return QueueServiceClient(
            f"https://{self.account}.queue.core.windows.net", credential=self._credential, **options
        )

    def _make_blobs(self, account: str) -> "BlobServiceClient":
        from azure.storage.blob import BlobServiceClient, LinearRetry

        retry = LinearRetry(backoff=0, random_jitter_range=0, retry_total=1)
        options: dict[str, Any] = {"transport": self._transport, "retry_policy": retry}
        if self._connection_string is not None and account == self.account:
            return BlobServiceClient.from_connection_string(self._connection_string, **options)
        return BlobServiceClient(f"https://{account}.blob.core.windows.net", credential=self._credential, **options)

    @property
    def _credential(self) -> "TokenCredential":
        return self._once("credential", self._make_credential)

    def _make_credential(self) -> "TokenCredential":
        from azure.identity import ManagedIdentityCredential

        return ManagedIdentityCredential(
            client_id=self._client_id, retry_total=1, connection_timeout=10, read_timeout=10
        )

    @property
    def _transport(self) -> Any:  # typed by the SDKs as **kwargs
        return self._once("transport", _make_transport)

    def _once[C](self, key: str, make: Callable[[], C]) -> C:
        with self._lock:
            if key not in self._clients:
                self._clients[key] = make()
            client: C = self._clients[key]
            return client

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            transport = self._clients.pop("transport", None)
            connection: TableConnection | None = self._clients.pop("table connection", None)
            self._clients.clear()
        if connection is not None:
            connection.close()
        if transport is not None:
            transport.session.close()


def _make_transport() -> Any:
    """Return one transport whose session every client shares; the clients never close it."""
    import requests
    from azure.core.pipeline.transport import RequestsTransport
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    session.auth = _leave_signed
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=_POOL_SIZE, max_retries=0))
    return RequestsTransport(session=session, session_owner=False, connection_timeout=5, read_timeout=15)


def _leave_signed(request: Any) -> Any:
    """Leave a request as its client signed it.

    Without this, `requests` looks for a .netrc each time, and an entry there that fits replaces the signature.
    """
    return request


def _account_in(connection_string: str) -> str:
    return _part_of(connection_string, "AccountName")


def _table_url_in(connection_string: str) -> str:
    """Return where the SDK's client looks, which heeds a protocol only beside a suffix."""
    parts = _parts_of(connection_string)
    url = parts.get("tableendpoint")
    if url is None:
        suffix = parts.get("endpointsuffix")
        scheme = parts.get("defaultendpointsprotocol", "https") if suffix is not None else "https"
        url = f"{scheme}://{_account_in(connection_string)}.table.{suffix or 'core.windows.net'}"
    place = urlsplit(url if url.lower().startswith("http") else f"https://{url}")
    return f"{place.scheme}://{place.netloc}{place.path.rstrip('/')}"  # a signature may follow


def _parts_of(connection_string: str) -> dict[str, str]:
    parts = (part.split("=", 1) for part in connection_string.strip().split(";") if "=" in part)
    return {name.lower(): value for name, value in parts}


def _part_of(connection_string: str, name: str) -> str:
    parts = _parts_of(connection_string)
    if name.lower() not in parts:
        raise ValueError(f"expected {name} in the storage connection string")
    return parts[name.lower()]
