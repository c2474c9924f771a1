"""Reads the manifest beside published scores, the proof that a scoring run did what it claims."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from functions.core.errors import InvalidDocumentError, Problem
from functions.core.lineage import InputsRef, ModelRef, OutputsRef, read_url
from functions.core.model import BatchId, PipelineKey, RunId
from functions.core.reading import Reader
from functions.core.tokens import RUN_ID_PATTERN

__all__ = ["MANIFEST_NAME", "ScoreColumn", "ScoreFile", "ScoresManifest", "WantedScores", "is_of_a_later_run", "verify"]

MANIFEST_NAME = "_manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreColumn:
    """One column that the scores declare; `type` is Spark's simple type string."""

    name: str
    type: str
    nullable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFile:
    """One file that was written."""

    url: str
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoresManifest:
    """What a scoring attempt says it published; `sha256` is of the bytes that were read."""

    run_id: RunId
    attempt: int
    pipeline: PipelineKey
    batch_id: BatchId
    created_at: datetime
    model: ModelRef
    inputs: InputsRef
    columns: tuple[ScoreColumn, ...]
    score_column: str
    rows_in: int
    rows_scored: int
    rows_quarantined: int
    null_scores: int
    files: tuple[ScoreFile, ...]
    quarantine_files: tuple[ScoreFile, ...]
    sha256: str

    @classmethod
    def from_bytes(cls, data: bytes) -> "ScoresManifest":
        """Return the manifest in `data`; raises InvalidDocumentError listing every mistake."""
        problems: list[Problem] = []
        try:
            document: object = json.loads(data)
        except (ValueError, RecursionError):
            raise InvalidDocumentError([Problem("scores manifest", f"{len(data)} bytes", "UTF-8 JSON")]) from None
        root = Reader(document, "scores manifest", problems)
        root.mapping(required=_KEYS)
        root.child("schema_version").constant(1)
        manifest = cls(
            run_id=RunId(root.child("run_id").text(pattern=RUN_ID_PATTERN, expected="a run id")),
            attempt=root.child("attempt").integer(minimum=1),
            pipeline=PipelineKey(root.child("pipeline").text(min_length=1)),
            batch_id=BatchId(root.child("batch_id").text(pattern="[0-9a-f]{16}", expected="16 hex digits")),
            created_at=root.child("created_at").instant(),
            model=ModelRef.read(root.child("model")),
            inputs=InputsRef.read(root.child("inputs")),
            columns=tuple(_read_column(item) for item in root.child("columns").items(min_items=1)),
            score_column=root.child("score_column").text(min_length=1),
            rows_in=root.child("rows_in").integer(minimum=0),
            rows_scored=root.child("rows_scored").integer(minimum=0),
            rows_quarantined=root.child("rows_quarantined").integer(minimum=0),
            null_scores=root.child("null_scores").integer(minimum=0),
            files=tuple(_read_file(item) for item in root.child("files").items(min_items=1)),
            quarantine_files=tuple(_read_file(item) for item in root.child("quarantine_files").items()),
            sha256=hashlib.sha256(data).hexdigest(),
        )
        if problems:
            raise InvalidDocumentError(problems)
        return manifest

    def outputs(self, output_url: str) -> OutputsRef:
        """Return what a completion event says about these scores."""
        return OutputsRef(
            scores_url=output_url,
            manifest_url=f"{output_url}/{MANIFEST_NAME}",
            manifest_sha256=self.sha256,
            rows_in=self.rows_in,
            rows_scored=self.rows_scored,
            rows_quarantined=self.rows_quarantined,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedScores:
    """What a scoring run was decided to make: what its manifest must agree with."""

    run_id: RunId
    attempt: int
    pipeline: PipelineKey
    batch_id: BatchId
    manifest_url: str
    manifest_sha256: str
    file_count: int
    model_name: str
    model_version: str
    output_url: str
    decided_at: datetime


def verify(manifest: ScoresManifest, wanted: WantedScores) -> list[str]:
    """Return every discrepancy between published scores and what was wanted; none means proven.

    An earlier attempt's manifest is accepted: the same run with the same batch and model leaves the same scores,
    so an attempt that finds them published has nothing left to do. A later attempt's is not this attempt's proof.

    Another run of the same batch and model publishes at the same place. What it published before this run was
    decided proves nothing; what it published since has replaced this run's equal scores, and stands for them.
    """
    return [*_identity_discrepancies(manifest, wanted), *_content_discrepancies(manifest, wanted)]


def is_of_a_later_run(manifest: ScoresManifest, wanted: WantedScores) -> bool:
    """Return whether another run published here since this one was decided."""
    return manifest.run_id != wanted.run_id and manifest.created_at >= wanted.decided_at


_KEYS = (
    "schema_version",
    "run_id",
    "attempt",
    "pipeline",
    "batch_id",
    "created_at",
    "model",
    "inputs",
    "columns",
    "score_column",
    "rows_in",
    "rows_scored",
    "rows_quarantined",
    "null_scores",
    "files",
    "quarantine_files",
)


def _identity_discrepancies(manifest: ScoresManifest, wanted: WantedScores) -> Iterator[str]:
    facts: list[tuple[str, object, object]] = [
        ("pipeline", manifest.pipeline, wanted.pipeline),
        ("batch_id", manifest.batch_id, wanted.batch_id),
        ("inputs.batch_id", manifest.inputs.batch_id, wanted.batch_id),
        ("inputs.file_count", manifest.inputs.file_count, wanted.file_count),
        ("model.name", manifest.model.name, wanted.model_name),
        ("model.version", manifest.model.version, wanted.model_version),
    ]
    if not is_of_a_later_run(manifest, wanted):
        facts += [
            ("run_id", manifest.run_id, wanted.run_id),
            ("inputs.manifest_url", manifest.inputs.manifest_url, wanted.manifest_url),
            ("inputs.manifest_sha256", manifest.inputs.manifest_sha256, wanted.manifest_sha256),
        ]
    for name, got, expected in facts:
        if got != expected:
            yield f"{name} is {got!r}, expected {expected!r}"
    if manifest.run_id == wanted.run_id and manifest.attempt > wanted.attempt:
        yield f"attempt is {manifest.attempt}, expected at most {wanted.attempt}"


def _content_discrepancies(manifest: ScoresManifest, wanted: WantedScores) -> Iterator[str]:
    if manifest.rows_in != manifest.rows_scored + manifest.rows_quarantined:
        yield (
            f"rows do not add up: {manifest.rows_in} in, but {manifest.rows_scored} scored "
            f"and {manifest.rows_quarantined} quarantined"
        )
    if manifest.null_scores:
        yield f"{manifest.null_scores} scores are null or NaN, expected none"
    if manifest.score_column not in {column.name for column in manifest.columns}:
        yield f"score_column {manifest.score_column!r} is not among the declared columns"
    for file in (*manifest.files, *manifest.quarantine_files):
        if not file.url.startswith(wanted.output_url + "/"):
            yield f"file {file.url!r} is outside {wanted.output_url!r}"


def _read_column(item: Reader) -> ScoreColumn:
    item.mapping(required=("name", "type", "nullable"))
    return ScoreColumn(
        name=item.child("name").text(), type=item.child("type").text(), nullable=item.child("nullable").boolean()
    )


def _read_file(item: Reader) -> ScoreFile:
    item.mapping(required=("url", "etag", "size_bytes"))
    return ScoreFile(
        url=read_url(item.child("url")),
        etag=item.child("etag").text(),
        size_bytes=item.child("size_bytes").integer(minimum=1),
    )
