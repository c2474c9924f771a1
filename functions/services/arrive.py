"""Records what Event Grid delivered, and starts its run at once where nothing has to be waited for.

The delivery itself is the safety net: it is acknowledged only when the arrival is recorded and its run is started
or queued. A crash before that has the host deliver it again; if the host died too, the reconciler finds the arrival
in the index of held ones. So no message has to be written before the run is started, and the way from the arrival
to the submission is one writer's.
"""

from dataclasses import dataclass
from typing import assert_never

from functions.core.blob_events import parse_blob_event
from functions.core.decided import Hold, Skip, StartRun
from functions.core.decisions import decide, is_newer
from functions.core.errors import LedgerConflictError, MlopsError, TransientError
from functions.core.ledger import Arrival, Change
from functions.core.model import ArrivalState, BlobCreated, OtherBlobEvent
from functions.core.pipelines import Pipeline
from functions.core.reasons import SkipReason
from functions.core.tokens import arrival_id_of
from functions.ports import Entry, HeldArrival
from functions.services.batches import start_batch
from functions.services.plane import ControlPlane, Done, Wait, wake_dispatcher
from functions.services.putting_back import back_off_s
from functions.services.situations import bare_situation

__all__ = ["Arrived", "arrive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """What became of a delivery."""

    arrival: Arrival
    is_new: bool
    what: str


def arrive(plane: ControlPlane, message: str | bytes) -> Arrived:
    """Record the event in a message and start, hold or ignore what it brings.

    Raises:
        InvalidEventError: The message is no blob event; the host moves it to the poison queue, from where it is
            quarantined with this reason.
        TransientError: The ledger or the queue did not answer; the host delivers the message again.
    """
    event = parse_blob_event(message)
    with plane.telemetry.span("arrival", traceparent=event.traceparent, event_id=event.event_id) as span:
        arrived = _record(plane, event, span.traceparent)
        span.set(
            arrival_id=arrived.arrival.id,
            pipeline=arrived.arrival.pipeline,
            state=arrived.arrival.state.value,
            run_id=arrived.arrival.run_id,
            deliveries=arrived.arrival.deliveries,
            outcome=arrived.what,
        )
    return arrived


def _record(plane: ControlPlane, event: BlobCreated | OtherBlobEvent, traceparent: str) -> Arrived:
    decision = decide(event, plane.pipelines, bare_situation(plane))
    match decision:
        case Skip():
            ignored = _arrival_of(plane, event, ArrivalState.IGNORED, traceparent, decision)
            entry, _, is_new = plane.ledger.record_arrival(ignored)
            return Arrived(arrival=entry.value, is_new=is_new, what=str(decision))
        case Hold():
            wanted = _arrival_of(plane, event, ArrivalState.HELD, traceparent, decision)
            entry, held, is_new = plane.ledger.record_arrival(wanted)
            pipeline = plane.pipelines.by_key.get(entry.value.pipeline) if entry.value.pipeline else None
            if held is None or pipeline is None:
                return Arrived(arrival=entry.value, is_new=is_new, what="recorded before")
            if (older := _supersede_older(plane, held)) is not None:
                return Arrived(arrival=older.value, is_new=is_new, what=SkipReason.OLDER_VERSION.value)
            return Arrived(arrival=entry.value, is_new=is_new, what=_start_or_queue(plane, pipeline, held))
        case StartRun():
            raise AssertionError("a blob never starts a run by itself: its batch does")
        case _:
            assert_never(decision)


def _arrival_of(
    plane: ControlPlane,
    event: BlobCreated | OtherBlobEvent,
    state: ArrivalState,
    traceparent: str,
    decision: Hold | Skip,
) -> Arrival:
    now = plane.clock.now()
    reason = str(decision) if isinstance(decision, Skip) else None
    return Arrival(
        id=arrival_id_of(event.blob),
        blob=event.blob,
        state=state,
        event_id=event.event_id,
        event_time=event.event_time,
        api=event.api,
        content_type=event.content_type if isinstance(event, BlobCreated) else "",
        recorded_at=now,
        updated_at=now,
        pipeline=decision.pipeline,
        route=decision.route if isinstance(decision, Hold) else "",
        reason=reason,
        traceparent=traceparent,
        config_version=plane.pipelines.version,
        history=(Change(state=state.value, at=now, note=reason or ""),),
    )


def _supersede_older(plane: ControlPlane, held: HeldArrival) -> Entry[Arrival] | None:
    """Give up held versions of the path that a newer one has replaced; return this one if it is such.

    Each version looks after it is recorded, so of two that arrive together at least the later writer sees both.
    """
    blob = held.entry.value.blob
    if blob.sequencer is None:
        return None
    versions = plane.ledger.arrivals_of_path(blob.account, blob.container, blob.path)
    for other in versions:
        if other.value.state is ArrivalState.HELD and is_newer(blob, other.value.blob):
            _supersede(plane, other, f"replaced by ETag {blob.etag}")
    newer = next((other for other in versions if is_newer(other.value.blob, blob)), None)
    if newer is None:
        return None
    superseded = _supersede(plane, held.entry, f"replaced by ETag {newer.value.blob.etag}")
    if superseded is not None:
        plane.ledger.forget_held([held])
    return superseded


def _supersede(plane: ControlPlane, entry: Entry[Arrival], reason: str) -> Entry[Arrival] | None:
    """Return the superseded entry, or None if a run has it already; its index row is found stale by the next look."""
    try:
        return plane.ledger.update_arrival(entry, entry.value.supersede(plane.clock.now(), reason))
    except LedgerConflictError:
        return None


def _start_or_queue(plane: ControlPlane, pipeline: Pipeline, held: HeldArrival) -> str:
    """Start the arrival's run now if its pipeline has no window, else have it looked at when the window closes."""
    batching, traceparent = pipeline.batching, held.entry.value.traceparent
    if batching.quiet_seconds and batching.max_wait_seconds:
        after_s = float(min(batching.quiet_seconds, batching.max_wait_seconds))
        wake_dispatcher(plane, pipeline.key, after_s=after_s, traceparent=traceparent)
        return "held until its window closes"
    if not plane.submitter.is_warm:
        # Importing the SDK and signing in takes seconds: the dispatcher pays for that, not the arrivals behind this.
        wake_dispatcher(plane, pipeline.key, after_s=0, traceparent=traceparent)
        return "handed to the dispatcher"
    try:
        progress = start_batch(plane, pipeline, [held])
    except MlopsError as error:
        # The arrival is recorded and held: failing its delivery would only bring it back, and in the end poison it.
        asked_s = error.retry_after_s if isinstance(error, TransientError) else None
        wake_dispatcher(plane, pipeline.key, after_s=back_off_s(0, asked_s), traceparent=traceparent)
        return f"put back: {error}"
    match progress:
        case Wait():
            wake_dispatcher(plane, pipeline.key, after_s=progress.seconds, traceparent=traceparent)
            return f"held: {progress.why}"
        case Done():
            return progress.what
