"""Records what Event Grid delivered, and starts its run at once where nothing has to be waited for.

The delivery itself is the safety net: it is acknowledged only when the arrival is recorded and its run is started
or queued. A crash before that has the host deliver it again; if the host died too, the reconciler finds the arrival
in the index of held ones. So no message has to be written before the run is started, and the way from the arrival
to the submission is one writer's.
"""

from dataclasses import dataclass, replace
from typing import Final, assert_never

from functions.core.alerts import AlertKind
from functions.core.blob_events import parse_blob_event
from functions.core.decided import Hold, Skip, StartRun
from functions.core.decisions import decide, is_newer
from functions.core.errors import LedgerConflictError, MlopsError, TransientError
from functions.core.ledger import Arrival, Change
from functions.core.model import (
    ArrivalSource,
    ArrivalState,
    BlobCreated,
    BlobRenamed,
    OtherBlobEvent,
)
from functions.core.pipelines import Pipeline
from functions.core.reasons import SkipReason
from functions.core.redeliveries import differences, note_differences
from functions.core.tokens import arrival_id_of
from functions.ports import Entry, HeldArrival, SpanHandle, StoredBlob
from functions.services.batches import start_batch
from functions.services.plane import ControlPlane, Done, Wait
from functions.services.putting_back import back_off_s
from functions.services.situations import bare_situation
from functions.services.stored import complete_event
from functions.services.waking import wake_dispatcher

__all__ = ["Arrived", "arrival_of", "arrive", "arrive_without_event"]

_TRIES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """What became of a delivery."""

    arrival: Arrival
    is_new: bool
    what: str
    differences: tuple[str, ...] = ()  # from what an earlier delivery said of the same ETag


def arrive(plane: ControlPlane, message: str | bytes, *, is_first_try: bool = False) -> Arrived:
    """Record the event in a message and start, hold or ignore what it brings.

    Args:
        plane: The control plane.
        message: The event as Event Grid wrote it into the queue.
        is_first_try: Whether this very message was never handled before, so that nothing can be half done by it.

    Raises:
        InvalidEventError: The message is no blob event; the host moves it to the poison queue, from where it is
            quarantined with this reason.
        TransientError: The ledger, the storage or the queue did not answer; the host delivers the message again.
    """
    event = parse_blob_event(message)
    with plane.telemetry.span("arrival", traceparent=event.traceparent, event_id=event.event_id) as span:
        known = complete_event(plane, event)
        sequencer = event.sequencer if isinstance(event, BlobRenamed) else event.blob.sequencer
        arrived = _record(plane, known, sequencer, span.traceparent, is_first_try=is_first_try)
        _describe(span, arrived)
        if arrived.differences:
            plane.telemetry.alert(
                AlertKind.CONTRADICTING_EVENTS.value,
                traceparent=span.traceparent,
                arrival_id=arrived.arrival.id,
                pipeline=arrived.arrival.pipeline,
                detail="; ".join(arrived.differences)[:1000],
            )
    return arrived


def arrive_without_event(plane: ControlPlane, stored: StoredBlob, traceparent: str) -> Arrived | None:
    """Record a blob that is there although no event said so; None if nothing wants it. Starts nothing at once.

    Its time is that of its last change, so that repeating this gives the same run.
    """
    event = BlobCreated(
        event_id=f"sweep:{stored.version.etag}",
        event_time=stored.modified_at,
        api="",
        blob=stored.version,
        content_type=stored.content_type,
        source=ArrivalSource.SWEEP,
    )
    decision = decide(event, plane.pipelines, bare_situation(plane))
    if isinstance(decision, Skip) and decision.reason is not SkipReason.SEAL:
        return None
    return _record(plane, event, None, traceparent, is_first_try=False)


def _describe(span: SpanHandle, arrived: Arrived) -> None:
    arrival = arrived.arrival
    span.set(
        arrival_id=arrival.id,
        pipeline=arrival.pipeline,
        state=arrival.state.value,
        run_id=arrival.run_id,
        deliveries=arrival.deliveries,
        outcome=arrived.what,
    )


def _record(
    plane: ControlPlane,
    event: BlobCreated | OtherBlobEvent,
    sequencer: str | None,
    traceparent: str,
    *,
    is_first_try: bool,
) -> Arrived:
    decision = decide(event, plane.pipelines, bare_situation(plane))
    match decision:
        case Skip():
            state = ArrivalState.SEAL if decision.reason is SkipReason.SEAL else ArrivalState.IGNORED
            wanted = arrival_of(plane, event, state, traceparent, decision)
            entry, _, is_new = plane.ledger.record_arrival(wanted, is_first_try=is_first_try)
            entry, what = _note(plane, entry, wanted, is_new=is_new), str(decision)
            if entry.value.state is ArrivalState.SEAL:
                _look_again(plane, entry.value)
        case Hold():
            wanted = arrival_of(plane, event, ArrivalState.HELD, traceparent, decision)
            entry, held, is_new = plane.ledger.record_arrival(wanted, is_first_try=is_first_try)
            recorded, entry = entry, _note(plane, entry, wanted, is_new=is_new)
            if recorded.value.state is ArrivalState.IGNORED and entry.value.state is ArrivalState.HELD:
                what = _look_again(plane, entry.value)
            else:
                entry, what = _go_on(plane, entry, held, sequencer)
        case StartRun():
            raise AssertionError("a blob never starts a run by itself: its batch does")
        case _:
            assert_never(decision)
    return Arrived(arrival=entry.value, is_new=is_new, what=what, differences=differences(entry.value, wanted))


def _note(plane: ControlPlane, entry: Entry[Arrival], told: Arrival, *, is_new: bool) -> Entry[Arrival]:
    """Write down what this delivery says of an arrival that was recorded before, if it says anything new."""
    for _ in range(_TRIES):
        noted = entry.value if is_new else note_differences(entry.value, told)
        if noted == entry.value:
            return entry
        try:
            return plane.ledger.update_arrival(entry, noted)
        except LedgerConflictError:
            entry = plane.ledger.get_arrival(told.blob) or entry
    raise LedgerConflictError(f"arrival {told.id!r}", "it kept changing")


def _go_on(
    plane: ControlPlane, entry: Entry[Arrival], held: HeldArrival | None, sequencer: str | None
) -> tuple[Entry[Arrival], str]:
    """Take an arrival that is recorded as far as it goes now."""
    pipeline = plane.pipelines.by_key.get(entry.value.pipeline) if entry.value.pipeline else None
    if held is None or pipeline is None:
        return entry, "recorded before"
    if (older := _supersede_older(plane, held, sequencer)) is not None:
        return older, SkipReason.OLDER_VERSION.value
    if entry.value.consignment or entry.value.source is ArrivalSource.SWEEP:  # many may follow, one look sees them all
        return entry, _look_again(plane, entry.value)
    return entry, _start_or_queue(plane, pipeline, held)


def _look_again(plane: ControlPlane, arrival: Arrival) -> str:
    """Have what the arrival belongs to looked at when no more has come of it for a while."""
    pipeline = plane.pipelines.by_key.get(arrival.pipeline) if arrival.pipeline else None
    if pipeline is None:
        return "recorded for a pipeline that is not configured"
    wake_dispatcher(
        plane,
        pipeline.key,
        after_s=float(pipeline.batching.quiet_seconds),
        traceparent=arrival.traceparent,
        consignment=arrival.consignment,
    )
    return "held until the dispatcher looks"


def arrival_of(
    plane: ControlPlane,
    event: BlobCreated | OtherBlobEvent,
    state: ArrivalState,
    traceparent: str | None,
    decision: Hold | Skip,
) -> Arrival:
    """Return the arrival of an event as it is recorded after the decision about it."""
    now = plane.clock.now()
    reason = str(decision) if isinstance(decision, Skip) else None
    if isinstance(decision, Hold) and decision.consignment:
        reason = decision.reason.value
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
        source=event.source if isinstance(event, BlobCreated) else ArrivalSource.EVENT,
        history=(Change(state=state.value, at=now, note=reason or ""),),
        consignment=decision.consignment,
    )


def _supersede_older(plane: ControlPlane, held: HeldArrival, sequencer: str | None) -> Entry[Arrival] | None:
    """Give up held versions of the path that a newer one has replaced; return this one if it is such.

    Each version looks after it is recorded, so of two that arrive together at least the later writer sees both.
    """
    blob = held.entry.value.blob
    if sequencer is None or not held.is_known_path:
        return None
    versions = plane.ledger.arrivals_of_path(blob.account, blob.container, blob.path)
    for other in versions:
        if other.value.state is ArrivalState.HELD and is_newer(replace(blob, sequencer=sequencer), other.value.blob):
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
