"""Takes a written run to Databricks, and on to its end.

The token is in the ledger before any call can carry it, so whoever repeats the call after a crash, a lost answer or
a refusal repeats it with the same token, and Databricks answers with the same run.
No call is made without a seat (`turnstile`), so what waits in SUBMITTING without one was never sent.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from functions.core.errors import (
    InvalidDocumentError,
    NotFoundError,
    ParametersTooLargeError,
    RunRejectedError,
    ThrottledError,
)
from functions.core.freezing import parameters_of, token_of
from functions.core.ledger import Arrival, Run
from functions.core.model import ArrivalState, DatabricksRunId, RunState
from functions.core.pipelines import ConcurrencyPolicy, Pipeline
from functions.core.reasons import HoldReason, SkipReason
from functions.core.run_transitions import persist_token, record_submitted
from functions.core.turnstile import Refusal
from functions.ports import Entry
from functions.services.changes import change_arrivals, change_run, read_run
from functions.services.ending import fail_leftovers, fail_run, settle_run, skip_run
from functions.services.freeing import free_the_others
from functions.services.outbox import publish_outbox
from functions.services.plane import ControlPlane, Done, Progress, Wait
from functions.services.situations import active_runs, count_waiting_runs
from functions.services.telling import tell_held
from functions.services.turnstile import bar, be_patient, look_at_turnstile, patience_s, refusal_of, take_seat

__all__ = ["advance_run", "cancel_runs"]

_AT_CAPACITY_S: Final = 15.0
_WAIT_FOR_CANCEL_S: Final = 5.0
_ROOM_IS_MADE_S: Final = 1.0
_NEVER_SENT: Final = "cancelled before it was sent to Databricks"
_IN_ORDER: Final = frozenset({ConcurrencyPolicy.PARALLEL, ConcurrencyPolicy.QUEUE})


def advance_run(plane: ControlPlane, entry: Entry[Run]) -> Progress:
    """Take a run as far as it goes now, from wherever a crash or a wait left it."""
    if entry.value.state is RunState.DECIDED and not entry.value.is_cancel_wanted:
        begun = _begin(plane, entry)
        if not isinstance(begun, Entry):
            return begun
        entry = begun
    if entry.value.state is RunState.DECIDED and entry.value.is_cancel_wanted:
        return fail_run(plane, entry, _NEVER_SENT)
    if entry.value.state is RunState.SUBMITTING:
        return _submit(plane, entry)
    if entry.value.state is RunState.ENDED:
        entry = free_the_others(plane, publish_outbox(plane, entry))
        if entry.value.release_owed:
            return Wait(why="more of its files are to be held again", seconds=_ROOM_IS_MADE_S)
        fail_leftovers(plane, entry.value)
        return Done(what="it has ended")
    return settle_run(plane, entry)


def cancel_runs(plane: ControlPlane, entries: Sequence[Entry[Run]]) -> int:
    """Have Databricks cancel these runs; return how many are not confirmed to have ended yet.

    Asking for a cancellation is not one: a run is out of the way when Databricks says that it is over.
    Only runs are cancelled that the caller has seen: one that began since may be of the very work that shall go.
    """
    still_active = 0
    for entry in entries:
        # A repair that is being sent has the id of the run that it repairs, of which the end is not its own.
        is_there = entry.value.state is not RunState.SUBMITTING
        if is_there and entry.value.databricks_run_id is not None:
            plane.submitter.cancel(entry.value.databricks_run_id)
            still_active += isinstance(settle_run(plane, entry), Wait)
        else:
            still_active += 1  # its answer is still to come; then it can be cancelled
    return still_active


def _begin(plane: ControlPlane, entry: Entry[Run]) -> Entry[Run] | Progress:
    """Persist the attempt's token, once there is room for it and its files are its own."""
    run = entry.value
    pipeline = plane.pipelines.by_key.get(run.pipeline)  # None: removed since; the run goes on as it was decided
    if (progress := _wait_for_turn(plane, entry, pipeline)) is not None:
        return progress
    try:
        lost = _take_back_arrivals(plane, run) if run.attempt > 1 and run.arrival_count else 0
    except (NotFoundError, InvalidDocumentError) as error:
        return fail_run(plane, entry, f"its input manifest is gone or changed: {error}")
    if lost:
        return fail_run(plane, entry, f"{lost} of its files went to other runs meanwhile")
    attempt = run.attempt

    def persist(current: Run) -> Run:
        if current.attempt != attempt or current.state is not RunState.DECIDED or current.is_cancel_wanted:
            return current
        return persist_token(current, token_of(current), plane.clock.now())

    return change_run(plane.ledger, entry, persist)


def _wait_for_turn(plane: ControlPlane, entry: Entry[Run], pipeline: Pipeline | None) -> Progress | None:
    """Return why the run cannot go yet, or None; runs of a pipeline go in the order of their causes."""
    policy = None if pipeline is None else pipeline.concurrency.policy
    if pipeline is not None and policy is ConcurrencyPolicy.SUPERSEDE:
        progress = _supersede(plane, entry, pipeline)
        if progress is not None:
            return progress
    if (refusal := refusal_of(plane, entry.value.pipeline)) is not None:
        return _kept_waiting(plane, entry, pipeline, refusal)
    if pipeline is not None and policy in _IN_ORDER:
        room = pipeline.concurrency.capacity - look_at_turnstile(plane).seated(pipeline.key)
        if count_waiting_runs(plane, pipeline, most=room, before=entry.value.id) >= room:
            return Wait(why=HoldReason.AT_CAPACITY.sentence, seconds=_AT_CAPACITY_S)
    return None


def _kept_waiting(plane: ControlPlane, entry: Entry[Run], pipeline: Pipeline | None, refusal: Refusal) -> Progress:
    """Return what becomes of a run without a seat: it waits, unless its pipeline's policy says otherwise.

    What was begun once is never dropped: its next attempt waits.
    """
    if refusal.reason is HoldReason.AT_CAPACITY and pipeline is not None:
        policy = pipeline.concurrency.policy
        if policy is ConcurrencyPolicy.DROP and entry.value.attempt == 1:
            return _turn_away(plane, entry, SkipReason.DROPPED_WHILE_ACTIVE.sentence)
        if policy is ConcurrencyPolicy.SUPERSEDE:
            return _supersede(plane, entry, pipeline) or Wait(why="there is room for it now", seconds=_ROOM_IS_MADE_S)
    tell_held(plane, entry.value.pipeline, refusal, traceparent=entry.value.traceparent)
    return Wait(why=refusal.reason.sentence, seconds=refusal.wait_s)


def _supersede(plane: ControlPlane, entry: Entry[Run], pipeline: Pipeline) -> Progress | None:
    """Make room for the run by cancelling those decided before it; never the other way round.

    What counts is when a run was decided, not when its cause was: an event that comes late is new work all the same,
    and has had the active run cancelled before it became a run.
    """
    run = entry.value
    active = active_runs(plane, pipeline, but=run.id)
    if newer := [item.value for item in active if item.value.created_at > run.created_at]:
        return _turn_away(
            plane, entry, f"superseded by the newer run {max(newer, key=lambda item: item.created_at).id}"
        )
    if cancel_runs(plane, active):
        return Wait(why="the active run is being cancelled", seconds=_WAIT_FOR_CANCEL_S)
    return None


def _turn_away(plane: ControlPlane, entry: Entry[Run], why: str) -> Progress:
    """End a run as skipped, unless another worker has taken a seat for it meanwhile and is sending it."""
    if not bar(plane, entry.value, why):
        return Wait(why="another worker is sending it", seconds=_ROOM_IS_MADE_S)
    return skip_run(plane, entry, why)


def _end_barred(plane: ControlPlane, run: Run, why: str) -> Progress:
    """End a run for whoever barred it, unless that worker lives and has ended it."""
    entry = read_run(plane.ledger, run.id)
    if (entry.value.attempt, entry.value.state) != (run.attempt, RunState.SUBMITTING):
        return Done(what=why)
    return (fail_run if entry.value.is_cancel_wanted else skip_run)(plane, entry, why)


def _take_back_arrivals(plane: ControlPlane, run: Run) -> int:
    """Assign the run's failed arrivals to it again; return how many are another run's by now."""
    if run.manifest is None:
        return 0
    lost: set[str] = set()

    def take(arrival: Arrival) -> Arrival:
        is_ours = arrival.run_id == run.id
        if is_ours and arrival.state in {ArrivalState.FAILED, ArrivalState.ASSIGNED}:
            return arrival.assign(run.id, plane.clock.now())
        lost.add(arrival.id)
        return arrival

    manifest = plane.manifests.read(run.manifest)
    change_arrivals(plane.ledger, (file.blob for file in manifest.files if file.arrival_id is not None), take)
    return len(lost)


def _submit(plane: ControlPlane, entry: Entry[Run]) -> Progress:
    """Send the persisted token; only a refusal of the run itself ends it as failed.

    A missing role or job is no such refusal: a person mends it, the run stays SUBMITTING, and its token is sent again.
    Ending it could announce a failure of a run that a lost answer has hidden from us.
    """
    run = entry.value
    if (progress := _admit(plane, entry)) is not None:
        return progress
    try:
        databricks_run_id = _send(plane, run, parameters_of(run))
    except (ParametersTooLargeError, RunRejectedError, NotFoundError) as error:
        return fail_run(plane, entry, str(error))
    except ThrottledError as error:
        be_patient(plane, run, after_s=error.retry_after_s or 0.0)
        raise

    def record(current: Run) -> Run:
        if current.token != run.token:
            return current  # a rival has seen this attempt through, and the next one is on its way
        return record_submitted(current, databricks_run_id, plane.clock.now(), run_page_url=page)

    page = plane.submitter.page_of(run.job, databricks_run_id)
    # A crash before this line: the run stays SUBMITTING, and repeating the call gives the same Databricks run.
    entry = change_run(plane.ledger, entry, record)
    if entry.value.is_cancel_wanted and entry.value.token == run.token:
        plane.submitter.cancel(databricks_run_id)  # a crash before this line: settling it asks again
        return Wait(why="Databricks is cancelling it", seconds=_WAIT_FOR_CANCEL_S)
    return Done(what=f"submitted as Databricks run {databricks_run_id}")


def _admit(plane: ControlPlane, entry: Entry[Run]) -> Progress | None:
    """Take a seat for the attempt; return what becomes of it if there is none, or if it is not to be sent (yet)."""
    run = entry.value
    if run.is_cancel_wanted and bar(plane, run, _NEVER_SENT):
        return fail_run(plane, entry, _NEVER_SENT)
    if (refusal := take_seat(plane, run)) is not None:
        if refusal.barred_because is not None:
            return _end_barred(plane, run, refusal.barred_because)
        return _kept_waiting(plane, entry, plane.pipelines.by_key.get(run.pipeline), refusal)
    if (wait_s := patience_s(plane, run)) > 0:
        return Wait(why="Databricks asked for patience", seconds=wait_s)
    return None


def _send(plane: ControlPlane, run: Run, parameters: Mapping[str, str]) -> DatabricksRunId:
    """Start the attempt, or have the Databricks run repaired that it repairs: once, however often it is sent."""
    if run.repair_after is None or run.databricks_run_id is None:
        return plane.submitter.submit(run.job, token_of(run), parameters)
    plane.submitter.repair(run.databricks_run_id, parameters, after=run.repair_after)
    return run.databricks_run_id
