"""Turns held arrivals into runs, so that each arrival ends up in exactly one batch whoever else is at it.

The order of writes, and what a crash or a rival between two of them leaves behind:

1. Each arrival is claimed, HELD to ASSIGNED(run), by compare-and-set: of two rivals one gets it. A claim holds as
   long as the run has no manifest. Its index row stays.
   Crash: arrivals assigned to a run that does not exist. Whoever looks at the index next finds them there and
   finishes that run (`_rescue`).
2. The run's manifest is written, and the first one written stays: it is the frozen batch. A rival who rescued the
   run may have written a shorter one; then what it lacks is released to HELD.
   Crash: a manifest without a run. The rescue finds the manifest and goes on with what it says.
3. The run is written: first its index row, then itself, with its token. The first one written stays.
   Crash: the reconciler finds the run in the index and advances it.
4. The run is submitted (`submission`).
5. The index rows of its arrivals are removed, each only in the version that was read.
   Crash: rows too many. Whoever looks next finds the arrivals in the run's manifest and removes the rows.

An arrival that is assigned to a run whose manifest lacks it, by a crash before the release of step 2, is released
by whoever looks next. It cannot be in the manifest later, because a manifest never changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from functions.core.batching import close_batch
from functions.core.decided import ArrivalsInput, Decision, Hold, Situation, Skip, StartRun
from functions.core.errors import IllegalTransitionError, LedgerConflictError
from functions.core.freezing import Frozen, freeze, token_of
from functions.core.ledger import Arrival, Run
from functions.core.manifest import InputManifest
from functions.core.model import ArrivalId, ArrivalState, Outcome, RunId, RunState
from functions.core.pipelines import Pipeline
from functions.core.reasons import HoldReason
from functions.core.run_transitions import begin_next_attempt, persist_token
from functions.core.tokens import cause_time_of, pipeline_of_run
from functions.ports import Entry, HeldArrival
from functions.services.changes import change_run, read_run
from functions.services.decided_runs import queue_run
from functions.services.freeing import free_the_others
from functions.services.outbox import publish_outbox
from functions.services.plane import ControlPlane, Done, Progress, Wait
from functions.services.putting_back import advance_or_put_back
from functions.services.situations import active_runs, situation_of_batch
from functions.services.submission import cancel_runs
from functions.services.telling import tell_held

__all__ = ["act_on", "give_up", "is_any_held", "note_reason", "start_batch", "tidy"]

_CLAIM_TRIES: Final = 4
_RIVAL_IS_ALIVE_FOR: Final = timedelta(seconds=5)
_WAIT_FOR_CANCEL_S: Final = 5.0


_Claimed = tuple[HeldArrival, Entry[Arrival]]


@dataclass(slots=True)
class _Claims:
    """What became of an attempt to claim arrivals for a run."""

    run_id: RunId
    mine: dict[ArrivalId, _Claimed] = field(default_factory=dict[ArrivalId, _Claimed])
    others: dict[RunId, list[_Claimed]] = field(default_factory=dict[RunId, list[_Claimed]])  # by the run that has them
    gone: list[HeldArrival] = field(default_factory=list[HeldArrival])  # not held any more, or not here
    has_rival: bool = False  # who starts the run of the first of them this very moment

    def sort_in(self, item: HeldArrival, entry: Entry[Arrival]) -> bool:
        """Return whether the arrival is still to be claimed; else file it where it belongs."""
        arrival = entry.value
        is_held = arrival.state is ArrivalState.HELD
        if is_held and arrival.pipeline == pipeline_of_run(self.run_id):
            return True
        # One that a person moved to another pipeline is that one's, whatever a row that a crash left here says.
        if is_held or arrival.state is not ArrivalState.ASSIGNED or arrival.run_id is None:
            self.gone.append(item)
        elif arrival.run_id == self.run_id:
            self.mine[arrival.id] = (item, entry)  # claimed by us before a crash, or by a rival for the same run
        else:
            self.others.setdefault(arrival.run_id, []).append((item, entry))
        return False


def start_batch(plane: ControlPlane, pipeline: Pipeline, held: Sequence[HeldArrival]) -> Progress:
    """Start the run of these held arrivals if it is due."""
    situation = situation_of_batch(plane, pipeline)
    decision = close_batch(
        pipeline, [item.entry.value for item in held], plane.pipelines, situation, now=plane.clock.now()
    )
    return act_on(plane, pipeline, decision, held, situation)


def act_on(
    plane: ControlPlane, pipeline: Pipeline, decision: Decision, held: Sequence[HeldArrival], situation: Situation
) -> Progress:
    """Do what was decided about held arrivals; repeating it comes to the same end."""
    match decision:
        case Hold():
            if decision.reason is HoldReason.NO_MODEL_YET:
                note_reason(plane, held, decision.reason.value)
            if situation.refusal is not None:
                traceparent = held[0].entry.value.traceparent
                tell_held(plane, pipeline.key, situation.refusal, traceparent=traceparent)
            return Wait(why=decision.reason.value, seconds=decision.wait_s)
        case Skip():
            return give_up(plane, held, str(decision))
        case StartRun() if decision.must_cancel_active:
            # Before the arrivals: what is still held after these runs were seen is in none of them.
            active = active_runs(plane, pipeline)
            if not is_any_held(plane, held):
                return _freeze(plane, decision, held, situation)
            still_active = cancel_runs(plane, active)
            return Wait(why="the active run is being cancelled", seconds=_WAIT_FOR_CANCEL_S if still_active else 0)
        case StartRun():
            return _freeze(plane, decision, held, situation)


def is_any_held(plane: ControlPlane, held: Sequence[HeldArrival]) -> bool:
    """Return whether there is new work at all: an index row that a crash left must not have its own run cancelled."""
    entries = (plane.ledger.get_arrival(item.entry.value.blob) for item in held)
    return any(entry is not None and entry.value.state is ArrivalState.HELD for entry in entries)


def note_reason(plane: ControlPlane, held: Sequence[HeldArrival], reason: str) -> None:
    """Write down why arrivals wait, where that is not known yet."""
    now = plane.clock.now()
    for item in held:
        arrival = item.entry.value
        if arrival.state is ArrivalState.HELD and arrival.reason != reason:
            plane.ledger.note_held(item, arrival.hold_because(reason, now))


def give_up(plane: ControlPlane, held: Sequence[HeldArrival], reason: str) -> Progress:
    """Record held arrivals as ignored; what has moved on meanwhile is found by the next look."""
    now = plane.clock.now()
    alive = [item for item in held if item.entry.value.state is ArrivalState.HELD]
    written = plane.ledger.update_arrivals([(item.entry, item.entry.value.ignore(now, reason)) for item in alive])
    plane.ledger.forget_held([item for item, entry in zip(alive, written, strict=True) if entry is not None])
    return Done(what=reason)


def _freeze(plane: ControlPlane, start: StartRun, held: Sequence[HeldArrival], situation: Situation) -> Progress:
    wanted = {arrival.id for arrival in start.input.arrivals} if isinstance(start.input, ArrivalsInput) else set()
    claims = _claim(plane, start.run_id, [item for item in held if item.entry.value.id in wanted])
    if claims.has_rival:
        return _leave_it_to_the_rival()
    plane.ledger.forget_held(claims.gone)
    if start.consignment and claims.gone:
        # What made it complete is not there: the next look sees that, now that the index does not show it any more.
        _release(plane, start.run_id, [entry for _, entry in claims.mine.values()])
        return Wait(why="its files have changed", seconds=0)
    progress: Progress = Done(what="others had claimed everything")
    if claims.mine:
        progress = _write_run(plane, start, claims.mine, situation)
    for run_id, items in claims.others.items():
        rescued = _rescue(plane, start.pipeline, run_id, items)
        progress = rescued if isinstance(progress, Done) else progress
    return progress


def _claim(plane: ControlPlane, run_id: RunId, held: Sequence[HeldArrival]) -> _Claims:
    """Assign arrivals to the run; what the index shows may be stale, the entry's own version decides.

    Of several arrivals, the first is claimed alone: who finds that a rival has just claimed it leaves the others to
    the rival too. Else the two would take arrivals from each other one by one, and start two runs for one batch.
    """
    claims = _Claims(run_id=run_id)
    waiting: list[_Claimed] = [(item, item.entry) for item in held]
    if len(waiting) > 1:
        lost = _claim_once(plane, claims, waiting[:1])
        claims.has_rival = any(_is_a_rival_at_it(plane, entry.value) for _, entry in lost)
        if claims.has_rival:
            return claims
        waiting = [*lost, *waiting[1:]]
    for _ in range(_CLAIM_TRIES):
        waiting = _claim_once(plane, claims, waiting)
        if not waiting:
            return claims
    raise LedgerConflictError(f"{len(waiting)} arrivals", "they kept changing")


def _claim_once(plane: ControlPlane, claims: _Claims, waiting: Sequence[_Claimed]) -> list[_Claimed]:
    """Try to claim each arrival; return those that had changed, as they are now."""
    now = plane.clock.now()
    to_claim = [(item, entry) for item, entry in waiting if claims.sort_in(item, entry)]
    written = plane.ledger.update_arrivals([(entry, entry.value.assign(claims.run_id, now)) for _, entry in to_claim])
    lost: list[HeldArrival] = []
    for (item, _), claimed in zip(to_claim, written, strict=True):
        if claimed is not None:
            claims.mine[claimed.value.id] = (item, claimed)
        else:
            lost.append(item)
    current = plane.ledger.get_arrivals([item.entry.value.blob for item in lost])
    claims.gone += [item for item, entry in zip(lost, current, strict=True) if entry is None]
    return [(item, entry) for item, entry in zip(lost, current, strict=True) if entry is not None]


def _is_a_rival_at_it(plane: ControlPlane, arrival: Arrival) -> bool:
    """Return whether the arrival was claimed this very moment; an older claim may be that of a worker that died."""
    return arrival.state is ArrivalState.ASSIGNED and _is_young(plane.clock.now() - arrival.updated_at)


def _leave_it_to_the_rival() -> Wait:
    return Wait(why="another worker is starting their run", seconds=_RIVAL_IS_ALIVE_FOR.total_seconds())


def _is_young(age: timedelta) -> bool:
    return timedelta(0) <= age < _RIVAL_IS_ALIVE_FOR


def _rescue(plane: ControlPlane, pipeline: Pipeline, run_id: RunId, items: Sequence[_Claimed]) -> Progress:
    """Bring to an end what another worker began with arrivals that are still in the index."""
    existing = plane.ledger.get_run(run_id)
    if existing is not None:
        tidy(plane, existing.value, items)
        return Done(what="others had claimed them")
    age = plane.clock.now() - max(entry.value.updated_at for _, entry in items)
    if _is_young(age):  # safe either way; a rival who is alive is quicker alone
        return _leave_it_to_the_rival()
    situation = situation_of_batch(plane, pipeline)
    decision = close_batch(
        pipeline, [entry.value for _, entry in items], plane.pipelines, situation, now=plane.clock.now()
    )
    if not isinstance(decision, StartRun):  # one that must cancel another is written, and does so before it is sent
        seconds = decision.wait_s if isinstance(decision, Hold) else _RIVAL_IS_ALIVE_FOR.total_seconds()
        return Wait(why="the run that they are assigned to cannot go yet", seconds=seconds)
    mine = {entry.value.id: (item, entry) for item, entry in items}
    return _write_run(plane, replace(decision, run_id=run_id), mine, situation)


def tidy(plane: ControlPlane, run: Run, items: Sequence[_Claimed]) -> bool:
    """Remove index rows of arrivals that the run has, and release those that it will never read, if there are any."""
    if run.manifest is None:
        return False
    first = items[0][1].value
    if run.state is RunState.ENDED and (again := _go_again_if_replayed(plane, read_run(plane.ledger, run.id), first)):
        queue_run(plane, again.value)  # before the index rows go, which are what leads here
    frozen = {file.arrival_id for file in plane.manifests.read(run.manifest).files}
    plane.ledger.forget_held([item for item, entry in items if entry.value.id in frozen])
    forgotten = [entry for _, entry in items if entry.value.id not in frozen]
    _release(plane, run.id, forgotten)
    return bool(forgotten)


def _release(plane: ControlPlane, run_id: RunId, entries: Sequence[Entry[Arrival]]) -> None:
    now = plane.clock.now()
    for entry in entries:
        try:
            released = entry.value.release(run_id, now, "its run was frozen without it")
            plane.ledger.update_arrival(entry, released)
        except (LedgerConflictError, IllegalTransitionError):
            continue  # someone else released it, and it may be in another run already


def _write_run(
    plane: ControlPlane,
    start: StartRun,
    mine: dict[ArrivalId, _Claimed],
    situation: Situation,
) -> Progress:
    """Write the manifest and the run of claimed arrivals, and take the run as far as it goes."""
    arrivals = tuple(entry.value for _, entry in mine.values())
    first = min(arrivals, key=lambda arrival: (arrival.event_time, arrival.id))
    kept_files = start.input.kept if isinstance(start.input, ArrivalsInput) else ()
    start = replace(
        start,
        input=ArrivalsInput(arrivals=arrivals, kept=kept_files),
        cause=replace(start.cause, at=cause_time_of(start.run_id, first.event_time)),
    )
    files = [*(arrival.blob for arrival in arrivals), *kept_files]
    frozen = freeze(start, files, situation, now=plane.clock.now())
    if isinstance(frozen, Skip):
        return Done(what=str(frozen))
    _, kept = plane.manifests.write(frozen.manifest)
    if kept != frozen.manifest:
        frozen = _as_kept(plane, start, mine, kept, situation)
    frozen_ids = {file.arrival_id for file in kept.files}
    _release(plane, start.run_id, [entry for id_, (_, entry) in mine.items() if id_ not in frozen_ids])
    run = persist_token(frozen.run, token_of(frozen.run), plane.clock.now())
    entry, is_new = plane.ledger.insert_run(run)
    if not is_new:
        entry = _go_again_if_replayed(plane, entry, first) or entry
    progress = advance_or_put_back(plane, entry)
    plane.ledger.forget_held([item for id_, (item, _) in mine.items() if id_ in frozen_ids])
    return progress


def _as_kept(
    plane: ControlPlane,
    start: StartRun,
    mine: dict[ArrivalId, _Claimed],
    kept: InputManifest,
    situation: Situation,
) -> Frozen:
    """Return the run of the manifest that was there first."""
    arrivals: list[Arrival] = []
    for file in kept.files:
        if file.arrival_id is None:
            continue  # of the version that this one replaces
        known = mine.get(file.arrival_id)
        entry = known[1] if known is not None else plane.ledger.get_arrival(file.blob)
        if entry is not None:
            arrivals.append(entry.value)
    start = replace(
        start, input=ArrivalsInput(arrivals=tuple(arrivals)), cause=replace(start.cause, at=kept.created_at)
    )
    if kept.consignment:  # also of a pipeline that does not keep them together any more
        start = replace(start, consignment=kept.consignment, replaces=kept.replaces)
    frozen = freeze(start, [file.blob for file in kept.files], situation, now=plane.clock.now())
    if isinstance(frozen, Frozen) and not kept.consignment:  # one that the release before was writing when it stopped
        manifest = replace(frozen.manifest, consignment="", replaces=None)
        pointer = None if frozen.run.manifest is None else replace(frozen.run.manifest, sha256=manifest.sha256())
        frozen = Frozen(run=replace(frozen.run, manifest=pointer), manifest=manifest)
    if isinstance(frozen, Skip) or frozen.manifest != kept:
        raise LedgerConflictError(f"run {start.run_id!r}", "its manifest does not follow from its arrivals")
    return frozen


def _go_again_if_replayed(plane: ControlPlane, entry: Entry[Run], first: Arrival) -> Entry[Run] | None:
    """Return a run that failed with its next attempt begun, if a person had its very batch replayed; else None.

    A worker that was asleep since its claim comes here too, after the run has failed without it: then the arrival
    is marked failed, not assigned, and nobody asked for anything.
    """
    run = entry.value
    if run.state is not RunState.ENDED or run.outcome is Outcome.COMPLETED:
        return None
    if run.release_owed:  # what it owes may be assigned still without anyone having replayed it
        entry = free_the_others(plane, publish_outbox(plane, entry))
        if entry.value.release_owed:
            raise LedgerConflictError(f"run {run.id!r}", "more of its files are to be held again")
    current = plane.ledger.get_arrival(first.blob)
    if current is None or current.value.state is not ArrivalState.ASSIGNED or current.value.run_id != run.id:
        return None
    # If the topic does not take the end now, the arrival stays in the index, and the next look tries again.
    entry = publish_outbox(plane, entry)
    return change_run(
        plane.ledger,
        entry,
        lambda now_there: begin_next_attempt(
            now_there, plane.clock.now(), after=run.attempt, reason="its arrivals were replayed"
        ),
    )
