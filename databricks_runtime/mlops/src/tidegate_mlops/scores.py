"""Publishes scores: checks that they add up, and makes them visible by writing `_manifest.json` last.

Layout under the run's output URL (pipeline, batch and model version are in it):

    data/<execution>/part-*.parquet          scores; each execution has a folder of its own
    quarantine/<execution>/part-*.parquet    rows that could not be scored, as they were, with the reason
    _manifest.json                           names the files that count; without it there are no scores

Interleavings: two executions may write at once, into different folders. The manifest is created only if there is
none, or replaced only if it is still the one that was looked at, so exactly one execution wins; the others remove
their files.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tidegate_mlops.errors import CheckpointLostError, ScoreContractError
from tidegate_mlops.manifest import InputManifest
from tidegate_mlops.parameters import ScoringParameters
from tidegate_mlops.ports import BlobFacts, BlobStore
from tidegate_mlops.urls import BlobUrl

__all__ = ["MANIFEST_NAME", "Published", "ScoreSet", "publish_scores", "score_discrepancies"]

MANIFEST_NAME: Final = "_manifest.json"
_TRIES: Final = 5
_COUNTS: Final = ("rows_in", "rows_scored", "rows_quarantined")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSet:
    """What one execution wrote and counted, before anyone else can see it."""

    data_folder: BlobUrl
    quarantine_folder: BlobUrl | None
    columns: Sequence[Mapping[str, object]]
    declared_columns: Sequence[Mapping[str, object]]
    score_column: str
    rows_in: int
    rows_scored: int
    rows_quarantined: int
    bad_scores: int
    files: Sequence[BlobFacts]
    rows_in_files: int
    quarantine_files: Sequence[BlobFacts]
    rows_in_quarantine_files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The `outputs` object of result and completion event, and where the files are: in this execution's folders?"""

    outputs: Mapping[str, object]
    is_ours: bool
    data_folder: BlobUrl
    quarantine_folder: BlobUrl | None


def score_discrepancies(scores: ScoreSet) -> list[str]:
    """Return everything about the scores that breaks the promise to readers; nothing means they may be published."""
    found = []
    if scores.rows_in != scores.rows_scored + scores.rows_quarantined:
        found.append(
            f"{scores.rows_in} rows came in, but {scores.rows_scored} were scored "
            f"and {scores.rows_quarantined} quarantined"
        )
    if scores.rows_in_files != scores.rows_scored:
        found.append(f"the files hold {scores.rows_in_files} scores, expected {scores.rows_scored}")
    if scores.rows_in_quarantine_files != scores.rows_quarantined:
        found.append(f"the quarantine holds {scores.rows_in_quarantine_files} rows, expected {scores.rows_quarantined}")
    if scores.bad_scores:
        found.append(f"{scores.bad_scores} scores are null, NaN or infinite, expected none")
    if [dict(column) for column in scores.columns] != [dict(column) for column in scores.declared_columns]:
        found.append(f"the columns are {list(scores.columns)!r}, declared are {list(scores.declared_columns)!r}")
    if not scores.files:
        found.append("no file with scores was written")
    return found


def publish_scores(
    store: BlobStore,
    scores: ScoreSet,
    parameters: ScoringParameters,
    manifest: InputManifest,
    *,
    mlflow_run_id: str | None,
    now: datetime,
) -> Published:
    """Make the scores visible, or confirm that this run's are already.

    Raises:
        ScoreContractError: They are wrong.
        CheckpointLostError: They have been removed since they were looked at.
    """
    discrepancies = score_discrepancies(scores)
    if discrepancies:
        raise ScoreContractError(discrepancies)
    output = BlobUrl.parse(parameters.output_url)
    place = output.child(MANIFEST_NAME)
    data = _document(scores, parameters, manifest, mlflow_run_id=mlflow_run_id, now=now)
    for _ in range(_TRIES):
        present = store.read(place)
        if present is None:
            if store.create(place, data) is not None:
                return _published(output, data, is_ours=True)
            continue  # another execution was first; look at what it published
        earlier = json.loads(present.data)
        if _stands(store, earlier, scores, parameters):
            _remove_ours(store, scores, earlier)
            return _published(output, present.data, is_ours=False)
        if not _are_all_there(store, [(file.url, file.etag) for file in (*scores.files, *scores.quarantine_files)]):
            # They came from a checkpoint, were published before, and whoever published since has removed them.
            raise CheckpointLostError(f"the scores under {scores.data_folder} were replaced and removed meanwhile")
        if store.replace(place, data, etag=present.etag) is not None:
            _remove_theirs(store, output, scores, earlier)
            return _published(output, data, is_ours=True)
    raise ScoreContractError([f"{place} changed {_TRIES} times while it was being published"])


def _stands(store: BlobStore, earlier: Mapping[str, object], scores: ScoreSet, parameters: ScoringParameters) -> bool:
    """Whether published scores are this run's, agree with what was computed now, and are all still there.

    Another run's manifest does not stand: its lineage is that run's. Equal input and model give equal scores, so
    readers lose nothing when it is replaced. A later attempt's stands before an earlier one that woke up late.
    """
    files = [*_files(earlier, "files"), *_files(earlier, "quarantine_files")]
    return (
        earlier.get("run_id") == parameters.run_id
        and (_is_of_a_later_attempt(earlier, parameters) or _agrees(earlier, scores))
        and bool(_files(earlier, "files"))
        and _are_all_there(store, files)
    )


def _are_all_there(store: BlobStore, files: Sequence[tuple[BlobUrl, str]]) -> bool:
    return all((facts := store.facts(url)) is not None and facts.etag == etag for url, etag in files)


def _is_of_a_later_attempt(earlier: Mapping[str, object], parameters: ScoringParameters) -> bool:
    """Whether this run has gone on without this attempt, perhaps with a release that counts otherwise."""
    attempt = earlier.get("attempt")
    return isinstance(attempt, int) and attempt > parameters.attempt


def _agrees(earlier: Mapping[str, object], scores: ScoreSet) -> bool:
    counts = [earlier.get(name) for name in _COUNTS]
    columns = [dict(column) for column in scores.columns]
    return counts == [getattr(scores, name) for name in _COUNTS] and earlier.get("columns") == columns


def _files(document: Mapping[str, object], name: str) -> list[tuple[BlobUrl, str]]:
    entries = document.get(name)
    return [(BlobUrl.parse(entry["url"]), entry["etag"]) for entry in entries] if isinstance(entries, list) else []


def _folders(scores: ScoreSet) -> list[BlobUrl]:
    return [folder for folder in (scores.data_folder, scores.quarantine_folder) if folder is not None]


def _remove_ours(store: BlobStore, scores: ScoreSet, earlier: Mapping[str, object]) -> None:
    """Remove what this execution wrote, unless the manifest names it: scores from a checkpoint may be the published."""
    named = {url.path for url, _ in [*_files(earlier, "files"), *_files(earlier, "quarantine_files")]}
    for folder in _folders(scores):
        if not any(path.startswith(f"{folder.path}/") for path in named):
            store.delete_folder(folder)


def _remove_theirs(store: BlobStore, output: BlobUrl, scores: ScoreSet, earlier: Mapping[str, object]) -> None:
    """Remove the files of the manifest that was replaced, if they lie where score files lie."""
    kept = {folder.path for folder in _folders(scores)}
    for url, _ in [*_files(earlier, "files"), *_files(earlier, "quarantine_files")]:
        folder = url.at(url.path.rpartition("/")[0])
        if folder.path.startswith((f"{output.path}/data/", f"{output.path}/quarantine/")) and folder.path not in kept:
            store.delete_folder(folder)
            kept.add(folder.path)


def _document(
    scores: ScoreSet,
    parameters: ScoringParameters,
    manifest: InputManifest,
    *,
    mlflow_run_id: str | None,
    now: datetime,
) -> bytes:
    document = {
        "schema_version": 1,
        "run_id": parameters.run_id,
        "attempt": parameters.attempt,
        "pipeline": parameters.pipeline,
        "batch_id": parameters.batch_id,
        "created_at": now.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "model": {
            "name": parameters.model_name,
            "version": parameters.model_version,
            "mlflow_run_id": mlflow_run_id,
            "is_champion": None,
        },
        "inputs": manifest.summary(),
        "columns": [dict(column) for column in scores.columns],
        "score_column": scores.score_column,
        "rows_in": scores.rows_in,
        "rows_scored": scores.rows_scored,
        "rows_quarantined": scores.rows_quarantined,
        "null_scores": 0,
        "files": [_entry(file) for file in scores.files],
        "quarantine_files": [_entry(file) for file in scores.quarantine_files],
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def _entry(file: BlobFacts) -> dict[str, object]:
    return {"url": str(file.url), "etag": file.etag, "size_bytes": file.size_bytes}


def _published(output: BlobUrl, manifest: bytes, *, is_ours: bool) -> Published:
    document = json.loads(manifest)
    outputs = {
        "scores_url": str(output),
        "manifest_url": str(output.child(MANIFEST_NAME)),
        "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
        **{name: document[name] for name in _COUNTS},
    }
    data, quarantine = (
        [url.at(url.path.rpartition("/")[0]) for url, _ in _files(document, name)]
        for name in ("files", "quarantine_files")
    )
    return Published(
        outputs=outputs,
        is_ours=is_ours,
        data_folder=data[0],
        quarantine_folder=quarantine[0] if quarantine else None,
    )
