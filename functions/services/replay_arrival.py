"""Has an ignored or failed arrival decided again, and held for its pipeline if that wants it now."""

from dataclasses import replace
from typing import Final

from functions.core.arrival_events import event_of
from functions.core.decided import Hold
from functions.core.decisions import decide, is_newer
from functions.core.errors import IllegalTransitionError, LedgerConflictError
from functions.core.ledger import Arrival, RunRule
from functions.core.model import ArrivalState
from functions.core.replays import Replay, is_replayed_by
from functions.ports import Entry
from functions.services.acted import Acted
from functions.services.marking import is_run_open
from functions.services.plane import ControlPlane
from functions.services.situations import bare_situation
from functions.services.waking import wake_dispatcher

__all__ = ["replay_arrival"]

_TRIES: Final = 5


def replay_arrival(plane: ControlPlane, entry: Entry[Arrival], replaying: Replay) -> Acted:
    """Decide about the arrival as if it came now; one that waits, runs or is scored is left alone.

    Raises:
        IllegalTransitionError: It was scored, or a newer version of its path has come: to read it again would do
            work twice, or undo what is newer.
        LedgerConflictError: Its run has given it up and is about to end, or it kept changing; not now.
    """
    for _ in range(_TRIES):
        arrival = entry.value
        if is_replayed_by(arrival.history, replaying):
            _wake(plane, arrival)
            return Acted(did_not=(f"held it not again: this replay has, and it is {arrival.state.value} now",))
        is_left_behind = arrival.state is ArrivalState.HELD and arrival.pipeline not in plane.pipelines.by_key
        if not is_left_behind and arrival.state in {ArrivalState.HELD, ArrivalState.ASSIGNED, ArrivalState.SEAL}:
            return _is_under_way(plane, arrival)
        if is_run_open(plane, arrival):
            raise LedgerConflictError(
                f"run {arrival.run_id}, which has given up arrival {arrival.id}",
                "it has not ended yet, or goes again; replay the arrival again in a moment",
            )
        if (refusal := _refusal(plane, arrival)) is not None:
            raise refusal
        decision = decide(event_of(arrival), plane.pipelines, bare_situation(plane))
        if not isinstance(decision, Hold):
            return Acted(did=("decided about it again",), did_not=(f"held it not: {decision}",))
        held = arrival.replay(decision.pipeline, plane.clock.now(), replaying.note)
        held = replace(
            held, route=decision.route, consignment=decision.consignment, config_version=plane.pipelines.version
        )
        try:
            plane.ledger.update_arrival(entry, held)
        except LedgerConflictError:
            entry = plane.ledger.get_arrival(arrival.blob) or entry
            continue
        # A crash before this line: the reconciler finds the arrival in the index of held ones.
        _wake(plane, held)
        return Acted(did=(f"held it for {decision.pipeline}, whose next batch takes it",))
    raise LedgerConflictError(f"arrival {entry.value.id!r}", "it kept changing")


def _is_under_way(plane: ControlPlane, arrival: Arrival) -> Acted:
    if arrival.state is ArrivalState.HELD:
        _wake(plane, arrival)
        why = arrival.reason or "its batch has not closed yet"
        return Acted(did=("had the dispatcher look at it",), did_not=(f"held it not: it is held already, {why}",))
    if arrival.state is ArrivalState.SEAL:
        _wake(plane, arrival)
        return Acted(
            did=("had the dispatcher look at its consignment",),
            did_not=("held it not: it is a seal, never an input",),
        )
    is_removed = arrival.pipeline not in plane.pipelines.by_key
    if is_removed and arrival.run_id is not None and plane.ledger.get_run(arrival.run_id) is None:
        removed = f"pipeline {arrival.pipeline!r} was removed before it had written run {arrival.run_id} down"
        mend = "configure it again, if only until that is done, or name the file in POST /api/runs of another one"
        return Acted(did_not=(f"held it not: {removed}; {mend}",))
    return Acted(did_not=(f"held it not: run {arrival.run_id} has it; retry or cancel that one",))


def _refusal(plane: ControlPlane, arrival: Arrival) -> IllegalTransitionError | None:
    blob, current = arrival.blob, arrival.state.value
    if arrival.state is ArrivalState.SCORED:
        wanted = f"held again: run {arrival.run_id} scored it; POST /api/runs with the file scores it once more"
        return IllegalTransitionError(RunRule.FOLLOW_THE_TABLE, arrival.id, current, wanted)
    versions = plane.ledger.arrivals_of_path(blob.account, blob.container, blob.path)
    newer = next((other.value for other in versions if is_newer(other.value.blob, blob)), None)
    if newer is not None or arrival.state is ArrivalState.SUPERSEDED:
        by = "" if newer is None else f", arrival {newer.id}"
        wanted = f"held again: a newer version of its path has come{by}; replay that one"
        return IllegalTransitionError(RunRule.FOLLOW_THE_TABLE, arrival.id, current, wanted)
    return None


def _wake(plane: ControlPlane, arrival: Arrival) -> None:
    if arrival.pipeline is not None and arrival.pipeline in plane.pipelines.by_key:
        wake_dispatcher(
            plane, arrival.pipeline, after_s=0, traceparent=arrival.traceparent, consignment=arrival.consignment
        )
