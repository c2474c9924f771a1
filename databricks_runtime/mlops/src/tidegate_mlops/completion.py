"""Builds the event that announces how this attempt ended."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, Literal
from urllib.parse import unquote

from tidegate_mlops.errors import RefusedFile
from tidegate_mlops.parameters import Parameters
from tidegate_mlops.plan import StageResult

__all__ = ["RunFacts", "completion_event", "completion_event_id", "finite"]

_SCHEMA: Final = "urn:tidegate:schema:completion-event:1"
_REFUSED_NAMED: Final = 20  # the schema's limits: an event may have 64 KB in all
_REFUSED_REASON: Final = 300
_REFUSED_BYTES: Final = 8000
_REFUSED_OTHERS: Final = 200
_REASON_BYTES: Final = 6000
_STAGE_REASON_BYTES: Final = 3000
_MAX_URL: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is known about a run at its end; absent parts are None, never invented."""

    databricks_run_id: int | None
    model: Mapping[str, object] | None
    inputs: Mapping[str, object] | None
    outputs: Mapping[str, object] | None
    stages: Sequence[StageResult]
    metrics: Mapping[str, float]
    consignment: str | None = None  # as the input manifest has it
    replaces: str | None = None  # likewise
    refused: Sequence[RefusedFile] = ()  # the input files that alone are to blame for a failure


def completion_event_id(parameters: Parameters, outcome: Literal["completed", "failed"]) -> str:
    """Return the event's id: whoever announces this outcome of this attempt, subscribers see one event."""
    return f"{parameters.run_id}.{parameters.attempt}.{outcome}"


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that are numbers to JSON: with a NaN in it, nobody reads the document."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def completion_event(
    parameters: Parameters,
    facts: RunFacts,
    *,
    outcome: Literal["completed", "failed"],
    reason: str | None,
    traceparent: str,
    now: datetime,
) -> dict[str, object]:
    """Return the CloudEvents 1.0 event in its JSON form (docs/contracts/completion-event.schema.json)."""
    event: dict[str, object] = {
        "specversion": "1.0",
        "id": completion_event_id(parameters, outcome),
        "source": f"/tidegate/{parameters.environment}",
        "type": f"tidegate.{parameters.kind}.{outcome}",
        "subject": f"pipelines/{parameters.pipeline}/runs/{parameters.run_id}",
        "time": now.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "dataschema": _SCHEMA,
        "data": {
            "schema_version": 1,
            "run_id": parameters.run_id,
            "attempt": parameters.attempt,
            "outcome": outcome,
            "reason": _shortened(reason, _REASON_BYTES),
            "pipeline": parameters.pipeline,
            "kind": parameters.kind,
            "environment": parameters.environment,
            "token": parameters.token,
            "databricks_run_id": facts.databricks_run_id,
            "model": facts.model,
            "inputs": facts.inputs,
            "outputs": facts.outputs,
            "stages": [
                stage.to_json() | {"reason": _shortened(stage.reason, _STAGE_REASON_BYTES)} for stage in facts.stages
            ],
            "metrics": finite(facts.metrics),
            "consignment": facts.consignment,
            "replaces": facts.replaces,
            "refused": _refused(facts.refused),
            "announced_by": "notebook",
        },
    }
    if traceparent:
        event["traceparent"] = traceparent
    return event


def _refused(files: Sequence[RefusedFile]) -> dict[str, object] | None:
    """Return the refused files as the event names them: all are counted, the first are named, others have a digest."""
    if not files:
        return None
    named: list[dict[str, str]] = []
    others: list[str] = []
    room = _REFUSED_BYTES
    for file in files:
        entry = {"url": file.url, "etag": file.etag, "reason": file.reason[:_REFUSED_REASON]}
        size = _size(entry)
        if len(named) < _REFUSED_NAMED and len(file.url) <= _MAX_URL and size <= room:
            named.append(entry)
            room -= size
        elif len(others) < _REFUSED_OTHERS:
            others.append(_digest(file))
    return {"file_count": len(files), "files": named, **({"others": others} if others else {})}


def _digest(file: RefusedFile) -> str:
    """Return what stands for a file whose URL has no room; the control plane makes the same of the arrival's."""
    return sha256(f"{unquote(file.url)}\n{file.etag}".encode(errors="replace")).hexdigest()[:12]


def _size(value: object) -> int:
    """Return how many bytes a value takes as it is sent: a character that is not ASCII is escaped, to 6 or 12."""
    return len(json.dumps(value))


def _shortened(text: str | None, max_bytes: int) -> str | None:
    """Return the text, cut to so many bytes as it is sent, with an ellipsis as the last."""
    if text is None or _size(text) <= max_bytes:
        return text
    room = max_bytes - _size("…")
    while _size(text) > room:
        # A character takes from one byte to twelve, so this ends after a few rounds and cuts little too much.
        text = text[: -max(1, (_size(text) - room) // 12)]
    return text + "…"
