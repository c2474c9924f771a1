"""Explains what an event would start, with the very functions that decide about it; starts nothing."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import typer

from cli.configuration import chosen_file, read_pipelines
from cli.failures import CommandError
from functions.core.batching import close_batch
from functions.core.blob_events import parse_blob_event
from functions.core.decided import Decision, Hold, Situation, StartRun
from functions.core.decisions import decide
from functions.core.errors import InvalidDocumentError, InvalidEventError, InvalidRequestError
from functions.core.explain import explain, explanation_lines
from functions.core.freezing import Frozen, freeze
from functions.core.ledger import Arrival
from functions.core.model import (
    ArrivalState,
    BlobCreated,
    BlobRenamed,
    ModelSignal,
    OtherBlobEvent,
    RunRequested,
    TriggerEvent,
)
from functions.core.pipelines import Pipelines
from functions.core.requests import parse_run_request
from functions.core.signals import is_signal_type, signal_from_document
from functions.core.tokens import arrival_id_of

__all__ = ["explain_event"]

_ACCOUNT_OF_A_REQUEST = "tidegatelocal"
_ANY_VERSION = "1"  # stands for the champion's version while it is not known; never shown


def explain_event(
    source: Path, config: Path | None, *, environment: str, model_version: str | None, as_json: bool
) -> None:
    """Print the decision about the event in a file, and the run that would follow."""
    pipelines = read_pipelines(chosen_file(config))
    now = datetime.now(UTC)
    event = _read_event(_read(source), pipelines, now)
    situation = Situation(
        environment=environment,
        account=event.blob.account if isinstance(event, BlobCreated | OtherBlobEvent) else _ACCOUNT_OF_A_REQUEST,
        model_version=model_version or _ANY_VERSION,
    )
    decision = decide(event, pipelines, situation)
    then = _then(event, decision, pipelines, situation)
    frozen = _frozen(event, then or decision, situation, now) if model_version is not None else None
    document = explain(event, decision, situation, then=then, frozen=frozen)
    if model_version is None:
        _forget_version(document)
    typer.echo(json.dumps(document, indent=2) if as_json else "\n".join(explanation_lines(document)))


def _read(source: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(source) == "-" else source.read_bytes()
    except OSError as error:
        expected = "expected a file with one event, - for standard input, or the whole id of an arrival or a run"
        raise CommandError(f"cannot read {source}: {error.strerror}; {expected}") from error


def _read_event(
    content: bytes, pipelines: Pipelines, now: datetime
) -> BlobCreated | OtherBlobEvent | RunRequested | ModelSignal:
    """Return a blob's event in either schema, a signal about a model, or the body of a request for a run."""
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    try:
        if isinstance(document, dict) and is_signal_type(document.get("type")):
            return signal_from_document(document)
        if isinstance(document, dict) and "pipeline" in document:
            return parse_run_request(
                content, idempotency_key="explain", pipelines=pipelines, account=_ACCOUNT_OF_A_REQUEST, requested_at=now
            )
        event = parse_blob_event(content)
    except (InvalidEventError, InvalidRequestError, InvalidDocumentError) as error:
        raise CommandError(str(error)) from error
    if isinstance(event, BlobRenamed):
        raise CommandError("a rename says neither size nor ETag, so what it starts is known only when it is looked up")
    return event


def _then(event: TriggerEvent, decision: Decision, pipelines: Pipelines, situation: Situation) -> Decision | None:
    """Return what closing the batch with this arrival alone gives, if it is held."""
    if not isinstance(decision, Hold) or decision.consignment or not isinstance(event, BlobCreated):
        return None  # one file of a consignment says nothing of the others
    pipeline = pipelines.get(decision.pipeline)
    arrival = Arrival(
        id=arrival_id_of(event.blob),
        blob=event.blob,
        state=ArrivalState.HELD,
        event_id=event.event_id,
        event_time=event.event_time,
        api=event.api,
        content_type=event.content_type,
        recorded_at=event.event_time,
        updated_at=event.event_time,
        pipeline=decision.pipeline,
        route=decision.route,
        traceparent=event.traceparent,
    )
    closed_at = event.event_time + timedelta(seconds=pipeline.batching.max_wait_seconds)
    return close_batch(pipeline, [arrival], pipelines, situation, now=closed_at)


def _frozen(event: TriggerEvent, decision: Decision, situation: Situation, now: datetime) -> Frozen | None:
    """Return the run with its one file, and with it the token that would be sent."""
    if not isinstance(decision, StartRun) or not isinstance(event, BlobCreated):
        return None
    frozen = freeze(decision, [event.blob], situation, now=now)
    return frozen if isinstance(frozen, Frozen) else None


def _forget_version(document: dict[str, object]) -> None:
    """Leave out the model version, which is resolved when the run is decided."""
    for key in ("decision", "then"):
        part = document.get(key)
        if isinstance(part, dict) and part.get("model_version") is not None:
            part["model_version"] = None
            part["model_version_is"] = "the one that the pipeline's alias names when the run is decided"
