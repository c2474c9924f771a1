"""Tells people, once a pipeline and UTC day, that a spent budget holds its work back."""

from contextlib import suppress

from functions.core.alerts import Alert, AlertKind
from functions.core.errors import TransientError
from functions.core.held import BUDGET_REASONS, HeldEvent
from functions.core.model import PipelineKey
from functions.core.reasons import HoldReason
from functions.core.turnstile import EVERY, Refusal
from functions.services.plane import ControlPlane
from functions.services.turnstile import change_turnstile, look_at_turnstile

__all__ = ["is_told", "tell_held"]


def is_told(plane: ControlPlane, pipeline: PipelineKey, refusal: Refusal) -> bool:
    """Return whether there is nothing to tell, because no budget holds the pipeline or someone knows already."""
    if refusal.reason not in BUDGET_REASONS:
        return True
    turnstile = look_at_turnstile(plane)
    return turnstile.told.get(pipeline) == turnstile.day_at(plane.clock.now())


def tell_held(plane: ControlPlane, pipeline: PipelineKey, refusal: Refusal, *, traceparent: str | None = None) -> None:
    """Raise an alert and publish an event, unless that was done today; work that waits is there, as the caller saw.

    The note that it was done comes last, so a crash tells it again: under the same id, which subscribers see once.
    What the topic does not take now is told by the next look, which comes within a minute for as long as work waits.
    """
    if is_told(plane, pipeline, refusal):
        return
    event = _event(plane, pipeline, refusal.reason, traceparent)
    kind = AlertKind(refusal.reason.value)  # an alert rule matches on it
    detail = (
        f"{refusal.reason.sentence}: {event.begun} began on {event.day.isoformat()}, of {event.max_runs_per_day}; "
        "what comes is held until midnight UTC, or until a person allows more"
    )
    plane.telemetry.alert(
        kind.value,
        traceparent=traceparent,
        pipeline=pipeline,
        reason=refusal.reason.value,
        begun=event.begun,
        max_runs_per_day=event.max_runs_per_day,
        detail=detail,
    )
    with suppress(TransientError):
        plane.publisher.publish([event])
        plane.ledger.record_alert(Alert(kind=kind, pipeline=pipeline, at=event.time, detail=detail))
        change_turnstile(plane, lambda turnstile: turnstile.note_told(pipeline, event.day))


def _event(plane: ControlPlane, pipeline: PipelineKey, reason: HoldReason, traceparent: str | None) -> HeldEvent:
    turnstile, now = look_at_turnstile(plane), plane.clock.now()
    day, known = turnstile.day_at(now), plane.pipelines.by_key.get(pipeline)
    whose, configured = pipeline, None if known is None else known.max_runs_per_day
    if reason is HoldReason.TOTAL_BUDGET_SPENT:
        whose, configured = EVERY, plane.pipelines.limits.max_runs_per_day
    return HeldEvent(
        pipeline=pipeline,
        environment=plane.environment,
        reason=reason,
        day=day,
        begun=turnstile.begun_on(day, whose),
        max_runs_per_day=turnstile.budget_of(day, whose, configured) or 0,
        time=now,
        traceparent=traceparent or "",
    )
