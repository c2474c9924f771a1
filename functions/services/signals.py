"""Takes in signals about a model and starts the retraining that they ask for, once per window.

The order of writes, and what a crash between two of them leaves behind:

1. The rule's mark is claimed for the window's run, by compare-and-set against the mark that the cooldown was judged by:
   of two windows at once one gets it, and the other finds the cooldown.
   Crash: a mark without a run. The signal is delivered again, finds its own run in the mark and goes on.
2. The run is written, under an identity that follows from the window.
   If there can be none, the claim is given up, so that the next window need not wait for a run that never was.
   Another delivery about the same window may have found what to train on: whoever sees the run takes the claim back.
3. What became of the signal is recorded. A signal that is delivered again finds that and changes nothing.
"""

from dataclasses import dataclass, replace
from typing import Final, assert_never

from functions.core.decided import Decision, Hold, SignalState, Skip, StartRun
from functions.core.decisions import decide
from functions.core.errors import InvalidRequestError, LedgerConflictError
from functions.core.model import ModelSignal, RunId
from functions.core.pipelines import Pipeline, SignalRule
from functions.core.signal_records import SignalMark, SignalRecord
from functions.core.signals import find_signal_rule
from functions.core.tokens import run_id_of_signal
from functions.ports import Entry
from functions.services.decided_runs import queue_run, write_decided_run
from functions.services.plane import ControlPlane
from functions.services.situations import bare_situation, situation_of

__all__ = ["receive_signal"]

_TRIES: Final = 4


def receive_signal(plane: ControlPlane, signal: ModelSignal) -> SignalRecord:
    """Return what became of a signal, by this delivery or an earlier one.

    Raises:
        TransientError: Someone did not answer; the host delivers the message again.
    """
    with plane.telemetry.span(
        "signal",
        traceparent=signal.traceparent,
        event_id=signal.event_id,
        signal_type=signal.type.value,
        model=signal.model_name,
    ) as span:
        record = plane.signals.find(signal)
        if record is None:
            record = plane.signals.record(_deal_with(plane, signal, span.traceparent))
        span.set(outcome=record.what, reason=record.reason or None, pipeline=record.pipeline, run_id=record.run_id)
    return record


def _deal_with(plane: ControlPlane, signal: ModelSignal, traceparent: str) -> SignalRecord:
    listening = find_signal_rule(signal, plane.pipelines)
    pipeline, rule = listening.pipeline, listening.rule
    if pipeline is None or rule is None or signal.environment != plane.environment:
        return _refused(plane, signal, decide(signal, plane.pipelines, bare_situation(plane)))
    existing = plane.ledger.get_run(run_id_of_signal(pipeline.key, rule.name, signal))
    if existing is not None:  # of another signal about the same window, or of a delivery that died before its record
        if not existing.value.is_story_over:
            queue_run(plane, existing.value)
        return _started(plane, signal, existing.value.id, pipeline, rule)
    for _ in range(_TRIES):
        seen = plane.signals.mark_of(pipeline.key, rule.name)
        state = SignalState(now=plane.clock.now(), mark=None if seen is None else seen.value)
        decision = decide(signal, plane.pipelines, replace(situation_of(plane, pipeline), signal=state))
        if not isinstance(decision, StartRun):
            return _refused(plane, signal, decision, pipeline, rule)
        claim = _claim(plane, decision.run_id, pipeline, rule, seen)
        if claim is not None:
            return _start(plane, signal, replace(decision, traceparent=traceparent), claim)
    raise LedgerConflictError(f"claiming {pipeline.key}.{rule.name}", "it kept changing")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """A rule's mark with the window's run."""

    pipeline: Pipeline
    rule: SignalRule
    mark: SignalMark

    def give_up(self, plane: ControlPlane) -> None:
        self._swap(plane, self.mark, self.mark.given_up())

    def take_back(self, plane: ControlPlane) -> None:
        """Claim the window again if it was given up, by this delivery or another one."""
        self._swap(plane, self.mark.given_up(), self.mark)

    def _swap(self, plane: ControlPlane, old: SignalMark, new: SignalMark) -> None:
        current = plane.signals.mark_of(self.pipeline.key, self.rule.name)
        if current is not None and current.value == old:
            plane.signals.claim(self.pipeline.key, self.rule.name, new, current)


def _claim(
    plane: ControlPlane, run_id: RunId, pipeline: Pipeline, rule: SignalRule, seen: Entry[SignalMark] | None
) -> _Claim | None:
    """Take the rule's mark for the window, None if a rival has it; one that was taken for it before is ours."""
    if seen is not None and seen.value.run_id == run_id:
        return _Claim(pipeline=pipeline, rule=rule, mark=seen.value)
    now = plane.clock.now()
    mark = SignalMark(run_id=run_id, at=now) if seen is None else seen.value.followed_by(run_id, now)
    is_ours = plane.signals.claim(pipeline.key, rule.name, mark, seen)
    return _Claim(pipeline=pipeline, rule=rule, mark=mark) if is_ours else None


def _start(plane: ControlPlane, signal: ModelSignal, start: StartRun, claim: _Claim) -> SignalRecord:
    try:
        written = write_decided_run(plane, start, situation_of(plane, claim.pipeline))
    except InvalidRequestError:  # there are more files than a run may read: a person mends that, and replays the signal
        claim.give_up(plane)
        raise
    if isinstance(written, Skip):
        claim.give_up(plane)
        written = plane.ledger.get_run(start.run_id) or written
    if isinstance(written, Skip):
        return _refused(plane, signal, written, claim.pipeline, claim.rule)
    claim.take_back(plane)
    return _started(plane, signal, written.value.id, claim.pipeline, claim.rule)


def _started(
    plane: ControlPlane, signal: ModelSignal, run_id: RunId, pipeline: Pipeline, rule: SignalRule
) -> SignalRecord:
    record = _record(plane, signal, pipeline=pipeline, rule=rule)
    return replace(record, run_id=run_id, what=f"run {run_id}")


def _refused(
    plane: ControlPlane,
    signal: ModelSignal,
    decision: Decision,
    pipeline: Pipeline | None = None,
    rule: SignalRule | None = None,
) -> SignalRecord:
    record = _record(plane, signal, pipeline=pipeline, rule=rule)
    match decision:
        case Skip():
            return replace(record, reason=decision.reason.value, what=str(decision))
        case Hold() | StartRun():
            raise AssertionError("a signal that nobody takes starts nothing, and is never held")
        case _:
            assert_never(decision)


def _record(
    plane: ControlPlane, signal: ModelSignal, *, pipeline: Pipeline | None, rule: SignalRule | None
) -> SignalRecord:
    return SignalRecord(
        source=signal.source,
        event_id=signal.event_id,
        event_time=signal.time,
        type=signal.type.value,
        model_name=signal.model_name,
        window_start=signal.window_start,
        window_end=signal.window_end,
        recorded_at=plane.clock.now(),
        pipeline=None if pipeline is None else pipeline.key,
        rule="" if rule is None else rule.name,
        run_id=None,
        reason="",
        what="",
        config_version=plane.pipelines.version,
    )
