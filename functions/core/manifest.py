"""Lists exactly the files that one run works on, and points to that list by URL and sha256."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from functions.core.errors import InvalidDocumentError, Problem
from functions.core.model import ArrivalId, BatchId, BlobVersion, PipelineKey, RunId, RunKind, require_utc
from functions.core.reading import Reader, to_iso
from functions.core.tokens import RUN_ID_PATTERN, arrival_id_of, batch_id_of

__all__ = [
    "BLOB_URL_PATTERN",
    "MAX_MANIFEST_BYTES",
    "InputManifest",
    "ManifestFile",
    "ManifestPointer",
    "fits_into_a_manifest",
    "fitting",
    "manifest_of",
    "manifest_path",
]

MAX_MANIFEST_BYTES: Final = 64 * 1024 * 1024  # read whole by the control plane and by every notebook's driver
_ENVELOPE_BYTES: Final = 16 * 1024  # what is beside the files, a consignment's name among it
_LONGEST_ENTRY_BYTES: Final = 32 * 1024  # a name of 1,024 characters, encoded twice
_ARRIVAL_ID: Final = ArrivalId("0" * 64)

BLOB_URL_PATTERN: Final = r"https://[a-z0-9]{3,24}\.blob\.core\.windows\.net/[^?#\s]+"
_SHA256: Final = r"[0-9a-f]{64}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestPointer:
    """Where a run's input manifest is, and what its bytes hash to."""

    url: str
    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch(BLOB_URL_PATTERN, self.url) or not re.fullmatch(_SHA256, self.sha256):
            raise ValueError(f"expected an https blob URL and a sha256 in hex, got {self.url!r} and {self.sha256!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    """One file of a batch: the exact content that the run must read."""

    blob: BlobVersion
    arrival_id: ArrivalId | None  # None: no arrival brought it (training data, a file named in a request)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputManifest:
    """The frozen batch of one run; the same facts always give the same bytes."""

    run_id: RunId
    pipeline: PipelineKey
    kind: RunKind
    batch_id: BatchId
    created_at: datetime
    files: tuple[ManifestFile, ...]
    consignment: str = ""  # whose version these files are: container/folder/
    replaces: RunId | None = None  # the run of the version before

    def __post_init__(self) -> None:
        require_utc(self.created_at, "created_at")
        if self.replaces is not None and not self.consignment:
            raise ValueError(f"only a version of a consignment replaces a run, got {self.replaces!r}")

    def to_bytes(self) -> bytes:
        """Return the document under docs/contracts/manifest.schema.json, UTF-8, keys sorted."""
        return json.dumps(
            {
                "schema_version": 1,
                "run_id": self.run_id,
                "pipeline": self.pipeline,
                "kind": self.kind.value,
                "batch_id": self.batch_id,
                "created_at": to_iso(self.created_at),
                "files": [_entry(file.blob, file.arrival_id) for file in self.files],
                **({"consignment": self.consignment, "replaces": self.replaces} if self.consignment else {}),
            },
            ensure_ascii=False,
            sort_keys=True,
            separators=(",", ":"),
        ).encode()

    def sha256(self) -> str:
        """Return the hash that the run checks before it believes the list."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes) -> "InputManifest":
        """Return the manifest in `data`; raises InvalidDocumentError listing every mistake."""
        problems: list[Problem] = []
        root = Reader(_parse_json(data, "manifest"), "manifest", problems)
        keys = ("schema_version", "run_id", "pipeline", "kind", "batch_id", "created_at", "files")
        if not root.mapping(required=keys, optional=("consignment", "replaces")):
            raise InvalidDocumentError(problems)
        root.child("schema_version").constant(1)
        consignment, replaces = root.child("consignment"), root.child("replaces")
        if consignment.is_absent and not replaces.is_absent:
            replaces.refuse("nothing, without a consignment")
            raise InvalidDocumentError(problems)
        before = None if replaces.is_absent else replaces.nullable_text(pattern=RUN_ID_PATTERN, expected="a run id")
        manifest = cls(
            run_id=RunId(root.child("run_id").text(pattern=RUN_ID_PATTERN, expected="a run id")),
            pipeline=PipelineKey(root.child("pipeline").text(min_length=1)),
            kind=root.child("kind").one_of(RunKind),
            batch_id=BatchId(root.child("batch_id").text(pattern="[0-9a-f]{16}", expected="16 hex digits")),
            created_at=root.child("created_at").instant(),
            files=tuple(_read_file(item) for item in root.child("files").items()),
            consignment="" if consignment.is_absent else consignment.text(min_length=1) or "?",
            replaces=None if before is None else RunId(before),
        )
        if problems:
            raise InvalidDocumentError(problems)
        return manifest


def manifest_of(
    *,
    run_id: RunId,
    pipeline: PipelineKey,
    kind: RunKind,
    created_at: datetime,
    files: tuple[ManifestFile, ...],
    consignment: str = "",
    replaces: RunId | None = None,
) -> InputManifest:
    """Return the manifest of these files, ordered by URL and ETag, with the batch id that follows from them."""
    ordered = tuple(sorted(files, key=lambda file: (file.blob.url, file.blob.etag)))
    batch_id = batch_id_of(arrival_id_of(file.blob) for file in ordered)
    return InputManifest(
        run_id=run_id,
        pipeline=pipeline,
        kind=kind,
        batch_id=batch_id,
        created_at=created_at,
        files=ordered,
        consignment=consignment,
        replaces=replaces,
    )


def fitting(blobs: Iterable[BlobVersion]) -> int:
    """Return how many of these files, from the first on, one manifest holds: it is read whole, so it has a bound."""
    room, count = MAX_MANIFEST_BYTES - _ENVELOPE_BYTES, 0
    for blob in blobs:
        entry = json.dumps(_entry(blob, _ARRIVAL_ID), ensure_ascii=False, separators=(",", ":"))
        room -= len(entry.encode(errors="replace")) + 1
        if room < 0:
            break
        count += 1
    return count


def fits_into_a_manifest(blobs: Sequence[BlobVersion]) -> bool:
    """Return whether one manifest holds all of these files."""
    is_small = len(blobs) * _LONGEST_ENTRY_BYTES <= MAX_MANIFEST_BYTES - _ENVELOPE_BYTES
    return is_small or fitting(blobs) == len(blobs)


def manifest_path(pipeline: PipelineKey, run_id: RunId) -> str:
    """Return the blob path of a run's manifest within the control container."""
    return f"manifests/{pipeline}/{run_id}.json"


def _entry(blob: BlobVersion, arrival_id: ArrivalId | None) -> dict[str, object]:
    return {
        "url": blob.url,
        "account": blob.account,
        "container": blob.container,
        "path": blob.path,
        "etag": blob.etag,
        "size_bytes": blob.size_bytes,
        "sequencer": blob.sequencer,
        "arrival_id": arrival_id,
    }


def _parse_json(data: bytes, what: str) -> object:
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidDocumentError([Problem(what, f"{len(data)} bytes", "UTF-8 JSON")]) from None
    return value


def _read_file(item: Reader) -> ManifestFile:
    item.mapping(required=("url", "account", "container", "path", "etag", "size_bytes", "sequencer", "arrival_id"))
    blob = BlobVersion(
        account=item.child("account").text(pattern="[a-z0-9]{3,24}", expected="a storage account's name"),
        container=item.child("container").text(min_length=3, max_length=63),
        path=item.child("path").text(min_length=1, max_length=1024),
        etag=item.child("etag").text(min_length=1),
        size_bytes=item.child("size_bytes").integer(minimum=0),
        sequencer=item.child("sequencer").nullable_text(),
    )
    url = item.child("url")
    if url.value != blob.url:
        url.refuse("the URL of this account, container and path")
    arrival_id = item.child("arrival_id").nullable_text(pattern=_SHA256, expected="a sha256 in hex")
    return ManifestFile(blob=blob, arrival_id=ArrivalId(arrival_id) if arrival_id is not None else None)
