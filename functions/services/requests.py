"""Answers people and systems that ask for runs, or for what became of them."""

from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import assert_never

from functions.core.access import Actor
from functions.core.decided import Hold, Skip, StartRun
from functions.core.decisions import decide
from functions.core.errors import InvalidRequestError, Problem
from functions.core.explain import explain
from functions.core.freezing import freeze
from functions.core.ledger import Run
from functions.core.model import RunId, RunRequested
from functions.core.requests import parse_run_request
from functions.core.tokens import run_id_of_request
from functions.ports import ClaimedRequest
from functions.services.changes import read_run
from functions.services.decided_runs import find_files, queue_run, write_decided_run
from functions.services.plane import ControlPlane
from functions.services.situations import situation_of

__all__ = ["explain_request", "request_run", "show_run"]


def request_run(
    plane: ControlPlane,
    body: bytes,
    *,
    idempotency_key: str,
    actor: Actor | None = None,
    traceparent: str | None = None,
) -> Run | Skip:
    """Return the run that a body asks for, made by this call or an earlier one with the same key, or why there is none.

    Raises:
        InvalidRequestError: The body is wrong, with every bad field; or the key stands for another request.
    """
    with plane.telemetry.span("request", traceparent=traceparent, request_id=idempotency_key) as span:
        event = _claim(plane, body, idempotency_key=idempotency_key, traceparent=span.traceparent)
        existing = plane.ledger.get_run(run_id_of_request(event))
        if existing is not None:  # whatever would keep it from being started now: by its own being active, for one
            if not existing.value.is_story_over:
                queue_run(plane, existing.value)
            span.set(outcome=f"run {existing.value.id}")
            return existing.value
        situation = situation_of(plane, plane.pipelines.get(event.pipeline))
        decision = decide(event, plane.pipelines, situation)
        match decision:
            case Skip():
                span.set(outcome=str(decision))
                return decision
            case StartRun():
                written = write_decided_run(plane, decision, situation, actor=actor)
                result = written if isinstance(written, Skip) else written.value
                span.set(outcome=str(result) if isinstance(result, Skip) else f"run {result.id}")
                return result
            case Hold():
                raise AssertionError("a request is never held")
            case _:
                assert_never(decision)


def explain_request(plane: ControlPlane, body: bytes, *, idempotency_key: str) -> dict[str, object]:
    """Return what the request would start and why, starting and remembering nothing."""
    event = _parse(plane, body, plane.clock.now(), idempotency_key=idempotency_key, traceparent=None)
    situation = situation_of(plane, plane.pipelines.get(event.pipeline))
    decision = decide(event, plane.pipelines, situation)
    frozen = None
    if isinstance(decision, StartRun):
        frozen = freeze(decision, find_files(plane, decision), situation, now=plane.clock.now())
    if isinstance(frozen, Skip):
        return explain(event, frozen, situation)
    return explain(event, decision, situation, frozen=frozen)


def _claim(plane: ControlPlane, body: bytes, *, idempotency_key: str, traceparent: str | None) -> RunRequested:
    """Return the request as it was first made under its key; this call may be the first."""
    now = plane.clock.now()
    # Read first, so that a wrong body does not take the key.
    event = _parse(plane, body, now, idempotency_key=idempotency_key, traceparent=traceparent)
    wanted = ClaimedRequest(
        request_id=idempotency_key,
        requested_at=now,
        fingerprint=_fingerprint(event),
        run_id=run_id_of_request(event),
    )
    first = plane.ledger.claim_request(wanted)
    if first.fingerprint != wanted.fingerprint:
        expected = "the same request as the first under this key, or another key"
        raise InvalidRequestError([Problem("Idempotency-Key", repr(idempotency_key), expected)])
    return replace(event, requested_at=first.requested_at)


def _parse(
    plane: ControlPlane, body: bytes, requested_at: datetime, *, idempotency_key: str, traceparent: str | None
) -> RunRequested:
    return parse_run_request(
        body,
        idempotency_key=idempotency_key,
        pipelines=plane.pipelines,
        account=plane.account,
        requested_at=requested_at,
        traceparent=traceparent,
    )


def _fingerprint(event: RunRequested) -> str:
    """Return what the request asks for as one hash, whatever the body's layout."""
    asked = (
        event.pipeline,
        sorted((stage.value, is_on) for stage, is_on in event.stages.items()),
        sorted(event.parameters.items()),
        event.files,
    )
    return sha256(repr(asked).encode()).hexdigest()


def show_run(plane: ControlPlane, run_id: RunId) -> Run:
    """Return a run; raises UnknownRunError."""
    return read_run(plane.ledger, run_id).value
