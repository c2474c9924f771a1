"""Finds which batches of a pipeline are due, and closes them: one window of arrivals, or one consignment each."""

from typing import Final

from functions.core.errors import MlopsError
from functions.core.model import PipelineKey
from functions.core.pipelines import Pipeline
from functions.core.reasons import HoldReason
from functions.services.batches import is_any_held, start_batch
from functions.services.consignments import close_consignment
from functions.services.looking import look_at_held
from functions.services.plane import ControlPlane, Done, Progress, Wait, the_only_look
from functions.services.telling import is_told, tell_held
from functions.services.turnstile import is_kept_out
from functions.services.waking import wake_dispatcher

__all__ = ["close_pipeline_batch"]

_CONSIGNMENTS_A_WALK: Final = 25
_LOOK_AFTER_ANOTHER_S: Final = 1.0
_RECONCILER_IS_BACK_S: Final = 60.0


def close_pipeline_batch(plane: ControlPlane, key: PipelineKey, consignment: str = "") -> Progress:
    """Freeze the pipeline's held arrivals into a run if their batch is due; says how long to wait if not.

    With a consignment, only that one is looked at, unless the pipeline does not keep them together any more.
    """
    pipeline = plane.pipelines.by_key.get(key)
    if pipeline is None:
        return Done(what=f"no pipeline {key!r} is configured; what it holds stays held")
    if (refusal := is_kept_out(plane, key)) is not None:  # before its index is read: it may hold many for days
        if not is_told(plane, key, refusal) and is_any_held(plane, plane.ledger.held_arrivals(key, limit=100)):
            tell_held(plane, key, refusal)
        return Done(what=refusal.reason.value)
    with the_only_look(plane, key) as is_only:
        if not is_only:
            return Wait(why="another look is under way", seconds=_LOOK_AFTER_ANOTHER_S)
        return _look(plane, pipeline, consignment)


def _look(plane: ControlPlane, pipeline: Pipeline, consignment: str) -> Progress:
    if not pipeline.readiness.has_consignments:
        return _close_window(plane, pipeline, consignment=None)
    if consignment:
        return close_consignment(plane, pipeline, consignment)
    window = _close_window(plane, pipeline, consignment="")  # held since before the pipeline had consignments
    walked = _walk_consignments(plane, pipeline)
    return window if isinstance(window, Wait) else walked


def _close_window(plane: ControlPlane, pipeline: Pipeline, *, consignment: str | None) -> Progress:
    held = look_at_held(plane, pipeline.key, limit=pipeline.batching.max_files, consignment=consignment)
    if not held:
        return Done(what=HoldReason.NOTHING_HELD.value)
    progress = start_batch(plane, pipeline, held)
    if isinstance(progress, Done) and len(held) == pipeline.batching.max_files:
        return Wait(why="more may be held than one batch takes", seconds=0)
    return progress


def _walk_consignments(plane: ControlPlane, pipeline: Pipeline) -> Progress:
    """Look at some consignments that hold arrivals, from where the last walk stopped; each is soon looked at.

    One that fails keeps no other waiting.
    """
    name = f"consignments.{pipeline.key}"
    after = began = plane.ledger.bookmark(name).get("after", "")
    failure: MlopsError | None = None
    for _ in range(_CONSIGNMENTS_A_WALK):
        found = plane.ledger.next_consignment(pipeline.key, after=after)
        if found is None:
            after = ""
            break
        after, place = found
        try:
            _look_at(plane, pipeline, place)
        except MlopsError as error:
            failure = error
    if after != began:
        plane.ledger.set_bookmark(name, {"after": after})
    if failure is not None:
        raise failure
    if after:
        return Wait(why="more consignments may be complete", seconds=0)
    return Done(what=HoldReason.NOTHING_HELD.value if not began else "every consignment was looked at")


def _look_at(plane: ControlPlane, pipeline: Pipeline, place: str) -> None:
    progress = close_consignment(plane, pipeline, place)
    if isinstance(progress, Wait) and progress.seconds < _RECONCILER_IS_BACK_S:
        wake_dispatcher(plane, pipeline.key, after_s=progress.seconds, traceparent=None, consignment=place)
