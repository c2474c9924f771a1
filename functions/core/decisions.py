"""Decides what an event starts: a run, nothing yet, or nothing at all, always with the reason."""

from typing import Final, assert_never

from functions.core.blob_events import RENAMED
from functions.core.consignments import consignment_of, find_seal
from functions.core.decided import Decision, Hold, ListedInput, NamedInput, Situation, Skip, Wanted
from functions.core.ledger import Cause, CauseKind
from functions.core.model import (
    ArrivalSource,
    BlobCreated,
    BlobVersion,
    ModelSignal,
    OtherBlobEvent,
    RunRequested,
    SlotDue,
    TriggerEvent,
)
from functions.core.pipelines import CONTROL_CONTAINERS, MissedSlots, Pipeline, Pipelines
from functions.core.reasons import HoldReason, SkipReason
from functions.core.routing import Routing, find_route
from functions.core.signals import find_signal_rule
from functions.core.starting import start
from functions.core.tokens import run_id_of_request, run_id_of_signal, run_id_of_slot

__all__ = ["COMMITTING_APIS", "decide", "is_newer"]

COMMITTING_APIS: Final = frozenset({"PutBlob", "PutBlockList", "CopyBlob", "FlushWithClose", "SftpCommit"})


def decide(event: TriggerEvent, pipelines: Pipelines, situation: Situation) -> Decision:
    """Return what the event asks for; the same arguments always give the same decision."""
    match event:
        case BlobCreated():
            return _decide_blob(event, pipelines, situation)
        case OtherBlobEvent():
            if event.event_type == RENAMED:  # one whose blob is there has become a BlobCreated
                return Skip(reason=SkipReason.RENAMED_AND_GONE)
            return Skip(reason=SkipReason.UNSUPPORTED_EVENT_TYPE, detail=event.event_type)
        case SlotDue():
            return _decide_slot(event, pipelines, situation)
        case RunRequested():
            return _decide_request(event, pipelines, situation)
        case ModelSignal():
            return _decide_signal(event, pipelines, situation)
        case _:
            assert_never(event)


def is_newer(one: BlobVersion, other: BlobVersion) -> bool:
    """Return whether `one` is a later version of the same path, as far as sequencers tell.

    Sequencers are opaque texts that order events of one blob name only; where one is missing, nothing is known.
    """
    if (one.account, one.container, one.path) != (other.account, other.container, other.path):
        return False
    if one.sequencer is None or other.sequencer is None or one.etag == other.etag:
        return False
    width = max(len(one.sequencer), len(other.sequencer))
    return one.sequencer.rjust(width, "0") > other.sequencer.rjust(width, "0")


def _decide_blob(event: BlobCreated, pipelines: Pipelines, situation: Situation) -> Decision:
    if (skip := _refuse_blob(event, pipelines, situation)) is not None:
        return skip
    if (waiting := find_seal(event.blob, pipelines)) is not None:
        return Skip(
            reason=SkipReason.SEAL,
            detail=f"for {waiting.key}",
            pipeline=waiting.key,
            consignment=consignment_of(event.blob.container, event.blob.path),
        )
    if event.blob.size_bytes == 0:
        return Skip(reason=SkipReason.ZERO_BYTES)
    routing = find_route(event.blob, event.content_type, pipelines)
    if routing.pipeline is None or routing.route is None:
        return _skip_unrouted(event.blob, pipelines, routing)
    if (reason := _refuse_routed(event.blob, situation)) is not None:
        return Skip(reason=reason, pipeline=routing.pipeline.key, routing=routing)
    has_consignments = routing.pipeline.readiness.has_consignments
    return Hold(
        pipeline=routing.pipeline.key,
        route=routing.route.name,
        reason=HoldReason.NOT_READY if has_consignments else HoldReason.WINDOW_OPEN,
        wait_s=float(routing.pipeline.batching.quiet_seconds),
        routing=routing,
        consignment=consignment_of(event.blob.container, event.blob.path) if has_consignments else "",
    )


def _refuse_blob(event: BlobCreated, pipelines: Pipelines, situation: Situation) -> Skip | None:
    blob = event.blob
    if blob.account != situation.account:
        return Skip(reason=SkipReason.FOREIGN_ACCOUNT, detail=repr(blob.account))
    if blob.container in CONTROL_CONTAINERS:
        return Skip(reason=SkipReason.CONTROL_CONTAINER, detail=repr(blob.container))
    for pipeline in pipelines.pipelines:
        output = pipeline.output
        if output is not None and blob.container == output.container and blob.path.startswith(output.prefix):
            return Skip(reason=SkipReason.OWN_OUTPUT, detail=f"of {pipeline.key}")
    if event.source is ArrivalSource.EVENT and event.api not in COMMITTING_APIS:
        return Skip(reason=SkipReason.UNCOMMITTED_API, detail=event.api[:80])
    return None


def _refuse_routed(blob: BlobVersion, situation: Situation) -> SkipReason | None:
    if not blob.is_readable:
        # A run that got it would fail with all its other files, or read a blob that nobody routed.
        return SkipReason.UNREADABLE_NAME
    if any(is_newer(known, blob) for known in situation.known_versions):
        return SkipReason.OLDER_VERSION
    return None


def _skip_unrouted(blob: BlobVersion, pipelines: Pipelines, routing: Routing) -> Skip:
    for pipeline in pipelines.pipelines:
        data = pipeline.training_data
        if data is not None and blob.container == data.container and data.names.matches(blob.path):
            return Skip(reason=SkipReason.TRAINING_DATA, detail=f"of {pipeline.key}", routing=routing)
    if blob.container not in _input_containers(pipelines):
        return Skip(reason=SkipReason.UNKNOWN_CONTAINER, detail=repr(blob.container), routing=routing)
    detail = "; ".join(f"{tried.pipeline}.{tried.route}: {tried.why}" for tried in routing.tried)
    return Skip(reason=SkipReason.NO_ROUTE, detail=detail[:1000], routing=routing)


def _input_containers(pipelines: Pipelines) -> set[str]:
    routes = {route.container for pipeline in pipelines.pipelines for route in pipeline.routes}
    return routes | {
        pipeline.training_data.container for pipeline in pipelines.pipelines if pipeline.training_data is not None
    }


def _decide_slot(event: SlotDue, pipelines: Pipelines, situation: Situation) -> Decision:
    pipeline = pipelines.by_key.get(event.pipeline)
    if pipeline is None:
        return Skip(reason=SkipReason.UNKNOWN_PIPELINE, detail=repr(event.pipeline))
    schedule = pipeline.schedule(event.schedule)
    if schedule is None:
        return Skip(reason=SkipReason.UNKNOWN_SCHEDULE, detail=repr(event.schedule), pipeline=pipeline.key)
    if event.is_past_due and schedule.missed is MissedSlots.SKIP:
        return Skip(reason=SkipReason.MISSED_SLOT, detail=event.slot.isoformat(), pipeline=pipeline.key)
    cause = Cause(kind=CauseKind.SCHEDULE, name=event.schedule, at=event.slot)
    wanted = Wanted(
        run_id=run_id_of_slot(event),
        cause=cause,
        input=_own_input(pipeline),
        traceparent=event.traceparent,
    )
    return start(pipeline, wanted, pipelines, situation)


def _decide_request(event: RunRequested, pipelines: Pipelines, situation: Situation) -> Decision:
    pipeline = pipelines.by_key.get(event.pipeline)
    if pipeline is None:
        return Skip(reason=SkipReason.UNKNOWN_PIPELINE, detail=repr(event.pipeline))
    cause = Cause(kind=CauseKind.REQUEST, name=event.request_id, at=event.requested_at)
    named = NamedInput(blobs=event.files) if event.files else None
    for container, path in event.files:
        if not pipeline.reads(container, path):
            detail = f"{container}/{path}"
            return Skip(reason=SkipReason.FILES_OF_FOREIGN_PLACE, detail=detail[:300], pipeline=pipeline.key)
    wanted = Wanted(
        run_id=run_id_of_request(event),
        cause=cause,
        input=named or _own_input(pipeline),
        traceparent=event.traceparent,
        stages=event.stages,
        parameters=event.parameters,
    )
    return start(pipeline, wanted, pipelines, situation)


def _decide_signal(signal: ModelSignal, pipelines: Pipelines, situation: Situation) -> Decision:
    if signal.environment != situation.environment:
        return Skip(reason=SkipReason.FOREIGN_ENVIRONMENT, detail=repr(signal.environment))
    listening = find_signal_rule(signal, pipelines)
    pipeline, rule = listening.pipeline, listening.rule
    if pipeline is None or rule is None:
        if listening.refusals:
            return Skip(reason=SkipReason.BELOW_THRESHOLD, detail="; ".join(listening.refusals)[:1000])
        return Skip(reason=SkipReason.NO_SIGNAL_RULE, detail=f"{signal.type.value} of {signal.model_name}")
    run_id = run_id_of_signal(pipeline.key, rule.name, signal)
    state = situation.signal
    mark = None if state is None else state.mark
    is_other_window = mark is not None and mark.run_id != run_id  # the same one finds its own run in the mark
    if state is not None and mark is not None and is_other_window and mark.is_cooling(state.now, rule.cooldown_hours):
        detail = f"{mark.run_id} at {mark.at.isoformat()}, cooldown {rule.cooldown_hours} h"
        return Skip(reason=SkipReason.COOLDOWN, detail=detail, pipeline=pipeline.key)
    wanted = Wanted(
        run_id=run_id,
        cause=Cause(kind=CauseKind.SIGNAL, name=rule.name, at=signal.window_end),
        input=_own_input(pipeline),
        traceparent=signal.traceparent,
    )
    return start(pipeline, wanted, pipelines, situation)


def _own_input(pipeline: Pipeline) -> ListedInput:
    if (data := pipeline.training_data) is not None:
        return ListedInput(places=((data.container, data.prefix, data.glob, ""),))
    return ListedInput(
        places=tuple((route.container, route.prefix, route.glob, route.suffix) for route in pipeline.routes)
    )
