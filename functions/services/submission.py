"""Takes a written run to Databricks, and on to its end.

The token is in the ledger before any call can carry it, so whoever repeats the call after a crash, a lost answer or
a refusal repeats it with the same token, and Databricks answers with the same run.
"""

from datetime import datetime
from typing import Final

from functions.core.errors import InvalidDocumentError, NotFoundError, ParametersTooLargeError, RunRejectedError
from functions.core.freezing import parameters_of, token_of
from functions.core.ledger import Arrival, Run
from functions.core.model import ArrivalState, RunState
from functions.core.pipelines import ConcurrencyPolicy, Pipeline
from functions.core.run_transitions import persist_token, record_submitted
from functions.ports import Entry
from functions.services.changes import change_arrivals, change_run
from functions.services.ending import fail_run, settle_run
from functions.services.outbox import publish_outbox
from functions.services.plane import ControlPlane, Done, Progress, Wait
from functions.services.situations import active_runs

__all__ = ["advance_run", "cancel_active"]

_AT_CAPACITY_S: Final = 15.0
_WAIT_FOR_CANCEL_S: Final = 5.0


def advance_run(plane: ControlPlane, entry: Entry[Run]) -> Progress:
    """Take a run as far as it goes now, from wherever a crash or a wait left it."""
    if entry.value.state is RunState.DECIDED:
        begun = _begin(plane, entry)
        if not isinstance(begun, Entry):
            return begun
        entry = begun
    if entry.value.state is RunState.SUBMITTING:
        return _submit(plane, entry)
    if entry.value.state is RunState.ENDED:
        publish_outbox(plane, entry)
        return Done(what="it has ended")
    return settle_run(plane, entry)


def cancel_active(plane: ControlPlane, pipeline: Pipeline, *, but: Run | None = None) -> int:
    """Ask Databricks to cancel the pipeline's active runs; return how many are still active."""
    active = active_runs(plane, pipeline, but=None if but is None else but.id)
    for entry in active:
        if entry.value.databricks_run_id is not None:
            plane.submitter.cancel(entry.value.databricks_run_id)
    return len(active)


def _begin(plane: ControlPlane, entry: Entry[Run]) -> Entry[Run] | Progress:
    """Persist the attempt's token, once there is room for it and its files are its own."""
    run = entry.value
    pipeline = plane.pipelines.by_key.get(run.pipeline)  # None: removed since; the run goes on as it was decided
    if pipeline is not None:
        policy = pipeline.concurrency.policy
        if policy is ConcurrencyPolicy.SUPERSEDE:
            if (progress := _supersede(plane, entry, pipeline)) is not None:
                return progress
        elif policy is not ConcurrencyPolicy.DROP:
            active = len(active_runs(plane, pipeline, but=run.id))
            if active >= pipeline.concurrency.capacity:
                return Wait(why="as many runs are active as the pipeline allows", seconds=_AT_CAPACITY_S)
    try:
        lost = _take_back_arrivals(plane, run) if run.attempt > 1 and run.arrival_count else 0
    except (NotFoundError, InvalidDocumentError) as error:
        return fail_run(plane, entry, f"its input manifest is gone or changed: {error}")
    if lost:
        return fail_run(plane, entry, f"{lost} of its files went to other runs meanwhile")
    attempt = run.attempt

    def persist(current: Run) -> Run:
        if current.attempt != attempt or current.state is not RunState.DECIDED:
            return current
        return persist_token(current, token_of(current), plane.clock.now())

    return change_run(plane.ledger, entry, persist)


def _supersede(plane: ControlPlane, entry: Entry[Run], pipeline: Pipeline) -> Progress | None:
    """Make room for the run by cancelling older ones; never the other way round."""
    run = entry.value
    newer = [item.value for item in active_runs(plane, pipeline, but=run.id) if _rank(item.value) > _rank(run)]
    if newer:
        return fail_run(plane, entry, f"superseded by the newer run {max(newer, key=_rank).id}")
    if cancel_active(plane, pipeline, but=run):
        return Wait(why="the active run is being cancelled", seconds=_WAIT_FOR_CANCEL_S)
    return None


def _rank(run: Run) -> tuple[datetime, str]:
    return run.cause.at, run.id


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
    try:
        parameters = parameters_of(run)
    except ParametersTooLargeError as error:
        return fail_run(plane, entry, str(error))
    try:
        databricks_run_id = plane.submitter.submit(run.job, token_of(run), parameters)
    except RunRejectedError as error:
        return fail_run(plane, entry, str(error))

    def record(current: Run) -> Run:
        if current.token != run.token:
            return current  # a rival has seen this attempt through, and the next one is on its way
        return record_submitted(current, databricks_run_id, plane.clock.now(), run_page_url=page)

    page = plane.submitter.page_of(run.job, databricks_run_id)
    # A crash before this line: the run stays SUBMITTING, and repeating the call gives the same Databricks run.
    change_run(plane.ledger, entry, record)
    return Done(what=f"submitted as Databricks run {databricks_run_id}")
