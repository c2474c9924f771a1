"""Builds the event that announces how this attempt ended."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from tidegate_mlops.errors import RefusedFile
from tidegate_mlops.parameters import Parameters
from tidegate_mlops.plan import StageResult

__all__ = ["RunFacts", "completion_event", "completion_event_id"]

_SCHEMA: Final = "urn:tidegate:schema:completion-event:1"
_REFUSED_NAMED: Final = 20  # the schema's limits: an event may have 64 KB in all
_REFUSED_REASON: Final = 300
_REFUSED_BYTES: Final = 8000
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
            "reason": reason,
            "pipeline": parameters.pipeline,
            "kind": parameters.kind,
            "environment": parameters.environment,
            "token": parameters.token,
            "databricks_run_id": facts.databricks_run_id,
            "model": facts.model,
            "inputs": facts.inputs,
            "outputs": facts.outputs,
            "stages": [stage.to_json() for stage in facts.stages],
            "metrics": dict(facts.metrics),
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
    """Return the refused files as the event names them: all are counted, the first are named."""
    if not files:
        return None
    named: list[dict[str, str]] = []
    room = _REFUSED_BYTES
    for file in files[:_REFUSED_NAMED]:
        entry = {"url": file.url, "etag": file.etag, "reason": file.reason[:_REFUSED_REASON]}
        room -= len(json.dumps(entry, ensure_ascii=False).encode(errors="replace"))
        if len(file.url) <= _MAX_URL and room >= 0:
            named.append(entry)
    return {"file_count": len(files), "files": named}
