"""Lets people pause and resume pipelines, allow more runs for a day, and see what waits and why.

All of it is one compare-and-set of the turnstile's row, so it is exact: when a pause has been answered, no attempt that
had no seat gets one. What was let through before goes on.
"""

from dataclasses import dataclass
from itertools import islice
from typing import Final

from functions.core.access import Actor
from functions.core.errors import UnknownPipelineError
from functions.core.model import PipelineKey
from functions.core.reading import to_iso
from functions.core.reasons import HoldReason
from functions.core.turnstile import EVERY, Allowance, Pause, Turnstile
from functions.core.work import WorkItem, WorkKind
from functions.services.acted import Acted
from functions.services.plane import ControlPlane
from functions.services.turnstile import candidate_of, change_turnstile, read_turnstile
from functions.services.waking import wake_dispatcher

__all__ = [
    "PipelineStatus",
    "allow_runs",
    "list_pipelines",
    "pause_pipeline",
    "resume_pipeline",
    "show_pipeline",
]

_HELD_COUNTED: Final = 1000
_MOST_WOKEN: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStatus:
    """What a pipeline, or all together, does today, and what keeps it from doing more."""

    pipeline: PipelineKey  # or EVERY
    pause: Pause | None
    waits: HoldReason | None  # why nothing of it starts now; None: it would
    in_flight: int
    max_in_flight: int | None
    begun_today: int
    max_runs_today: int | None
    held_arrivals: int | None  # at most a thousand are counted; None: not of this pipeline alone

    def to_json(self) -> dict[str, object]:
        """Return what people and machines are shown."""
        pause = self.pause
        return {
            "pipeline": self.pipeline,
            "is_paused": pause is not None,
            "paused_by": None if pause is None else pause.by,
            "paused_at": None if pause is None else to_iso(pause.at),
            "pause_reason": None if pause is None else pause.reason,
            "are_all_paused": pause is not None and pause.pipeline == EVERY,
            "waits": None if self.waits is None else self.waits.value,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "begun_today": self.begun_today,
            "max_runs_today": self.max_runs_today,
            "held_arrivals": self.held_arrivals,
        }


def pause_pipeline(plane: ControlPlane, pipeline: PipelineKey, actor: Actor, *, reason: str = "") -> Acted:
    """Have nothing of a pipeline, or of all, start any more; what comes is held, and nothing is lost.

    Raises:
        UnknownPipelineError: There is no such pipeline.
    """
    _check(plane, pipeline)
    pause = Pause(pipeline=pipeline, by=str(actor), at=plane.clock.now(), reason=reason)
    turnstile = change_turnstile(plane, lambda current: current.pause(pause))
    kept = next(item for item in turnstile.pauses if item.pipeline == pipeline)
    going_on = len(turnstile.seats) if pipeline == EVERY else turnstile.seated(pipeline)
    left_alone = () if going_on == 0 else (f"left {going_on} run(s) alone that were let through before",)
    if kept is not pause:
        are = "are" if pipeline == EVERY else "is"
        already = f"paused nothing: {_named(pipeline)} {are} paused already, {_told_of(kept)}"
        return Acted(did_not=(already, *left_alone))
    _record(plane, "paused", pipeline, actor, reason)
    return Acted(did=(f"paused {_named(pipeline)}",), did_not=left_alone)


def resume_pipeline(plane: ControlPlane, pipeline: PipelineKey, actor: Actor, *, reason: str = "") -> Acted:
    """Let a pipeline, or all, start again what is held, the oldest first, and have the dispatcher look at once.

    Raises:
        UnknownPipelineError: There is no such pipeline, and none of that name is paused.
    """
    before = read_turnstile(plane)
    if pipeline not in {pause.pipeline for pause in before.pauses}:
        _check(plane, pipeline)
    was_paused: Pause | None = None  # when it was resumed: a rival may have been first since

    def resume(current: Turnstile) -> Turnstile:
        nonlocal was_paused
        was_paused = next((item for item in current.pauses if item.pipeline == pipeline), None)
        return current.resume(pipeline)

    turnstile = change_turnstile(plane, resume)
    # A crash before the next line: the reconciler looks at every pipeline and every open run within a minute.
    _wake(plane, pipeline)
    if was_paused is not None:
        _record(plane, "resumed", pipeline, actor, reason)
    did = () if was_paused is None else (f"resumed {_named(pipeline)}, paused {_told_of(was_paused)}",)
    were = "were" if pipeline == EVERY else "was"
    did_not = () if was_paused is not None else (f"resumed nothing: {_named(pipeline)} {were} not paused",)
    return Acted(
        did=(*did, "had the dispatcher look"), did_not=(*did_not, *_still_kept_out(plane, pipeline, turnstile))
    )


def allow_runs(plane: ControlPlane, pipeline: PipelineKey, runs: int, actor: Actor) -> Acted:
    """Let a pipeline, or all together, begin `runs` attempts today (UTC) in all, whatever its budget says.

    A number for the day, not a number more: saying it twice is saying it once. Fewer than have begun stops the rest.

    Raises:
        UnknownPipelineError: There is no such pipeline.
    """
    _check(plane, pipeline)
    now = plane.clock.now()
    before = read_turnstile(plane)
    day = before.day_at(now)
    allowance = Allowance(pipeline=pipeline, day=day, runs=runs, by=str(actor), at=now)
    was_so = False

    def allow(current: Turnstile) -> Turnstile:
        nonlocal was_so
        was_so = current.budget_of(day, pipeline, None) == runs
        return current.allow(allowance)

    turnstile = change_turnstile(plane, allow)
    _wake(plane, pipeline)
    begun = turnstile.begun_on(day, pipeline)
    if not was_so:
        _record(plane, f"allowed {runs} runs today to", pipeline, actor, "")
    did = () if was_so else (f"allowed {_named(pipeline)} {runs} run(s) on {day.isoformat()}, of which {begun} began",)
    did_not = (f"changed nothing: {runs} run(s) were allowed on {day.isoformat()} already",) if was_so else ()
    return Acted(
        did=(*did, "had the dispatcher look"), did_not=(*did_not, *_still_kept_out(plane, pipeline, turnstile))
    )


def list_pipelines(plane: ControlPlane) -> list[PipelineStatus]:
    """Return how each pipeline stands, after all together; those that were removed while they are paused come last."""
    turnstile = read_turnstile(plane)
    removed = sorted({pause.pipeline for pause in turnstile.pauses} - {EVERY, *plane.pipelines.by_key})
    return [_status(plane, turnstile, key) for key in (EVERY, *plane.pipelines.by_key, *removed)]


def show_pipeline(plane: ControlPlane, pipeline: PipelineKey) -> PipelineStatus:
    """Return how one pipeline stands, or all together."""
    return _status(plane, read_turnstile(plane), pipeline)


def _status(plane: ControlPlane, turnstile: Turnstile, key: PipelineKey) -> PipelineStatus:
    known, limits, now = plane.pipelines.by_key.get(key), plane.pipelines.limits, plane.clock.now()
    day, is_all = turnstile.day_at(now), key == EVERY
    configured = limits.max_runs_per_day if is_all else None if known is None else known.max_runs_per_day
    capacity = limits.max_in_flight if is_all else None if known is None else known.concurrency.capacity
    refusal = turnstile.refuses(candidate_of(plane, key), limits, now)
    return PipelineStatus(
        pipeline=key,
        pause=turnstile.pause_of(key),
        waits=None if refusal is None else refusal.reason,
        in_flight=len(turnstile.seats) if is_all else turnstile.seated(key),
        max_in_flight=capacity,
        begun_today=turnstile.begun_on(day, key),
        max_runs_today=turnstile.budget_of(day, key, configured),
        held_arrivals=None if is_all else len(plane.ledger.held_arrivals(key, limit=_HELD_COUNTED)),
    )


def _check(plane: ControlPlane, pipeline: PipelineKey) -> None:
    if pipeline != EVERY and pipeline not in plane.pipelines.by_key:
        raise UnknownPipelineError(pipeline, (*plane.pipelines.by_key, EVERY))


def _record(plane: ControlPlane, what: str, pipeline: PipelineKey, actor: Actor, reason: str) -> None:
    """Leave a line and a span of who did what; the turnstile's row keeps what is in force only."""
    with plane.telemetry.span("operator", what=what, pipeline=pipeline, by=str(actor), reason=reason):
        pass


def _still_kept_out(plane: ControlPlane, pipeline: PipelineKey, turnstile: Turnstile) -> tuple[str, ...]:
    """Return why nothing of it starts all the same."""
    refusal = turnstile.keeps_out(candidate_of(plane, pipeline), plane.pipelines.limits, plane.clock.now())
    if refusal is None:
        return ()
    pause = turnstile.pause_of(pipeline)
    are_all_paused = refusal.reason is HoldReason.PAUSED and pause is not None and pause.pipeline != pipeline
    why = f"all pipelines are paused, {_told_of(pause)}" if are_all_paused and pause else refusal.reason.sentence
    return (f"started nothing of {_named(pipeline)}: {why}",)


def _wake(plane: ControlPlane, pipeline: PipelineKey) -> None:
    """Have the dispatcher look at what is held, and at the first runs that wait; the reconciler looks at all."""
    for key in plane.pipelines.by_key if pipeline == EVERY else (pipeline,):
        if plane.ledger.held_arrivals(key, limit=1):
            wake_dispatcher(plane, key, after_s=0, traceparent=None)
        waiting = (run for run in plane.ledger.open_runs(key) if run.databricks_run_id is None)
        for run in islice(waiting, _MOST_WOKEN):
            plane.queue.enqueue(WorkItem(kind=WorkKind.ADVANCE_RUN, pipeline=key, run_id=run.run_id))


def _named(pipeline: PipelineKey) -> str:
    return "all pipelines" if pipeline == EVERY else f"pipeline {pipeline}"


def _told_of(pause: Pause) -> str:
    why = f" ({pause.reason})" if pause.reason else ""
    return f"by {pause.by} since {pause.at:%Y-%m-%d %H:%M:%S} UTC{why}"
