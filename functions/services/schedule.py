"""Starts the runs that a schedule's slots ask for, each slot at most once."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from functions.core.decided import Hold, Skip, StartRun
from functions.core.decisions import decide
from functions.core.errors import UnknownPipelineError
from functions.core.model import PipelineKey, SlotDue
from functions.core.pipelines import MissedSlots, Schedule
from functions.core.reading import to_iso
from functions.ports import Entry
from functions.services.decided_runs import write_decided_run
from functions.services.plane import ControlPlane
from functions.services.situations import situation_of

__all__ = ["SlotOutcome", "catch_up", "fire_schedule"]

_EARLY: Final = timedelta(seconds=2)  # a timer may fire a moment before its time
_LATE: Final = timedelta(minutes=5)  # later than this, a slot counts as missed
_MOST_MISSED: Final = 100
_TIMER_IS_AT_IT: Final = timedelta(seconds=30)


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
    outcomes = [
        SlotOutcome(slot=slot, what=_fire(plane, pipeline_key, schedule, slot, is_past_due=now - slot > _LATE))
        for slot in _slots(plane, pipeline_key, schedule, now)
    ]
    if outcomes:
        # After the runs: a crash before this line deals with the same slots again, which are the same runs.
        plane.ledger.note_slot(pipeline_key, name, outcomes[-1].slot, outcomes[-1].what)
    return outcomes


def catch_up(plane: ControlPlane, pipeline: PipelineKey, schedule: Schedule) -> str:
    """Deal with slots that came due while no timer could fire, or whose firing failed.

    The first look at a schedule only remembers where it stands: deploying a schedule does not run its past.
    """
    current = schedule.cron.last_until(plane.clock.now())
    if current is None:
        return "slot: none yet"
    last = plane.ledger.last_slot(pipeline, schedule.name)
    if last is None:
        plane.ledger.note_slot(pipeline, schedule.name, current, "came before the schedule was first seen")
        return "slot: first seen"
    if last >= current or plane.clock.now() - current < _TIMER_IS_AT_IT:
        return "slot: none due"
    fire_schedule(plane, pipeline, schedule.name)
    return "slot: caught up"


def _slots(plane: ControlPlane, pipeline: PipelineKey, schedule: Schedule, now: datetime) -> tuple[datetime, ...]:
    current = schedule.cron.last_until(now + _EARLY)
    if current is None:
        return ()
    last = plane.ledger.last_slot(pipeline, schedule.name)
    if last is None or last >= current:
        return (current,)  # the first ever, or a repeat, which finds its run
    missed = schedule.cron.between(last, current, limit=_MOST_MISSED)
    return missed[-1:] if schedule.missed is MissedSlots.LATEST else missed


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
