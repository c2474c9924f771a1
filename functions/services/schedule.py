"""Starts the runs that a schedule's slots ask for, each slot at most once."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from functions.core.decided import Hold, Skip, StartRun
from functions.core.decisions import decide
from functions.core.errors import LedgerConflictError, UnknownPipelineError
from functions.core.model import PipelineKey, SlotDue
from functions.core.pipelines import MissedSlots, Schedule
from functions.core.reading import to_iso
from functions.core.reasons import HoldReason
from functions.ports import Entry, NotedSlot
from functions.services.decided_runs import write_decided_run
from functions.services.plane import ControlPlane
from functions.services.situations import situation_of
from functions.services.turnstile import is_kept_out

__all__ = ["SlotOutcome", "catch_up", "fire_schedule"]

_EARLY: Final = timedelta(seconds=2)  # a timer may fire a moment before its time
_LATE: Final = timedelta(minutes=5)  # later than this, a slot counts as missed
_MOST_MISSED: Final = 100  # at once; with the policy to run each of them, the rest follows in the next pass
_TIMER_IS_AT_IT: Final = timedelta(seconds=30)
_CLOCKS_DIFFER: Final = timedelta(minutes=5)  # between instances; a slot noted further ahead comes from a wrong clock
_NOTING_TRIES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotOutcome:
    """What became of one slot."""

    slot: datetime
    what: str


def fire_schedule(plane: ControlPlane, pipeline_key: PipelineKey, name: str) -> list[SlotOutcome]:
    """Deal with the slot that is due, and with those that were missed since the last one, as the policy says.

    The slot comes from the schedule, never from the moment of the call: a timer that fires twice, late, or on two
    instances means the same slot, and the same slot is the same run.
    """
    pipeline = plane.pipelines.get(pipeline_key)
    schedule = pipeline.schedule(name)
    if schedule is None:
        raise UnknownPipelineError(PipelineKey(f"{pipeline_key}.{name}"), tuple(plane.pipelines.by_key))
    now = plane.clock.now()
    if _is_paused(plane, pipeline_key):
        return _leave_for_later(plane, pipeline_key, schedule, now)
    outcomes = [
        SlotOutcome(slot=slot, what=_fire(plane, pipeline_key, schedule, slot, is_past_due=now - slot > _LATE))
        for slot in _slots(plane, pipeline_key, schedule, now)
    ]
    if outcomes:
        # After the runs: a crash before this line deals with the same slots again, which are the same runs.
        _note(plane, pipeline_key, schedule, outcomes[-1])
    return outcomes


def catch_up(plane: ControlPlane, pipeline: PipelineKey, schedule: Schedule) -> str:
    """Deal with slots that came due while no timer could fire, or whose firing failed.

    The first look at a schedule only remembers where it stands: deploying a schedule does not run its past, and
    deploying another timetable for it does not run what that would have named before.
    """
    now = plane.clock.now()
    current = schedule.timetable.last_until(now)
    if current is None:
        return "slot: none yet"
    last = _last_slot(plane, pipeline, schedule, now)
    if last is None:
        _note(plane, pipeline, schedule, SlotOutcome(slot=current, what="came before the schedule was first seen"))
        return "slot: first seen"
    if schedule.has_timer and now - current < _TIMER_IS_AT_IT:
        return "slot: none due"
    if _is_of_another_timetable(last, schedule):
        _note(plane, pipeline, schedule, SlotOutcome(slot=max(last.slot, current), what="the timetable changed"))
        return "slot: timetable changed"
    if last.slot >= current:
        return "slot: none due"
    fire_schedule(plane, pipeline, schedule.name)
    return "slot: caught up" if not _is_paused(plane, pipeline) else "slot: paused"


def _is_paused(plane: ControlPlane, pipeline: PipelineKey) -> bool:
    refusal = is_kept_out(plane, pipeline)
    return refusal is not None and refusal.reason is HoldReason.PAUSED


def _leave_for_later(
    plane: ControlPlane, pipeline: PipelineKey, schedule: Schedule, now: datetime
) -> list[SlotOutcome]:
    """Leave what is due as it is: when the pipeline resumes, it has been missed, and the policy says what follows.

    The very first slot of a schedule has none before it from which it could be missed, so that is noted.
    """
    current = schedule.timetable.last_until(now + _EARLY)
    if current is None:
        return []
    if plane.ledger.last_slot(pipeline, schedule.name) is None:
        before = SlotOutcome(slot=current - timedelta(seconds=1), what="the schedule was first seen while paused")
        _note(plane, pipeline, schedule, before)
    return [SlotOutcome(slot=current, what=HoldReason.PAUSED.sentence)]


def _slots(plane: ControlPlane, pipeline: PipelineKey, schedule: Schedule, now: datetime) -> tuple[datetime, ...]:
    timetable = schedule.timetable
    current = timetable.last_until(now + _EARLY)
    if current is None:
        return ()
    last = _last_slot(plane, pipeline, schedule, now)
    if last is None or (last.slot < current and _is_of_another_timetable(last, schedule)):
        return (current,)  # the first ever, or the first of this timetable
    if last.slot >= current:
        # A repeat, which finds its run, or a person's doing. A timer that is early means the next slot: this one was
        # dealt with, and it may never have had a run, or one that the ledger has forgotten.
        is_early = now - current > _LATE and timetable.earliest(now + _EARLY, now + _LATE, limit=1)
        return () if is_early else (current,)
    match schedule.missed:
        case MissedSlots.LATEST:
            return (current,)
        case MissedSlots.RUN:  # in their order, and none is left out: what is too much for now comes next
            return timetable.earliest(last.slot, current, limit=_MOST_MISSED)
        case MissedSlots.SKIP:
            return timetable.latest(last.slot, current, limit=_MOST_MISSED)


def _is_of_another_timetable(last: NotedSlot, schedule: Schedule) -> bool:
    """Return whether the schedule's fields or zone changed since; releases before did not note them."""
    return last.timetable not in {"", schedule.timetable.text}


def _last_slot(plane: ControlPlane, pipeline: PipelineKey, schedule: Schedule, now: datetime) -> NotedSlot | None:
    """Return the last slot that was dealt with; one from the future is a wrong clock's, and is taken back.

    A clock that leaps ahead deals with slots that are yet to come. Left alone, its note would silence the schedule
    until then. Taken back, those slots come due at their time: one that has its run finds it, the others start theirs.
    """
    last = plane.ledger.last_slot(pipeline, schedule.name)
    current = schedule.timetable.last_until(now)
    if last is None or current is None or last.slot <= now + _CLOCKS_DIFFER:
        return last
    why = f"the clock went back from {to_iso(last.slot)}"
    plane.ledger.take_back_slot(pipeline, schedule.name, last.slot, current, why)
    return replace(last, slot=current)


def _note(plane: ControlPlane, pipeline: PipelineKey, schedule: Schedule, outcome: SlotOutcome) -> None:
    """Remember a slot; another instance that notes one at the same time has dealt with the same slots."""
    noted = NotedSlot(slot=outcome.slot, timetable=schedule.timetable.text)
    for _ in range(_NOTING_TRIES):
        try:
            return plane.ledger.note_slot(pipeline, schedule.name, noted, outcome.what)
        except LedgerConflictError:
            last = plane.ledger.last_slot(pipeline, schedule.name)
            if last is not None and last.slot >= outcome.slot:
                return None
    raise LedgerConflictError(f"noting a slot of {pipeline!r}", "it kept changing")


def _fire(
    plane: ControlPlane, pipeline_key: PipelineKey, schedule: Schedule, slot: datetime, *, is_past_due: bool
) -> str:
    with plane.telemetry.span("schedule", pipeline=pipeline_key, schedule=schedule.name, slot=to_iso(slot)) as span:
        event = SlotDue(
            pipeline=pipeline_key,
            schedule=schedule.name,
            slot=slot,
            is_past_due=is_past_due,
            traceparent=span.traceparent,
        )
        situation = situation_of(plane, plane.pipelines.get(pipeline_key))
        decision = decide(event, plane.pipelines, situation)
        written = write_decided_run(plane, decision, situation) if isinstance(decision, StartRun) else decision
        what = f"run {written.value.id}" if isinstance(written, Entry) else _why(written)
        span.set(outcome=what)
    return what


def _why(decision: Skip | Hold) -> str:
    return str(decision) if isinstance(decision, Skip) else decision.reason.sentence
