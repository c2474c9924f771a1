"""Holds the manifest of scores to what it proves, and its reader to refusing everything else."""

import json
from typing import Any

import pytest

from functions.core.errors import InvalidDocumentError
from functions.core.lineage import (
    OutputsRef,
)
from functions.core.model import (
    BatchId,
    PipelineKey,
)
from functions.core.scores import ScoresManifest, WantedScores, verify
from tests.support.documents import BASE, NOON, OUTPUT_URL, RUN_ID, make_event, validator_of


def make_scores(**changes: Any) -> dict[str, Any]:
    event = make_event()
    assert event.inputs is not None
    assert event.model is not None
    document: dict[str, Any] = {
        "schema_version": 1,
        "run_id": RUN_ID,
        "attempt": 2,
        "pipeline": "scoring",
        "batch_id": "0123456789abcdef",
        "created_at": "2026-01-01T12:00:00Z",
        "model": event.model.to_fields(),
        "inputs": event.inputs.to_fields(),
        "columns": [{"name": "score", "type": "double", "nullable": False}],
        "score_column": "score",
        "rows_in": 10,
        "rows_scored": 9,
        "rows_quarantined": 1,
        "null_scores": 0,
        "files": [{"url": f"{OUTPUT_URL}/part-0.parquet", "etag": "0x8D", "size_bytes": 5}],
        "quarantine_files": [],
    }
    return document | changes


def read_scores(**changes: Any) -> ScoresManifest:
    return ScoresManifest.from_bytes(json.dumps(make_scores(**changes)).encode())


WANTED = WantedScores(
    run_id=RUN_ID,
    attempt=2,
    pipeline=PipelineKey("scoring"),
    batch_id=BatchId("0123456789abcdef"),
    manifest_url=f"{BASE}/tidegate/manifests/x.json",
    manifest_sha256="b" * 64,
    file_count=1,
    model_name="main.tidegate.model",
    model_version="3",
    output_url=OUTPUT_URL,
    decided_at=NOON,
)


def test_scores_that_add_up_are_proof() -> None:
    validator_of("scores-manifest").validate(make_scores())

    assert verify(read_scores(), WANTED) == []
    assert verify(read_scores(attempt=1), WANTED) == []  # an earlier attempt had published before it died


def test_every_discrepancy_of_scores_is_listed() -> None:
    """A run is never called a success because one number fits."""
    scores = read_scores(
        run_id="other-20260101T120000Z-0123456789ab",
        created_at="2026-01-01T11:59:59Z",
        rows_in=11,
        null_scores=2,
        score_column="missing",
        files=[{"url": f"{BASE}/scores/elsewhere/part-0.parquet", "etag": "0x8D", "size_bytes": 5}],
        model=make_scores()["model"] | {"version": "2"},
    )

    assert verify(scores, WANTED) == [
        "model.version is '2', expected '3'",
        f"run_id is 'other-20260101T120000Z-0123456789ab', expected '{RUN_ID}'",
        "rows do not add up: 11 in, but 9 scored and 1 quarantined",
        "2 scores are null or NaN, expected none",
        "score_column 'missing' is not among the declared columns",
        f"file '{BASE}/scores/elsewhere/part-0.parquet' is outside '{OUTPUT_URL}'",
    ]


def test_scores_of_a_later_attempt_are_no_proof() -> None:
    assert verify(read_scores(attempt=3), WANTED) == ["attempt is 3, expected at most 2"]


def test_scores_that_another_run_replaced_since_stand_for_ours() -> None:
    """R43: same batch, same model, same place; two runs at once must not make each other fail."""
    inputs = make_scores()["inputs"] | {"manifest_sha256": "f" * 64}
    theirs = {"run_id": "other-20260101T120000Z-0123456789ab", "inputs": inputs, "attempt": 9}

    assert verify(read_scores(**theirs), WANTED) == []
    assert verify(read_scores(**theirs, rows_in=11), WANTED) != []
    assert len(verify(read_scores(**theirs, created_at="2026-01-01T11:00:00Z"), WANTED)) == 2


def test_scores_manifest_with_mistakes_lists_them() -> None:
    with pytest.raises(InvalidDocumentError) as refused:
        read_scores(rows_in=-1, columns=[], files=[{"url": "x", "etag": "e", "size_bytes": 0}])

    assert [problem.place for problem in refused.value.problems] == [
        "scores manifest.columns",
        "scores manifest.rows_in",
        "scores manifest.files[0].url",
        "scores manifest.files[0].size_bytes",
    ]


def test_scores_say_what_the_event_says_of_them() -> None:
    scores = read_scores()

    assert scores.outputs(OUTPUT_URL) == OutputsRef(
        scores_url=OUTPUT_URL,
        manifest_url=f"{OUTPUT_URL}/_manifest.json",
        manifest_sha256=scores.sha256,
        rows_in=10,
        rows_scored=9,
        rows_quarantined=1,
    )
