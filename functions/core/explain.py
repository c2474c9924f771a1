"""Words a decision for machines and for people: what was looked at, what follows, and why."""

from collections.abc import Mapping
from typing import assert_never

from functions.core.decided import Decision, Hold, Situation, Skip, StartRun
from functions.core.freezing import Frozen, parameters_of, token_of
from functions.core.ledger import CauseKind
from functions.core.model import BlobCreated, ModelSignal, OtherBlobEvent, RunRequested, SlotDue, TriggerEvent
from functions.core.reading import to_iso
from functions.core.reasons import HoldReason
from functions.core.routing import Routing

__all__ = ["explain", "explanation_lines"]


def explain(
    event: TriggerEvent,
    decision: Decision,
    situation: Situation,
    *,
    then: Decision | None = None,
    frozen: Frozen | None = None,
) -> dict[str, object]:
    """Return the decision as a JSON-able object.

    Args:
        event: What was decided about.
        decision: What `decide` returned.
        situation: What it was decided in.
        then: For a held arrival, what closing its batch with it alone would give.
        frozen: The run with its files, if they are known; then the token is exactly the one that would be sent.
    """
    routing = decision.routing if isinstance(decision, Skip | Hold) else None
    document: dict[str, object] = {
        "event": _event(event),
        "environment": situation.environment,
        "decision": _decision(decision),
        "routes_tried": [] if routing is None else _tried(routing),
    }
    if then is not None:
        document["then"] = _decision(then)
    if frozen is not None:
        run = frozen.run
        document["run"] = {
            "id": run.id,
            "token": token_of(run),
            "job": run.job,
            "batch_id": run.batch_id,
            "files": [file.blob.url for file in frozen.manifest.files[:20]],
            "file_count": run.file_count,
            "output_url": run.output_url or None,
            "parameters": parameters_of(run),
        }
    return document


def explanation_lines(document: Mapping[str, object]) -> list[str]:
    """Return an explanation as lines of text, in the order in which a person asks."""
    lines: list[str] = []
    _write(document, "", lines)
    return lines


def _write(value: Mapping[str, object], indent: str, lines: list[str]) -> None:
    for key, item in value.items():
        if isinstance(item, Mapping):
            lines.append(f"{indent}{key}:")
            _write(item, indent + "  ", lines)
        elif isinstance(item, list):
            lines.append(f"{indent}{key}:" + ("" if item else " none"))
            lines.extend(f"{indent}  - {_item(part)}" for part in item)
        elif item is not None:
            lines.append(f"{indent}{key}: {_scalar(item)}")


def _item(part: object) -> str:
    if isinstance(part, Mapping):
        return ", ".join(f"{key} {_scalar(item)}" for key, item in part.items() if item not in {None, ""})
    return str(part)


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _event(event: TriggerEvent) -> dict[str, object]:
    match event:
        case BlobCreated() | OtherBlobEvent():
            return {
                "kind": "blob created" if isinstance(event, BlobCreated) else event.event_type,
                "url": event.blob.url,
                "etag": event.blob.etag,
                "size_bytes": event.blob.size_bytes,
                "api": event.api,
                "time": to_iso(event.event_time),
            }
        case SlotDue():
            return {"kind": "schedule", "schedule": event.schedule, "slot": to_iso(event.slot)}
        case ModelSignal():
            return {
                "kind": event.type.value,
                "model": event.model_name,
                "model_version": event.model_version,
                "window": f"{to_iso(event.window_start)} to {to_iso(event.window_end)}",
                "metrics": dict(event.metrics),
                "time": to_iso(event.time),
            }
        case RunRequested():
            return {"kind": "request", "request_id": event.request_id, "files": [f"{c}/{p}" for c, p in event.files]}
        case _:
            assert_never(event)


def _decision(decision: Decision) -> dict[str, object]:
    match decision:
        case Skip():
            return {
                "action": "skip",
                "reason": decision.reason.value,
                "why": str(decision),
                "pipeline": decision.pipeline,
            }
        case Hold():
            return {
                "action": "hold",
                "reason": decision.reason.value,
                "why": _why_held(decision),
                "pipeline": decision.pipeline,
                "route": decision.route or None,
                "consignment": decision.consignment or None,
                "wait_s": decision.wait_s,
            }
        case StartRun():
            return {
                "action": "start",
                "why": f"asked for by {decision.cause.kind.value} {decision.cause.name}",
                "pipeline": decision.pipeline.key,
                "job": decision.pipeline.job,
                "run_id": decision.run_id,
                "stages": {stage.value: is_on for stage, is_on in decision.stages.items()},
                "parameters": dict(decision.parameters),
                "model": decision.pipeline.model_name,
                "model_version": decision.model_version,
                "cancels_active_run": decision.must_cancel_active,
                "config_version": decision.config_version,
                **_unless(decision),
            }
        case _:
            assert_never(decision)


def _unless(decision: StartRun) -> dict[str, object]:
    """Return what only the ledger knows, for a run that a signal asks for."""
    rule = next((rule for rule in decision.pipeline.signals if rule.name == decision.cause.name), None)
    if decision.cause.kind is not CauseKind.SIGNAL or rule is None:
        return {}
    return {"unless": f"{rule.name} has started another run within the last {rule.cooldown_hours} hours"}


def _why_held(hold: Hold) -> str:
    if hold.reason is HoldReason.WINDOW_OPEN and not hold.wait_s:
        return "the pipeline has no batching window, so its batch closes at once"
    return hold.reason.sentence


def _tried(routing: Routing) -> list[dict[str, object]]:
    return [
        {"pipeline": tried.pipeline, "route": tried.route, "matches": tried.is_match, "why": tried.why}
        for tried in routing.tried
    ]
