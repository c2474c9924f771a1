"""Answers people and systems that ask for runs, or for what became of them."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import assert_never

from functions.core.access import Actor
from functions.core.decided import Decision, Hold, Skip, StartRun
from functions.core.decisions import decide
from functions.core.errors import InvalidRequestError, Problem
from functions.core.explain import explain
from functions.core.freezing import freeze
from functions.core.ledger import Run
from functions.core.model import RunId, RunRequested
from functions.core.requests import parse_run_request
from functions.ports import ClaimedRequest
from functions.services.changes import read_run
from functions.services.decided_runs import find_files, write_decided_run
from functions.services.plane import ControlPlane
from functions.services.situations import situation_of

__all__ = ["explain_request", "request_run", "show_run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    event: RunRequested
    decision: Decision


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
        asked = _ask(plane, body, idempotency_key=idempotency_key, traceparent=span.traceparent, is_claimed=True)
        pipeline = plane.pipelines.get(asked.event.pipeline)
        match asked.decision:
            case Skip():
                span.set(outcome=str(asked.decision))
                return asked.decision
            case StartRun():
                written = write_decided_run(plane, asked.decision, situation_of(plane, pipeline), actor=actor)
                result = written if isinstance(written, Skip) else written.value
                span.set(outcome=str(result) if isinstance(result, Skip) else f"run {result.id}")
                return result
            case Hold():
                raise AssertionError("a request is never held")
            case _:
                assert_never(asked.decision)


def explain_request(plane: ControlPlane, body: bytes, *, idempotency_key: str) -> dict[str, object]:
    """Return what the request would start and why, starting and remembering nothing."""
    asked = _ask(plane, body, idempotency_key=idempotency_key, traceparent=None, is_claimed=False)
    situation = situation_of(plane, plane.pipelines.get(asked.event.pipeline))
    frozen = None
    if isinstance(asked.decision, StartRun):
        frozen = freeze(asked.decision, find_files(plane, asked.decision), situation, now=plane.clock.now())
    if isinstance(frozen, Skip):
        return explain(asked.event, frozen, situation)
    return explain(asked.event, asked.decision, situation, frozen=frozen)


def _ask(
    plane: ControlPlane, body: bytes, *, idempotency_key: str, traceparent: str | None, is_claimed: bool
) -> _Asked:
    now = plane.clock.now()

    def parse(requested_at: datetime) -> RunRequested:
        return parse_run_request(
            body,
            idempotency_key=idempotency_key,
            pipelines=plane.pipelines,
            account=plane.account,
            requested_at=requested_at,
            traceparent=traceparent,
        )

    event = parse(now)  # first, so that a wrong body does not take the key
    if is_claimed:
        wanted = ClaimedRequest(request_id=idempotency_key, requested_at=now, fingerprint=_fingerprint(event))
        first = plane.ledger.claim_request(wanted)
        if first.fingerprint != wanted.fingerprint:
            expected = "the same request as the first under this key, or another key"
            raise InvalidRequestError([Problem("Idempotency-Key", repr(idempotency_key), expected)])
        event = parse(first.requested_at)
    situation = situation_of(plane, plane.pipelines.get(event.pipeline))
    return _Asked(event=event, decision=decide(event, plane.pipelines, situation))


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
