"""Makes the documents between the two sides, and finds their schemas."""

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from functions.core.completion import CompletionEvent
from functions.core.lineage import (
    FileRef,
    InputsRef,
    ModelRef,
    OutputsRef,
    StageResult,
)
from functions.core.model import (
    BatchId,
    DatabricksRunId,
    IdempotencyToken,
    Outcome,
    PipelineKey,
    RunId,
    RunKind,
    Stage,
    StageOutcome,
)

__all__ = ["BASE", "CONTRACTS", "NOON", "OUTPUT_URL", "RUN_ID", "json_values", "make_event", "validator_of"]

CONTRACTS = Path(__file__).parents[2] / "docs" / "contracts"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUN_ID = RunId("scoring-20260101T120000Z-0123456789ab")
BASE = "https://acct.blob.core.windows.net"
OUTPUT_URL = f"{BASE}/scores/scoring/batch=0123456789abcdef/model_version=3"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)


@cache
def validator_of(name: str) -> Draft202012Validator:
    """Return what holds a document to the contract of this name."""
    schema = json.loads((CONTRACTS / f"{name}.schema.json").read_text())
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def make_event(**changes: Any) -> CompletionEvent:
    """Return the event of a completed scoring attempt, changed as told."""
    fields: dict[str, Any] = {
        "run_id": RUN_ID,
        "attempt": 2,
        "outcome": Outcome.COMPLETED,
        "reason": None,
        "pipeline": PipelineKey("scoring"),
        "kind": RunKind.SCORING,
        "environment": "local",
        "token": IdempotencyToken("a" * 64),
        "databricks_run_id": DatabricksRunId(7),
        "time": NOON,
        "announced_by": "notebook",
        "model": ModelRef(name="main.tidegate.model", version="3", mlflow_run_id="m", is_champion=True),
        "inputs": InputsRef(
            manifest_url=f"{BASE}/tidegate/manifests/x.json",
            manifest_sha256="b" * 64,
            batch_id=BatchId("0123456789abcdef"),
            file_count=1,
            files=(FileRef(url=f"{BASE}/input/a.parquet", etag="0x8D"),),
        ),
        "outputs": OutputsRef(
            scores_url=OUTPUT_URL,
            manifest_url=f"{OUTPUT_URL}/_manifest.json",
            manifest_sha256="c" * 64,
            rows_in=10,
            rows_scored=9,
            rows_quarantined=1,
        ),
        "stages": (StageResult(name=Stage.PUBLISH, outcome=StageOutcome.RAN, duration_s=1.5),),
        "metrics": {"rmse": 1.25},
        "traceparent": "",
    }
    return CompletionEvent(**(fields | changes))
