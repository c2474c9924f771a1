"""Reads facts about input blobs, keeps manifests, and keeps what could not be understood."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from functions.adapters.azure_errors import azure_errors
from functions.adapters.storage import StorageAccount
from functions.core.errors import (
    ContinuationLostError,
    InvalidDocumentError,
    NotFoundError,
    Problem,
    StorageUnavailableError,
)
from functions.core.manifest import BLOB_URL_PATTERN, MAX_MANIFEST_BYTES, InputManifest, ManifestPointer, manifest_path
from functions.core.model import BlobVersion
from functions.core.scores import MANIFEST_NAME, ScoresManifest
from functions.ports import BlobPage, StoredBlob

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, BlobProperties

__all__ = ["BlobInputs", "BlobManifests", "BlobQuarantine"]

_BAD_REQUEST: Final = 400
_RANGE_NOT_SATISFIABLE: Final = 416
_URL_PARTS: Final = re.compile(r"https://([a-z0-9]{3,24})\.blob\.core\.windows\.net/([^/]+)/(.+)")


class BlobInputs:
    """Implements `InputStore`."""

    def __init__(self, storage: StorageAccount) -> None:
        self._storage = storage

    def find(self, account: str, container: str, path: str) -> StoredBlob | None:
        """Return what is under this name now, or None."""
        blob = self._storage.blobs(account).get_blob_client(container, path)
        try:
            with azure_errors(f"reading the properties of {container}/{path}", StorageUnavailableError):
                return _stored(account, container, path, blob.get_blob_properties())
        except NotFoundError:
            return None

    def read_small(self, account: str, container: str, path: str, *, most_bytes: int) -> bytes | None:
        """Return the content under this name, or None; of a longer one its beginning, one byte more than the most."""
        blob = self._storage.blobs(account).get_blob_client(container, path)
        try:
            with azure_errors(f"reading {container}/{path}", StorageUnavailableError):
                return _download(blob, most_bytes + 1)
        except NotFoundError:
            return None

    def list_page(self, container: str, prefix: str, *, continuation: str | None, limit: int) -> BlobPage:
        """Return at most `limit` blobs under a prefix of the app's own account, in order of their paths."""
        from azure.core.exceptions import HttpResponseError

        client = self._storage.blobs().get_container_client(container)
        with azure_errors(f"listing {container}/{prefix}", StorageUnavailableError):
            listing = client.list_blobs(name_starts_with=prefix, results_per_page=limit)
            pages: Any = listing.by_page(continuation_token=continuation)  # its page iterator is untyped
            try:
                found = list(next(pages, ()))
            except HttpResponseError as error:
                if continuation is not None and error.status_code == _BAD_REQUEST:
                    raise ContinuationLostError(f"{container}/{prefix}") from error
                raise
        return BlobPage(
            blobs=tuple(_stored(self._storage.account, container, blob.name, blob) for blob in found),
            continuation=pages.continuation_token or None,
        )


def _download(blob: "BlobClient", most_bytes: int) -> bytes:
    """Return the first bytes of a blob; the service refuses any range of an empty one."""
    from azure.core.exceptions import HttpResponseError

    try:
        return blob.download_blob(offset=0, length=most_bytes).readall()
    except HttpResponseError as error:
        if error.status_code == _RANGE_NOT_SATISFIABLE:
            return b""
        raise


def _stored(account: str, container: str, path: str, properties: "BlobProperties") -> StoredBlob:
    return StoredBlob(
        version=BlobVersion(
            account=account,
            container=container,
            path=path,
            etag=str(properties.etag).strip('"'),
            size_bytes=int(properties.size),
        ),
        content_type=str(properties.content_settings.content_type or ""),
        modified_at=properties.last_modified.astimezone(UTC),
    )


class BlobManifests:
    """Implements `ManifestStore` in the control container, and reads the manifests of published scores."""

    def __init__(self, storage: StorageAccount, *, container: str) -> None:
        self._storage = storage
        self._container = container

    def write(self, manifest: InputManifest) -> tuple[ManifestPointer, InputManifest]:
        """Return where the run's manifest is and what it says; the first one that was written stays."""
        path = manifest_path(manifest.pipeline, manifest.run_id)
        url = _public_url(self._storage.account, self._container, path)
        with azure_errors(f"writing manifest {path}", StorageUnavailableError):
            is_first = _insert(self._storage, self._container, path, manifest.to_bytes())
        if not is_first:
            kept = self._read(url)
            if kept is None:  # someone deleted it between the two calls
                raise StorageUnavailableError(f"writing manifest {path}", "it was there and is gone")
            manifest = InputManifest.from_bytes(kept)
        return ManifestPointer(url=url, sha256=manifest.sha256()), manifest

    def read(self, pointer: ManifestPointer) -> InputManifest:
        """Return the manifest that the pointer names; raises InvalidDocumentError if its bytes are not those."""
        found = self._read(pointer.url)
        if found is None:
            raise NotFoundError("reading an input manifest", f"nothing at {pointer.url!r}")
        manifest = InputManifest.from_bytes(found)
        if manifest.sha256() != pointer.sha256:
            raise InvalidDocumentError([Problem("manifest.sha256", manifest.sha256(), pointer.sha256)])
        return manifest

    def read_scores(self, output_url: str) -> ScoresManifest | None:
        """Return the manifest beside published scores, or None if nothing is published there."""
        found = self._read(f"{output_url}/{MANIFEST_NAME}")
        return None if found is None else ScoresManifest.from_bytes(found)

    def _read(self, url: str) -> bytes | None:
        account, container, path = _parse_url(url)
        blob = self._storage.blobs(account).get_blob_client(container, path)
        try:
            with azure_errors(f"reading {container}/{path}", StorageUnavailableError):
                return _download(blob, MAX_MANIFEST_BYTES)
        except NotFoundError:
            return None


class BlobQuarantine:
    """Implements `Quarantine`: keeps messages that could not be understood, for a person to look at and replay."""

    def __init__(self, storage: StorageAccount, *, container: str) -> None:
        self._storage = storage
        self._container = container

    def keep(self, name: str, document: Mapping[str, object]) -> str:
        """Return the blob's URL; keeping the same message again changes nothing."""
        with azure_errors(f"keeping {name}", StorageUnavailableError):
            data = json.dumps(document, ensure_ascii=True, sort_keys=True, indent=1).encode()
            _insert(self._storage, self._container, name, data)
        return _public_url(self._storage.account, self._container, name)


def _insert(storage: StorageAccount, container: str, path: str, data: bytes) -> bool:
    """Write a blob unless one of this name exists, and return whether this call did; makes a missing container."""
    from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError

    client = storage.blobs().get_container_client(container)
    blob = client.get_blob_client(path)
    try:
        _upload(blob, data)
    except ResourceExistsError:
        return False
    except ResourceNotFoundError:  # the first blob ever in this container
        with suppress(ResourceExistsError):
            client.create_container()
        try:
            _upload(blob, data)
        except ResourceExistsError:
            return False
    return True


def _upload(blob: "BlobClient", data: bytes) -> None:
    from azure.storage.blob import ContentSettings

    # overwrite=False is sent as If-None-Match: *, so two writers cannot both be first.
    blob.upload_blob(data, overwrite=False, content_settings=ContentSettings(content_type="application/json"))


def _public_url(account: str, container: str, path: str) -> str:
    return f"https://{account}.blob.core.windows.net/{container}/{quote(path, safe='/~')}"


def _parse_url(url: str) -> tuple[str, str, str]:
    """Return account, container and path of a blob's URL; raises InvalidDocumentError for any other URL."""
    match = _URL_PARTS.fullmatch(url) if re.fullmatch(BLOB_URL_PATTERN, url) else None
    if match is None:
        raise InvalidDocumentError([Problem("url", repr(url[:80]), "an https blob URL")])
    account, container, path = match.groups()
    return account, container, unquote(path)
