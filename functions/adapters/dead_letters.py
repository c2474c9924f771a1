"""Keeps, lists, reads and marks what was given up: quarantined messages and the dead letters of Event Grid."""

from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Final

from functions.adapters.azure_errors import azure_errors
from functions.adapters.blobs import BlobQuarantine
from functions.adapters.storage import StorageAccount
from functions.core.dead_letters import MAX_DEAD_LETTER_BYTES, Replayed
from functions.core.dismissals import Dismissed
from functions.core.errors import IllegalTransitionError, NotFoundError, StorageUnavailableError
from functions.ports import Entry, KeptLetter

if TYPE_CHECKING:
    from azure.storage.blob import BlobProperties

__all__ = ["BlobDeadLetters"]

# Metadata of the letter itself, so whatever removes the letter removes it too.
_MARK: Final = "tidegate_replayed"
_DISMISSED: Final = "tidegate_dismissed"
_IS_FOLDER: Final = "hdi_isfolder"  # as a hierarchical account says it
_PAGE: Final = 5000  # the service's own limit
_METADATA_BYTES: Final = 8192  # the service's own limit for the names and values of one blob, as headers at worst


class BlobDeadLetters(BlobQuarantine):
    """Implements `Quarantine` on the container into which Event Grid writes its dead letters too."""

    def __init__(self, storage: StorageAccount, *, container: str) -> None:
        super().__init__(storage, container=container)
        self._storage = storage
        self._container = container

    def read(self, name: str) -> Entry[bytes]:
        """Return a blob that was kept here, with its ETag; raises NotFoundError."""
        blob = self._storage.blobs().get_blob_client(self._container, name)
        with azure_errors(f"reading {name}", StorageUnavailableError):
            found = blob.get_blob_properties()
            if found.size == 0:  # of which the service refuses any range
                return Entry(value=b"", version=str(found.etag))
            content = blob.download_blob(offset=0, length=MAX_DEAD_LETTER_BYTES + 1)
            return Entry(value=content.readall(), version=str(content.properties.etag))

    def list(self, prefix: str, *, at_a_time: int) -> Iterator[KeptLetter]:
        """Yield what has a name with this prefix, by name; reads so many at a time, and no more than are asked for."""
        client = self._storage.blobs().get_container_client(self._container)
        try:
            with azure_errors(f"listing {self._container}/{prefix}", StorageUnavailableError):
                listed = client.list_blobs(
                    name_starts_with=prefix, include=["metadata"], results_per_page=min(at_a_time, _PAGE)
                )
                for blob in listed:
                    if (blob.metadata or {}).get(_IS_FOLDER) != "true":
                        yield _letter_of(blob.name, blob)
        except NotFoundError:  # nothing was ever given up
            return

    def mark_replayed(self, name: str, replayed: Replayed, *, version: str | None) -> None:
        """Have a letter say that it was replayed, if it is the one that was; the latest replay stays."""
        from azure.core import MatchConditions

        blob = self._storage.blobs().get_blob_client(self._container, name)
        try:
            with azure_errors(f"marking {name}", StorageUnavailableError, conflict=StorageUnavailableError):
                found = blob.get_blob_properties()
                earlier = Replayed.from_mark(found.metadata.get(_MARK))
                if version is None and earlier is None and found.last_modified > replayed.at:
                    return
                if earlier is None or earlier.at < replayed.at:
                    if version not in {None, found.etag}:
                        raise StorageUnavailableError(f"marking {name}", "it changed since it was read")
                    # Without room what others keep there stays, and the letter in the list: its replay counts.
                    if (metadata := _with_mark(found, _MARK, replayed)) is not None:
                        blob.set_blob_metadata(metadata, etag=found.etag, match_condition=MatchConditions.IfNotModified)
        except NotFoundError:
            return

    def dismiss(self, name: str, dismissed: Dismissed, *, version: str) -> KeptLetter:
        """Have a letter that waits say that it needs nobody any more, and return it as it was before."""
        from azure.core import MatchConditions

        blob = self._storage.blobs().get_blob_client(self._container, name)
        with azure_errors(f"dismissing {name}", StorageUnavailableError, conflict=StorageUnavailableError):
            found = blob.get_blob_properties()
            before = _letter_of(name, found)
            if before.is_waiting:
                if found.etag != version:
                    raise StorageUnavailableError(f"dismissing {name}", "it changed since it was read")
                metadata = _with_mark(found, _DISMISSED, dismissed)
                if metadata is None:
                    rule, current = "room for a dismissal in the metadata", "full of metadata of others"
                    raise IllegalTransitionError(rule, name[:200], current, "dismissed until some of it is removed")
                blob.set_blob_metadata(metadata, etag=found.etag, match_condition=MatchConditions.IfNotModified)
        return before


def _letter_of(name: str, blob: "BlobProperties") -> KeptLetter:
    metadata = blob.metadata or {}
    return KeptLetter(
        name=name,
        kept_at=blob.creation_time.astimezone(UTC),  # a mark is a modification, so not when it was last modified
        replayed=Replayed.from_mark(metadata.get(_MARK)),
        dismissed=Dismissed.from_mark(metadata.get(_DISMISSED)),
    )


def _with_mark(blob: "BlobProperties", key: str, what: Replayed | Dismissed) -> dict[str, str] | None:
    """Return a blob's metadata with a mark beside what others keep there, None if they leave no room for it."""
    others = {name: value for name, value in blob.metadata.items() if name != key}
    room = _METADATA_BYTES - _size_of({**others, key: ""})
    mark = what.to_mark(room)
    return {**others, key: mark} if len(mark) <= room else None


def _size_of(metadata: Mapping[str, str]) -> int:
    return sum(len(f"x-ms-meta-{name}{value}".encode()) for name, value in metadata.items())
