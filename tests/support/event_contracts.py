"""Writes what subscribers rely on: a schema per event type, and the page that lists them with examples.

The three documents in docs/contracts/ that events share are written by hand; what is made of them is written by
`python -m tests.support.event_contracts`, and a test holds the files to it.
"""

import copy
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from functions.core.completion import CompletionEvent
from functions.core.held import HeldEvent
from functions.core.lineage import FileRef, InputsRef, ModelRef, OutputsRef, RefusedFile, RefusedRef, StageResult
from functions.core.model import (
    BatchId,
    DatabricksRunId,
    IdempotencyToken,
    ModelSignal,
    Outcome,
    PipelineKey,
    RunId,
    RunKind,
    RunState,
    SignalType,
    Stage,
    StageOutcome,
)
from functions.core.reasons import HoldReason
from functions.core.signals import signal_to_document
from functions.core.stalled import StalledEvent

__all__ = ["CONTRACTS", "PAGE", "SCHEMAS", "event_examples", "event_page", "event_schemas"]

CONTRACTS: Final = Path(__file__).parents[2] / "docs" / "contracts"
SCHEMAS: Final = CONTRACTS / "events"
PAGE: Final = CONTRACTS.parent / "events.md"
_TEMPLATE: Final = Path(__file__).parent / "events_page.md"
_RUN: Final = r"[a-z][a-z0-9_]{0,47}-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{12}"
_NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
_BASE: Final = "https://account.blob.core.windows.net"
_WHEN: Final[Mapping[str, str]] = {
    "completed": "an attempt did its work, and its outputs prove it",
    "failed": "an attempt raised, lost its cluster, or ended in a state that nobody knows",
    "cancelled": "someone cancelled an attempt, in Databricks or here",
    "timed_out": "an attempt ran into the job's time-out",
    "skipped": "Databricks never ran an attempt: it was skipped time and again, or switched off",
    "stalled": "an attempt is open for longer than its pipeline's SLA; it may still complete",
    "held": "a pipeline's work waits because a day's budget is spent; told once a day",
    "drift_detected": "a monitor found that what is scored differs from what was trained on",
    "decay_detected": "a monitor found that the scores are worse than they were",
}


def event_schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of each event type by the name of its file; each is whole in itself."""
    schemas: dict[str, dict[str, Any]] = {}
    for kind in RunKind:
        for outcome in Outcome:
            schema = _narrowed("completion-event", f"tidegate.{kind.value}.{outcome.value}")
            schema["properties"]["id"]["pattern"] = rf"^{_RUN}\.[1-9][0-9]*\.{outcome.value}$"
            schema["properties"]["data"]["properties"]["outcome"] = {"const": outcome.value}
            schema["properties"]["data"]["properties"]["kind"] = {"const": kind.value}
            schemas[f"tidegate.{kind.value}.{outcome.value}.schema.json"] = schema
        schema = _narrowed("stalled-event", f"tidegate.{kind.value}.stalled")
        schema["properties"]["data"]["properties"]["kind"] = {"const": kind.value}
        schemas[f"tidegate.{kind.value}.stalled.schema.json"] = schema
    schemas["tidegate.pipeline.held.schema.json"] = _narrowed("held-event", "tidegate.pipeline.held")
    for signal in SignalType:
        schemas[f"{signal.value}.schema.json"] = _narrowed("model-signal", signal.value)
    return schemas


def _narrowed(base: str, event_type: str) -> dict[str, Any]:
    """Return the shared schema of one type, versioned with the shared one."""
    schema: dict[str, Any] = copy.deepcopy(json.loads((CONTRACTS / f"{base}.schema.json").read_text()))
    version = schema["$id"].rsplit(":", 1)[1]
    schema["$id"] = f"urn:tidegate:schema:event:{event_type}:{version}"
    schema["title"] = event_type
    schema["properties"]["type"] = {"const": event_type}
    return schema


def event_examples() -> dict[str, dict[str, object]]:
    """Return one event of each type."""
    examples: dict[str, dict[str, object]] = {}
    for kind in RunKind:
        for outcome in Outcome:
            event = _completion(kind, outcome)
            examples[event.type] = event.to_document()
        stall = _stall(kind)
        examples[stall.type] = stall.to_document()
    held = HeldEvent(
        pipeline=PipelineKey("flight_delay_scoring"),
        environment="prod",
        reason=HoldReason.BUDGET_SPENT,
        day=_NOON.date(),
        begun=200,
        max_runs_per_day=200,
        time=_NOON,
    )
    examples[held.type] = held.to_document()
    for signal in SignalType:
        examples[signal.value] = signal_to_document(_signal(signal))
    return examples


def _completion(kind: RunKind, outcome: Outcome) -> CompletionEvent:
    pipeline = PipelineKey(f"flight_delay_{kind.value}")
    run_id = RunId(f"{pipeline}-20260301T120000Z-0123456789ab")
    is_completed = outcome is Outcome.COMPLETED
    june = FileRef(url=f"{_BASE}/input/flights/new/2013-06.parquet", etag="0x8D83FACDC0C3402")
    why = "input_refused: '2013-06.parquet' is no Parquet file (Parquet magic bytes not found in footer)"
    refuses = outcome is Outcome.FAILED and kind is RunKind.SCORING
    scores = f"{_BASE}/scores/{pipeline}/batch=0123456789abcdef/model_version=7"
    reasons = {
        Outcome.COMPLETED: None,
        Outcome.FAILED: why
        if refuses
        else "Databricks says TERMINATED/FAILED/RUN_EXECUTION_ERROR: the notebook raised",
        Outcome.CANCELLED: "Databricks says TERMINATED/CANCELED/USER_CANCELED",
        Outcome.TIMED_OUT: "Databricks says TERMINATED/TIMEDOUT/CANCELED",
        Outcome.SKIPPED: "Databricks says SKIPPED/MAX_CONCURRENT_RUNS_EXCEEDED",
    }
    return CompletionEvent(
        run_id=run_id,
        attempt=1,
        outcome=outcome,
        reason=reasons[outcome],
        pipeline=pipeline,
        kind=kind,
        environment="prod",
        token=IdempotencyToken("a" * 64),
        databricks_run_id=DatabricksRunId(500001),
        time=_NOON + timedelta(minutes=9),
        announced_by="notebook" if is_completed or refuses else "control_plane",
        model=ModelRef(
            name="main.tidegate.flight_delay",
            version="7",
            mlflow_run_id="0af7651916cd43dd8448eb211c80319c" if is_completed else None,
            is_champion=True if is_completed else None,
        ),
        inputs=InputsRef(
            manifest_url=f"{_BASE}/tidegate/manifests/{pipeline}/{run_id}.json",
            manifest_sha256="b" * 64,
            batch_id=BatchId("0123456789abcdef"),
            file_count=1,
            files=(june,),
        ),
        outputs=OutputsRef(
            scores_url=scores,
            manifest_url=f"{scores}/_manifest.json",
            manifest_sha256="c" * 64,
            rows_in=28_243,
            rows_scored=28_243,
            rows_quarantined=0,
        )
        if is_completed and kind is RunKind.SCORING
        else None,
        stages=(StageResult(name=Stage.PUBLISH, outcome=StageOutcome.RAN, duration_s=1.5),) if is_completed else (),
        metrics={"auc": 0.74} if is_completed and kind is RunKind.TRAINING else {},
        consignment="input/flights/new/2013-06/" if is_completed and kind is RunKind.SCORING else "",
        replaces=RunId(f"{pipeline}-20260301T110000Z-9876543210ab")
        if is_completed and kind is RunKind.SCORING
        else None,
        refused=RefusedRef(file_count=1, files=(RefusedFile(url=june.url, etag=june.etag, reason=why),))
        if refuses
        else None,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


def _stall(kind: RunKind) -> StalledEvent:
    pipeline = PipelineKey(f"flight_delay_{kind.value}")
    return StalledEvent(
        run_id=RunId(f"{pipeline}-20260301T120000Z-0123456789ab"),
        attempt=1,
        pipeline=pipeline,
        kind=kind,
        environment="prod",
        state=RunState.SUBMITTED,
        since=_NOON,
        stalled_after_minutes=1440,
        databricks_run_id=DatabricksRunId(500001),
        run_page_url="https://adb-1.1.azuredatabricks.net/jobs/1/runs/500001",
        time=_NOON + timedelta(days=1, minutes=1),
    )


def _signal(kind: SignalType) -> ModelSignal:
    is_drift = kind is SignalType.DRIFT_DETECTED
    return ModelSignal(
        event_id="2026-W09",
        source="/monitors/weekly",
        type=kind,
        time=_NOON,
        environment="prod",
        model_name="main.tidegate.flight_delay",
        model_version="7",
        window_start=_NOON - timedelta(days=7),
        window_end=_NOON,
        metrics={"psi": 0.31} if is_drift else {"auc": 0.62},
        reason="carrier mix" if is_drift else None,
    )


def event_page() -> str:
    """Return docs/events.md."""
    rows = [
        f"| `{event_type}` | {_when(event_type)} | [schema](contracts/events/{event_type}.schema.json) |\n"
        for event_type in event_examples()
    ]
    examples = [
        f"\n### {event_type}\n\n```json\n{json.dumps(document, indent=2, ensure_ascii=False)}\n```\n"
        for event_type, document in event_examples().items()
    ]
    template = _TEMPLATE.read_text()
    return template.replace("{table}", "".join(rows)).replace("{examples}", "".join(examples))


def _when(event_type: str) -> str:
    return next(text for word, text in _WHEN.items() if word in event_type.split("."))


def _main() -> None:
    SCHEMAS.mkdir(exist_ok=True)
    for name, schema in event_schemas().items():
        (SCHEMAS / name).write_text(json.dumps(schema, indent=2) + "\n")
    PAGE.write_text(event_page())


if __name__ == "__main__":
    _main()
