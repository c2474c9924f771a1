"""Looks after what nobody else comes back for: silent runs, arrivals that are still held, slots that were missed."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final

from functions.core.errors import MlopsError, ThrottledError, TransientError
from functions.core.ledger import Run
from functions.core.model import DatabricksRunId, PipelineKey, RunState
from functions.core.setback import REGULAR_WAIT_S
from functions.core.tokens import pipeline_of_run
from functions.ports import Entry, OpenRun
from functions.services.backfill_steps import go_on_with_backfills
from functions.services.closing import close_pipeline_batch
from functions.services.left_behind import (
    find_left_behind,
    forget_what_went_on,
    pipelines_that_were,
    remember_pipelines,
)
from functions.services.plane import SLOWEST_WRITER, ControlPlane, Wait
from functions.services.schedule import catch_up
from functions.services.setbacks import forget_setback, note_setback
from functions.services.stalling import announce_if_stalled, stalled_after_minutes
from functions.services.submission import advance_run
from functions.services.turnstile import reclaim_seats

__all__ = ["Reconciled", "reconcile"]

_SOMEONE_IS_AT_IT: Final = timedelta(seconds=10)
_NEVER_MADE_AFTER: Final = timedelta(days=1)
_LONGEST_PASS: Final = timedelta(seconds=50)
_BATCHES_A_PASS: Final = 20
_ROWS_A_PASS: Final = 500
_A_PASS_S: Final = 60

Reconciled = Counter[str]


def reconcile(plane: ControlPlane) -> Reconciled:
    """Take every open run as far as it goes and close every batch that is due; return what was found.

    A failure of one run does not keep the others waiting. A pass that is cut short is finished by the next one:
    runs are looked at in the order of the index, beginning where the clock says, so that none always comes last.

    Raises:
        Exception: The first failure that nothing here knows, after everything else was looked at.
    """
    found: Reconciled = Counter()
    unknown: list[Exception] = []
    with plane.telemetry.span("reconcile") as span:
        started = plane.clock.now()
        open_runs = _from_another_start(plane, list(plane.ledger.open_runs()))
        active = _active(plane, open_runs, found)
        _mend_seats(plane, open_runs, active, found)
        for open_run in open_runs:
            if open_run.databricks_run_id in active and not _may_be_stalled(plane, open_run):
                found["active"] += 1
                continue
            if plane.clock.now() - started > _LONGEST_PASS:
                found["left to the next pass"] += 1
                break
            try:
                found[_look_at(plane, open_run)] += 1
            except ThrottledError:
                found["throttled"] += 1
                break  # asking for the next one would be refused too
            except Exception as error:  # noqa: BLE001 - what is not known is raised at the end
                _count(error, found, unknown)
        _look_after_the_rest(plane, found, unknown)
        _bring_up_to_date(plane, found)
        _find_left_behind(plane, found)
        _forget_what_is_old(plane, found)
        span.set(**dict(found))
        if unknown:
            raise unknown[0]
    return found


def _count(error: Exception, found: Reconciled, unknown: list[Exception]) -> None:
    found[type(error).__name__] += 1
    if not isinstance(error, MlopsError):
        unknown.append(error)


def _forget_what_is_old(plane: ControlPlane, found: Reconciled) -> None:
    """Remove some of what one pipeline settled longer ago than is kept; the next pass takes the next pipeline.

    One that is not configured any more has its turn too.
    """
    if plane.retention is None:
        return
    now = plane.clock.now()
    try:
        pipelines = [None, *sorted(pipelines_that_were(plane.ledger) | set(plane.pipelines.by_key))]
        pipeline = pipelines[int(now.timestamp()) // _A_PASS_S % len(pipelines)]
        found["forgotten"] += plane.ledger.forget_before(pipeline, before=now - plane.retention, limit=_ROWS_A_PASS)
    except MlopsError as error:
        found[type(error).__name__] += 1


def _bring_up_to_date(plane: ControlPlane, found: Reconciled) -> None:
    """Rewrite some of the rows that an earlier release wrote, until none is left."""
    try:
        if not plane.ledger.layout_status().is_complete:
            found["rows looked at"] += plane.ledger.bring_up_to_date(limit=_ROWS_A_PASS).seen
    except MlopsError as error:
        found[type(error).__name__] += 1


def _find_left_behind(plane: ControlPlane, found: Reconciled) -> None:
    """Count what is held for pipelines that are not configured any more; it is kept, and health says so too."""
    try:
        remember_pipelines(plane)
        forget_what_went_on(plane)
        for left in find_left_behind(plane):
            found[f"held for {left.pipeline!r}, which is not configured"] += left.count
    except MlopsError as error:
        found[type(error).__name__] += 1


def _look_after_the_rest(plane: ControlPlane, found: Reconciled, unknown: list[Exception]) -> None:
    """Close batches that are due, catch up with slots, go on with backfills; none keeps the others waiting."""
    looks: list[Callable[[], str]] = []
    for pipeline in plane.pipelines.pipelines:
        if pipeline.routes:
            looks.append(partial(_close_batches, plane, pipeline.key))
        looks += [partial(catch_up, plane, pipeline.key, schedule) for schedule in pipeline.schedules]
    looks.append(partial(go_on_with_backfills, plane))
    for look in looks:
        try:
            found[look()] += 1
        except Exception as error:  # noqa: BLE001 - what is not known is raised at the end
            _count(error, found, unknown)


def _active(plane: ControlPlane, open_runs: list[OpenRun], found: Reconciled) -> set[DatabricksRunId]:
    """Return the runs that Databricks lists as active: a few calls for all of them, instead of one for each.

    One that is missing from the list is asked about by itself, so a list that could not be had costs calls only.
    """
    if not any(run.databricks_run_id is not None for run in open_runs):
        return set()
    active: set[DatabricksRunId] = set()
    for job in sorted(plane.pipelines.jobs):
        try:
            active |= plane.submitter.active(job)
        except MlopsError as error:
            found[type(error).__name__] += 1
    return active


def _mend_seats(plane: ControlPlane, open_runs: list[OpenRun], active: set[DatabricksRunId], found: Reconciled) -> None:
    """Give back first what died with its process, so that this pass can use it."""
    try:
        found[reclaim_seats(plane, open_runs, active)] += 1
    except MlopsError as error:
        found[type(error).__name__] += 1


def _from_another_start(plane: ControlPlane, runs: list[OpenRun]) -> list[OpenRun]:
    start = plane.clock.now().minute * 7 % len(runs) if runs else 0
    return runs[start:] + runs[:start]


def _look_at(plane: ControlPlane, open_run: OpenRun) -> str:
    entry = plane.ledger.get_run(open_run.run_id)
    if entry is None:
        # Its writer died before the run, or is about to write it: the index row must outlive the slowest writer.
        if plane.clock.now() - open_run.opened_at > _NEVER_MADE_AFTER:
            plane.ledger.forget_open(open_run)
            return "never made"
        return "not made yet"
    if entry.value.is_story_over:
        # A row that is to reopen just this end may be a living writer's, who writes it before the run's own.
        is_to_go_on = open_run.reopens == entry.version
        if not is_to_go_on or abs(plane.clock.now() - open_run.opened_at) > SLOWEST_WRITER:
            plane.ledger.forget_open(open_run)
        return "over"
    if _is_in_good_hands(plane, entry):
        return "in good hands"
    run = entry.value
    with plane.telemetry.span(
        "reconcile_run", traceparent=run.traceparent, run_id=run.id, attempt=run.attempt, state=run.state.value
    ) as span:
        try:
            progress = advance_run(plane, entry)
        except MlopsError as error:
            note_setback(plane, run, error, tries=1, wait_s=_until_next_try_s(error))
            # What keeps it from going on, such as a missing role or job, may do so for longer than the SLA.
            announce_if_stalled(plane, run)
            raise
        if isinstance(progress, Wait):
            forget_setback(plane, entry)
        is_stalled = isinstance(progress, Wait) and announce_if_stalled(plane, run)
        span.set(outcome=progress.why if isinstance(progress, Wait) else progress.what, is_stalled=int(is_stalled))
    return "waits" if isinstance(progress, Wait) else "advanced"


def _until_next_try_s(error: MlopsError) -> float:
    """Return after how long the next pass tries a run again: it is as patient as was asked for."""
    asked_s = error.retry_after_s if isinstance(error, TransientError) else None
    return max(asked_s or 0.0, REGULAR_WAIT_S)


def _may_be_stalled(plane: ControlPlane, open_run: OpenRun) -> bool:
    """Return whether an active run is worth a look at its row: its attempt may be past its SLA."""
    after = timedelta(minutes=stalled_after_minutes(plane, pipeline_of_run(open_run.run_id)))
    return plane.clock.now() - open_run.opened_at > after


def _is_in_good_hands(plane: ControlPlane, entry: Entry[Run]) -> bool:
    """Return whether a worker is submitting it right now; asking twice would be safe, but wasteful."""
    if entry.value.state not in {RunState.DECIDED, RunState.SUBMITTING}:
        return False
    return timedelta(0) <= plane.clock.now() - entry.value.updated_at < _SOMEONE_IS_AT_IT


def _close_batches(plane: ControlPlane, pipeline: PipelineKey) -> str:
    """Close the pipeline's batches that are due, a bounded number of them."""
    for _ in range(_BATCHES_A_PASS):
        progress = close_pipeline_batch(plane, pipeline)
        if not isinstance(progress, Wait):
            return f"batch: {progress.what}" if progress.what == "nothing_held" else "batch: closed"
        if progress.seconds > 0:
            return "batch: waits"
    return "batch: more to come"
