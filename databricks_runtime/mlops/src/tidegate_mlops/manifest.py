"""Reads the list of files that a run works on, and proves that they are still the ones it was decided with."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Self

from tidegate_mlops.errors import InvalidManifestError, SupersededError
from tidegate_mlops.parameters import Parameters
from tidegate_mlops.ports import BlobStore
from tidegate_mlops.urls import BlobUrl

__all__ = ["InputFile", "InputManifest", "all_superseded", "confirm_unchanged", "read_manifest"]

_SCHEMA_VERSION: Final = 1
_FILES_IN_SUMMARY: Final = 20  # the completion schema's limit; the manifest has them all
_SUMMARY_CHARACTERS: Final = 12_000  # an event may have 64 KB in all
_MAX_URL: Final = 4096  # the schemas' limit: 1,024 characters of a blob's name may be nine thousand in its URL
_REQUESTS_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One immutable version of one input blob."""

    url: BlobUrl
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InputManifest:
    """The files of one batch, as the control plane froze them."""

    url: str
    sha256: str
    batch_id: str
    files: tuple[InputFile, ...]
    consignment: str | None = None  # whose version these files are: container/folder/
    replaces: str | None = None  # the run of the version before

    @classmethod
    def parse(cls, data: bytes, parameters: Parameters) -> Self:
        """Return the manifest in `data`; raises InvalidManifestError unless it is the one the parameters name."""
        digest = hashlib.sha256(data).hexdigest()
        if digest != parameters.manifest_sha256:
            message = (
                f"{parameters.manifest_url} has sha256 {digest}, the run was decided with {parameters.manifest_sha256}"
            )
            raise InvalidManifestError(message)
        try:
            document = json.loads(data)
            found = {name: document[name] for name in ("schema_version", "run_id", "pipeline", "kind", "batch_id")}
            files = tuple(
                InputFile(url=BlobUrl.parse(file["url"]), etag=str(file["etag"]), size_bytes=int(file["size_bytes"]))
                for file in document["files"]
            )
            consignment, replaces = (document.get(name) for name in ("consignment", "replaces"))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidManifestError(f"{parameters.manifest_url} is no input manifest: {error!r}") from error
        wanted = {
            "schema_version": _SCHEMA_VERSION,
            "run_id": parameters.run_id,
            "pipeline": parameters.pipeline,
            "kind": parameters.kind,
            "batch_id": parameters.batch_id,
        }
        wrong = [
            f"{name} is {found[name]!r}, expected {value!r}" for name, value in wanted.items() if found[name] != value
        ]
        if wrong:
            raise InvalidManifestError(f"{parameters.manifest_url}: {'; '.join(wrong)}")
        return cls(
            url=parameters.manifest_url,
            sha256=digest,
            batch_id=parameters.batch_id,
            files=files,
            consignment=consignment,
            replaces=replaces,
        )

    def summary(self) -> dict[str, object]:
        """Return the `inputs` object of result, scores manifest and completion event, of bounded size."""
        first: list[dict[str, str]] = []
        size = 0
        for file in self.files[:_FILES_IN_SUMMARY]:
            entry = {"url": str(file.url), "etag": file.etag}
            size += len(entry["url"])
            if len(entry["url"]) > _MAX_URL or size > _SUMMARY_CHARACTERS:
                break
            first.append(entry)
        return {
            "manifest_url": self.url,
            "manifest_sha256": self.sha256,
            "batch_id": self.batch_id,
            "file_count": len(self.files),
            "files": first,
        }


def read_manifest(store: BlobStore, parameters: Parameters) -> InputManifest:
    """Return the manifest that the parameters point to; raises InvalidManifestError if it is not there or not it."""
    blob = store.read(BlobUrl.parse(parameters.manifest_url))
    if blob is None:
        raise InvalidManifestError(f"there is no manifest at {parameters.manifest_url}")
    return InputManifest.parse(blob.data, parameters)


def confirm_unchanged(store: BlobStore, files: Iterable[InputFile]) -> None:
    """Raise SupersededError, which names every such file, if any is not the version in the manifest.

    Called before the files are read and again after: a file that changed in between was perhaps read half and half.
    """

    def change_of(file: InputFile) -> SupersededError | None:
        facts = store.facts(file.url)
        if facts is not None and facts.etag == file.etag:
            return None
        return SupersededError(str(file.url), file.etag, facts.etag if facts else None)

    with ThreadPoolExecutor(max_workers=_REQUESTS_AT_ONCE) as threads:
        changes = [change for change in threads.map(change_of, files) if change is not None]
    if changes:
        raise all_superseded(changes)


def all_superseded(changes: Sequence[SupersededError]) -> SupersededError:
    """Return one error that names every file of several; a single one is returned as it is."""
    first, *others = changes
    return SupersededError(first.url, first.expected_etag, first.found_etag, others) if others else first
