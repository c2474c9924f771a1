"""Reads and writes blobs with azure-storage-blob, locally by account key and on Azure by a service credential."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import BlobClient, BlobLeaseClient, BlobServiceClient

from tidegate_mlops.errors import InvalidEnvironmentError, RunError, SupersededError
from tidegate_mlops.ports import Blob, BlobFacts
from tidegate_mlops.urls import BlobUrl

__all__ = ["AzureBlobStore"]

_LOCK_S: Final = 60  # the longest a fixed lease may be; a holder that dies is forgotten after it
_LOCK_WAIT_S: Final = 120.0
_LOCK_PAUSE_S: Final = 0.5


class AzureBlobStore:
    """A `BlobStore` over one client per storage account, made when first needed.

    Args:
        endpoints: blob endpoint by account, where it is not Azure's.
        credential: gives the credential for an account: an account key's mapping, or a token credential.
    """

    def __init__(self, endpoints: Mapping[str, str], credential: Callable[[str], Any]) -> None:
        self._endpoints = endpoints
        self._credential = credential
        self._clients: dict[str, BlobServiceClient] = {}

    def facts(self, url: BlobUrl) -> BlobFacts | None:
        """Return the blob's present version, or None if there is none."""
        try:
            properties = self._blob(url).get_blob_properties()
        except ResourceNotFoundError:
            return None
        return BlobFacts(url=url, etag=_bare(properties.etag), size_bytes=properties.size)

    def read(self, url: BlobUrl) -> Blob | None:
        """Return the blob's content, or None if there is none."""
        try:
            stream = self._blob(url).download_blob()
        except ResourceNotFoundError:
            return None
        return Blob(data=stream.readall(), etag=_bare(stream.properties.etag))

    def read_range(self, url: BlobUrl, *, offset: int, length: int, etag: str) -> bytes:
        """Return some bytes of exactly this version; raises SupersededError if it is no longer there."""
        try:
            stream = self._blob(url).download_blob(
                offset=offset, length=length, etag=_quoted(etag), match_condition=MatchConditions.IfNotModified
            )
            content: bytes = stream.readall()
        except (ResourceModifiedError, ResourceNotFoundError) as error:
            found = self.facts(url)
            raise SupersededError(str(url), etag, found.etag if found else None) from error
        return content

    def create(self, url: BlobUrl, data: bytes) -> str | None:
        """Write a blob that must not exist, and return its ETag; None if one exists."""
        try:
            written = self._blob(url).upload_blob(data, overwrite=False)
        except ResourceExistsError:
            return None
        return _bare(written["etag"])

    def replace(self, url: BlobUrl, data: bytes, *, etag: str) -> str | None:
        """Overwrite exactly this version, and return the new ETag; None if the blob has changed."""
        try:
            written = self._blob(url).upload_blob(
                data, overwrite=True, etag=_quoted(etag), match_condition=MatchConditions.IfNotModified
            )
        except (ResourceModifiedError, ResourceNotFoundError):
            return None
        return _bare(written["etag"])

    def put(self, url: BlobUrl, data: bytes) -> None:
        """Write a blob whatever was there."""
        self._blob(url).upload_blob(data, overwrite=True)

    def list_folder(self, folder: BlobUrl) -> Sequence[BlobFacts]:
        """Return all blobs below the folder by name; folder markers are left out."""
        return [facts for facts, is_marker in self._below(folder) if not is_marker]

    def delete_folder(self, folder: BlobUrl) -> None:
        """Delete all blobs below the folder, and its markers, deepest first; harmless if there is nothing."""
        urls = [facts.url for facts, _ in self._below(folder)]
        for url in [*sorted(urls, key=lambda url: url.path.count("/"), reverse=True), folder]:
            try:
                self._blob(url).delete_blob()
            except ResourceNotFoundError:
                continue

    @contextmanager
    def lock(self, url: BlobUrl) -> Iterator[None]:
        """Hold a lease on the blob; waits for another holder for up to two minutes."""
        blob = self._blob(url)
        self.create(url, b"")
        deadline = time.monotonic() + _LOCK_WAIT_S
        while (lease := _lease(blob)) is None:
            if time.monotonic() > deadline:
                raise RunError(f"another run has held {url} for more than {_LOCK_WAIT_S:g} s")
            time.sleep(_LOCK_PAUSE_S)
        try:
            yield
        finally:
            with suppress(
                ResourceExistsError, ResourceNotFoundError
            ):  # it ended by itself, and perhaps is another's now
                lease.release()

    def _below(self, folder: BlobUrl) -> Iterator[tuple[BlobFacts, bool]]:
        container = self._service(folder.account).get_container_client(folder.container)
        for blob in container.list_blobs(name_starts_with=f"{folder.path}/", include=["metadata"]):
            is_marker = (blob.metadata or {}).get("hdi_isfolder", "").lower() == "true"
            yield BlobFacts(url=folder.at(blob.name), etag=_bare(blob.etag), size_bytes=blob.size), is_marker

    def _blob(self, url: BlobUrl) -> BlobClient:
        return self._service(url.account).get_blob_client(url.container, url.path)

    def _service(self, account: str) -> BlobServiceClient:
        if account not in self._clients:
            if self._endpoints and account not in self._endpoints:
                known = ", ".join(sorted(self._endpoints))
                raise InvalidEnvironmentError(f"storage account {account!r} is not in environment.json; known: {known}")
            endpoint = self._endpoints.get(account, f"https://{account}.blob.core.windows.net")
            self._clients[account] = BlobServiceClient(
                endpoint, credential=self._credential(account), retry_total=4, connection_timeout=10, read_timeout=60
            )
        return self._clients[account]


def _lease(blob: BlobClient) -> BlobLeaseClient | None:
    """Return a lease on the blob, or None while another holds one (409 LeaseAlreadyPresent)."""
    try:
        return blob.acquire_lease(lease_duration=_LOCK_S)
    except ResourceExistsError:
        return None


def _bare(etag: str) -> str:
    return etag.strip('"')


def _quoted(etag: str) -> str:
    return f'"{etag}"'
