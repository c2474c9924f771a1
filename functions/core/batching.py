"""Decides when held arrivals become one run."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from functions.core.decided import ArrivalsInput, Decision, Hold, Situation, Skip, Wanted
from functions.core.ledger import Arrival, Cause, CauseKind
from functions.core.manifest import fits_into_a_manifest, fitting
from functions.core.pipelines import ConcurrencyPolicy, Pipeline, Pipelines
from functions.core.reasons import HoldReason, SkipReason
from functions.core.starting import start
from functions.core.tokens import batch_id_of, run_id_of_batch

__all__ = ["CLOCKS_DIFFER", "close_batch", "start_or_hold"]

CLOCKS_DIFFER: Final = timedelta(minutes=5)  # what was recorded further ahead comes from a wrong clock
_LOOK_AGAIN_S: Final = 15.0  # at what nobody announces: a champion that appears, a run that ends


def close_batch(
    pipeline: Pipeline, held: Sequence[Arrival], pipelines: Pipelines, situation: Situation, *, now: datetime
) -> Decision:
    """Return the run of the pipeline's held arrivals, or how long they still wait.

    The window counts from when arrivals were recorded, by our clock; a batch takes the oldest events first. A clock
    that was far ahead then, or is far behind now, must not hold files until it is right: their window is over.
    """
    if not held:
        return Hold(pipeline=pipeline.key, reason=HoldReason.NOTHING_HELD, wait_s=0)
    batching = pipeline.batching
    latest = max(arrival.recorded_at for arrival in held)
    opened = min(arrival.recorded_at for arrival in held) + timedelta(seconds=batching.max_wait_seconds)
    quiet = latest + timedelta(seconds=batching.quiet_seconds)
    wait_s = (min(opened, quiet) - now).total_seconds()
    if wait_s > 0 and latest <= now + CLOCKS_DIFFER and len(held) < batching.max_files:
        return Hold(pipeline=pipeline.key, reason=HoldReason.WINDOW_OPEN, wait_s=wait_s)
    batch = tuple(sorted(held, key=lambda arrival: (arrival.event_time, arrival.id))[: batching.max_files])
    blobs = [arrival.blob for arrival in batch]
    if not fits_into_a_manifest(blobs):  # the rest is held, as what is beyond `max_files` is
        batch = batch[: fitting(blobs)]
    ids = [arrival.id for arrival in batch]
    wanted = Wanted(
        run_id=run_id_of_batch(pipeline.key, batch[0].event_time, ids),
        cause=Cause(kind=CauseKind.ARRIVALS, name=batch_id_of(ids), at=batch[0].event_time),
        input=ArrivalsInput(arrivals=batch),
        traceparent=batch[0].traceparent,
    )
    return start_or_hold(pipeline, wanted, pipelines, situation)


def start_or_hold(pipeline: Pipeline, wanted: Wanted, pipelines: Pipelines, situation: Situation) -> Decision:
    """Return the run of held arrivals whose window is over, or what else they wait for."""
    if (refusal := situation.refusal) is not None:
        return Hold(pipeline=pipeline.key, reason=refusal.reason, wait_s=refusal.wait_s)
    decision = start(pipeline, wanted, pipelines, situation)
    if isinstance(decision, Skip) and decision.reason is SkipReason.NO_MODEL_YET:
        return Hold(pipeline=pipeline.key, reason=HoldReason.NO_MODEL_YET, wait_s=_LOOK_AGAIN_S)
    is_waiting = pipeline.concurrency.policy in {ConcurrencyPolicy.PARALLEL, ConcurrencyPolicy.QUEUE}
    if is_waiting and situation.active_runs >= pipeline.concurrency.capacity:
        return Hold(pipeline=pipeline.key, reason=HoldReason.AT_CAPACITY, wait_s=_LOOK_AGAIN_S)
    return decision
