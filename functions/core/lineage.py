"""Names what an attempt of a run read, used and made, as documents of both sides write it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import unquote

from functions.core.manifest import BLOB_URL_PATTERN
from functions.core.model import MODEL_NAME, BatchId, Stage, StageOutcome
from functions.core.reading import Reader

__all__ = [
    "FileRef",
    "InputsRef",
    "ModelRef",
    "OutputsRef",
    "RefusedFile",
    "RefusedRef",
    "StageResult",
    "file_digest",
    "read_url",
    "shortened",
]

MAX_FILES: Final = 20
_SHA256: Final = r"[0-9a-f]{64}"
_MAX_STAGE_REASON: Final = 2000
_STAGE_REASON_BYTES: Final = 3000
_FILES_BYTES: Final = 12_000  # of the 64 KB that an event may have
_MAX_URL: Final = 4096
_MAX_REFUSED_REASON: Final = 300
_REFUSED_REASON_BYTES: Final = 600
_REFUSED_BYTES: Final = 8000
MAX_OTHERS: Final = 200
_DIGEST: Final = "[0-9a-f]{12}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """The model that an attempt made or used."""

    name: str
    version: str | None
    mlflow_run_id: str | None = None
    is_champion: bool | None = None

    def to_fields(self) -> dict[str, object]:
        """Return the object as documents write it."""
        return {
            "name": self.name,
            "version": self.version,
            "mlflow_run_id": self.mlflow_run_id,
            "is_champion": self.is_champion,
        }

    @classmethod
    def read(cls, reader: Reader) -> "ModelRef":
        """Return the model that a document names at this place."""
        reader.mapping(required=("name", "version", "mlflow_run_id", "is_champion"))
        is_champion = reader.child("is_champion")
        return cls(
            name=reader.child("name").text(pattern=MODEL_NAME, expected="catalog.schema.model"),
            version=reader.child("version").nullable_text(pattern="[1-9][0-9]*", expected="a model version"),
            mlflow_run_id=reader.child("mlflow_run_id").nullable_text(),
            is_champion=None if is_champion.value is None else is_champion.boolean(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRef:
    """One input file, as the event names it."""

    url: str
    etag: str

    def to_fields(self) -> dict[str, object]:
        """Return the object as documents write it."""
        return {"url": self.url, "etag": self.etag}

    @classmethod
    def read(cls, reader: Reader) -> "FileRef":
        """Return the file that a document names at this place."""
        reader.mapping(required=("url", "etag"))
        return cls(url=read_url(reader.child("url")), etag=reader.child("etag").text())


@dataclass(frozen=True, slots=True, kw_only=True)
class InputsRef:
    """What an attempt read: the manifest has all files, the event the first twenty at most."""

    manifest_url: str
    manifest_sha256: str
    batch_id: BatchId
    file_count: int
    files: tuple[FileRef, ...] = ()

    def to_fields(self) -> dict[str, object]:
        """Return the object as documents write it, with the first files, twenty at most."""
        return {
            "manifest_url": self.manifest_url,
            "manifest_sha256": self.manifest_sha256,
            "batch_id": self.batch_id,
            "file_count": self.file_count,
            "files": [file.to_fields() for file in self._first_files()],
        }

    def _first_files(self) -> Iterator[FileRef]:
        """Yield the first files, as many as an event has room for: a blob's URL may have nine thousand characters."""
        room = _FILES_BYTES
        for file in self.files[:MAX_FILES]:
            room -= encoded_size(file.url) + encoded_size(file.etag)
            if len(file.url) > _MAX_URL or room < 0:
                return
            yield file

    @classmethod
    def read(cls, reader: Reader) -> "InputsRef":
        """Return the inputs that a document names at this place."""
        reader.mapping(required=("manifest_url", "manifest_sha256", "batch_id", "file_count", "files"))
        return cls(
            manifest_url=read_url(reader.child("manifest_url")),
            manifest_sha256=reader.child("manifest_sha256").text(pattern=_SHA256, expected="a sha256 in hex"),
            batch_id=BatchId(reader.child("batch_id").text(pattern="[0-9a-f]{16}", expected="16 hex digits")),
            file_count=reader.child("file_count").integer(minimum=0),
            files=tuple(FileRef.read(item) for item in reader.child("files").items(max_items=MAX_FILES)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedFile:
    """An input file that alone is to blame for a failure, and why."""

    url: str
    etag: str
    reason: str

    def to_fields(self) -> dict[str, object]:
        """Return the object as documents write it; a long reason is shortened."""
        reason = shortened(self.reason, _MAX_REFUSED_REASON, max_bytes=_REFUSED_REASON_BYTES)
        return {"url": self.url, "etag": self.etag, "reason": reason}

    @classmethod
    def read(cls, reader: Reader) -> "RefusedFile":
        """Return the file that a document names at this place."""
        reader.mapping(required=("url", "etag", "reason"))
        return cls(
            url=read_url(reader.child("url")),
            etag=reader.child("etag").text(),
            reason=reader.child("reason").text(max_length=_MAX_REFUSED_REASON),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRef:
    """The input files without which a failed attempt might have done its work: all counted, twenty named at most."""

    file_count: int
    files: tuple[RefusedFile, ...]
    others: tuple[str, ...] = ()  # `file_digest` of each that is not named, two hundred at most

    def to_fields(self) -> dict[str, object]:
        """Return the object as documents write it, with as many of the first files as an event has room for."""
        others: dict[str, object] = {"others": list(self.others[:MAX_OTHERS])} if self.others else {}
        named: list[dict[str, object]] = []
        room = _REFUSED_BYTES
        for file in self.files[:MAX_FILES]:
            fields = file.to_fields()
            room -= sum(encoded_size(str(value)) for value in fields.values())
            if len(file.url) <= _MAX_URL and room >= 0:
                named.append(fields)
        return {"file_count": self.file_count, "files": named, **others}

    @classmethod
    def read(cls, reader: Reader) -> "RefusedRef":
        """Return the refused files that a document names at this place."""
        reader.mapping(required=("file_count", "files"), optional=("others",))
        others = reader.child("others")
        digests = () if others.is_absent else others.items(max_items=MAX_OTHERS)
        return cls(
            file_count=reader.child("file_count").integer(minimum=1),
            files=tuple(RefusedFile.read(item) for item in reader.child("files").items(max_items=MAX_FILES)),
            others=tuple(item.text(pattern=_DIGEST, expected="12 hex digits") for item in digests),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputsRef:
    """What a scoring attempt published."""

    scores_url: str
    manifest_url: str
    manifest_sha256: str
    rows_in: int
    rows_scored: int
    rows_quarantined: int

    def to_fields(self) -> dict[str, object]:
        """Return the object as documents write it."""
        return {
            "scores_url": self.scores_url,
            "manifest_url": self.manifest_url,
            "manifest_sha256": self.manifest_sha256,
            "rows_in": self.rows_in,
            "rows_scored": self.rows_scored,
            "rows_quarantined": self.rows_quarantined,
        }

    @classmethod
    def read(cls, reader: Reader) -> "OutputsRef":
        """Return the outputs that a document names at this place."""
        keys = ("scores_url", "manifest_url", "manifest_sha256", "rows_in", "rows_scored", "rows_quarantined")
        reader.mapping(required=keys)
        return cls(
            scores_url=read_url(reader.child("scores_url")),
            manifest_url=read_url(reader.child("manifest_url")),
            manifest_sha256=reader.child("manifest_sha256").text(pattern=_SHA256, expected="a sha256 in hex"),
            rows_in=reader.child("rows_in").integer(minimum=0),
            rows_scored=reader.child("rows_scored").integer(minimum=0),
            rows_quarantined=reader.child("rows_quarantined").integer(minimum=0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """How one stage of an attempt went."""

    name: Stage
    outcome: StageOutcome
    duration_s: float
    reason: str | None = None

    def to_fields(self) -> dict[str, object]:
        """Return the object as documents write it; a long reason is shortened."""
        return {
            "name": self.name.value,
            "outcome": self.outcome.value,
            "duration_s": self.duration_s,
            "reason": shortened(self.reason, _MAX_STAGE_REASON, max_bytes=_STAGE_REASON_BYTES),
        }

    @classmethod
    def read(cls, reader: Reader) -> "StageResult":
        """Return the stage's result that a document names at this place."""
        reader.mapping(required=("name", "outcome", "duration_s", "reason"))
        return cls(
            name=reader.child("name").one_of(Stage),
            outcome=reader.child("outcome").one_of(StageOutcome),
            duration_s=reader.child("duration_s").number(minimum=0),
            reason=reader.child("reason").nullable_text(max_length=_MAX_STAGE_REASON),
        )


def file_digest(url: str, etag: str) -> str:
    """Return what stands for one version of a file where its URL has no room, however that is encoded."""
    return sha256(f"{unquote(url)}\n{etag}".encode(errors="replace")).hexdigest()[:12]


def shortened(text: str | None, limit: int, *, max_bytes: int) -> str | None:
    """Return the text, cut to `limit` characters and `max_bytes` of JSON in UTF-8, with an ellipsis as the last."""
    if text is None or (len(text) <= limit and encoded_size(text) <= max_bytes):
        return text
    kept, room = text[: limit - 1], max_bytes - encoded_size("…")
    while encoded_size(kept) > room:
        # A character takes from one byte to six, so this ends after a few rounds and cuts little too much.
        kept = kept[: -max(1, (encoded_size(kept) - room) // 6)]
    return kept + "…"


def encoded_size(text: str) -> int:
    """Return how many bytes the text takes in a document: quotes and controls are escaped."""
    return len(json.dumps(text, ensure_ascii=False).encode(errors="replace"))


def read_url(reader: Reader) -> str:
    """Return the https blob URL at this place: no query, so no shared access signature, and no other host."""
    return reader.text(pattern=BLOB_URL_PATTERN, expected="an https blob URL", max_length=_MAX_URL)
