"""Has the input blobs that a test uploads, and lists them in pages."""

from dataclasses import replace
from datetime import UTC, datetime

from functions.core.errors import ContinuationLostError, NotFoundError
from functions.core.model import BlobVersion
from functions.ports import BlobPage, StoredBlob
from tests.support.in_memory.faults import Calls, Faults, NoFaults

__all__ = ["InMemoryInputs"]


class InMemoryInputs:
    """Implements `InputStore`."""

    def __init__(self, account: str = "tidegatelocal", faults: Faults | None = None) -> None:
        self.calls = Calls(faults or NoFaults())
        self.account = account
        self.blobs: dict[tuple[str, str, str], StoredBlob] = {}
        self.contents: dict[tuple[str, str, str], bytes] = {}
        self.containers = {"input", "scores"}
        self.lost_continuations: set[str] = set()

    def put(
        self,
        blob: BlobVersion,
        *,
        content_type: str = "application/octet-stream",
        at: datetime = datetime(2026, 3, 1, 11, tzinfo=UTC),
        content: bytes = b"",
    ) -> None:
        """Upload a version; it replaces the one of the same name."""
        self.contents[blob.account, blob.container, blob.path] = content
        self.containers.add(blob.container)
        self.blobs[blob.account, blob.container, blob.path] = StoredBlob(
            version=replace(blob, sequencer=None), content_type=content_type, modified_at=at
        )

    def remove(self, blob: BlobVersion) -> None:
        """Delete what is under the blob's name."""
        del self.blobs[blob.account, blob.container, blob.path]
        del self.contents[blob.account, blob.container, blob.path]

    def find(self, account: str, container: str, path: str) -> StoredBlob | None:
        with self.calls.effect("inputs.find"):
            return self.blobs.get((account, container, path))

    def read_small(self, account: str, container: str, path: str, *, most_bytes: int) -> bytes | None:
        with self.calls.effect("inputs.read_small"):
            found = self.contents.get((account, container, path))
        return None if found is None else found[: most_bytes + 1]

    def list_page(self, container: str, prefix: str, *, continuation: str | None, limit: int) -> BlobPage:
        with self.calls.effect("inputs.list_page"):
            if container not in self.containers:
                raise NotFoundError(f"listing {container}/{prefix}", "ContainerNotFound")
            if continuation is not None and (continuation in self.lost_continuations or continuation[0] != ">"):
                raise ContinuationLostError(f"{container}/{prefix}")
            after = "" if continuation is None else continuation[1:]
            found = [
                blob
                for (account, of, path), blob in sorted(self.blobs.items())
                if account == self.account and of == container and path.startswith(prefix) and path > after
            ]
        page = found[:limit]
        return BlobPage(blobs=tuple(page), continuation=f">{page[-1].version.path}" if len(found) > limit else None)
