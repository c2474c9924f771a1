"""Ends attempts: asks Databricks, checks the proof, writes the end down, announces it."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from functions.core.alerts import AlertKind
from functions.core.completion import CompletionEvent
from functions.core.databricks_states import RunStatus, Verdict, status_of
from functions.core.endings import End, GoAgain, KeepWaiting, announce, judge, say
from functions.core.errors import InvalidDocumentError, NotFoundError, RunRejectedError
from functions.core.freezing import must_publish_scores, parameters_of
from functions.core.ledger import Run
from functions.core.manifest import InputManifest
from functions.core.model import Outcome, PipelineKey, RunKind, RunState
from functions.core.run_transitions import begin_next_attempt, end_run, keep_verdict, record_submitted
from functions.core.scores import ScoresManifest
from functions.core.work import WorkItem, WorkKind
from functions.ports import Entry
from functions.services.alerting import raise_alert
from functions.services.changes import change_run, read_run
from functions.services.freeing import free_the_others
from functions.services.marking import is_any_scored, mark_arrivals, read_manifest_of
from functions.services.outbox import publish_outbox
from functions.services.plane import ControlPlane, Done, Progress, Wait
from functions.services.turnstile import leave_seat
from functions.services.waking import wake_dispatcher

__all__ = ["fail_leftovers", "fail_run", "settle_run", "skip_run"]

_CONFIRM_S: Final = 2.0  # a notebook that has reported is at its last cell
_CANCELLED_S: Final = 5.0
_WATCH_S: Final = 30.0
_NEXT_ATTEMPT_S: Final = 15.0
_FREE_MORE_S: Final = 1.0
_JUDGE_AGAIN_S: Final = 1.0


def settle_run(plane: ControlPlane, entry: Entry[Run]) -> Progress:
    """Find out whether a submitted run has ended, and end it if so.

    What the notebook reported is a claim: the run ends only when Databricks says that it is over, and as completed
    only when its scores prove it. Repeating this asks again and comes to the same end.
    """
    if entry.value.verdict is not None:  # its arrivals may have been told
        return _end(plane, entry, entry.value.verdict, read_manifest_of(plane, entry.value), scores=None)
    return _find_out(plane, entry)


def _find_out(plane: ControlPlane, entry: Entry[Run]) -> Progress:
    entry, status = _ask(plane, entry)
    run = entry.value
    if status.verdict.is_open:
        return _keep_watching(plane, entry, status)
    if status.verdict is Verdict.UNKNOWN:
        raise_alert(plane, AlertKind.UNKNOWN_DATABRICKS_STATE, run, say(status))
    try:
        manifest = None if run.manifest is None else plane.manifests.read(run.manifest)
    except (NotFoundError, InvalidDocumentError) as error:
        return fail_run(plane, entry, f"its input manifest is gone or changed: {error}")
    try:
        scores = _scores_of(plane, run, status)
    except InvalidDocumentError as error:
        event = announce(run, Outcome.FAILED, f"the scores manifest is broken: {error}", now=plane.clock.now())
        return _end(plane, entry, event, manifest, scores=None)
    judgement = judge(run, status, scores, now=plane.clock.now(), manifest=manifest)
    match judgement:
        case KeepWaiting():
            return Wait(why="Databricks has not ended it", seconds=_WATCH_S)
        case GoAgain(reason=reason):
            return _go_again(plane, entry, reason)
        case End(event=event):
            return _end(plane, entry, event, manifest, scores=scores)


def _keep_watching(plane: ControlPlane, entry: Entry[Run], status: RunStatus) -> Progress:
    run = entry.value
    if run.is_cancel_wanted and run.databricks_run_id is not None:
        plane.submitter.cancel(run.databricks_run_id)  # again, as long as it goes on
        if status.is_at_rest:  # Databricks means to repeat it by itself, and may never: nothing is left to wait for
            return fail_run(plane, entry, say(status))
        return Wait(why="Databricks is cancelling it", seconds=_CANCELLED_S)
    is_reported = run.state is RunState.REPORTED
    return Wait(why=f"Databricks says {status.life_cycle_state}", seconds=_CONFIRM_S if is_reported else _WATCH_S)


def _ask(plane: ControlPlane, entry: Entry[Run]) -> tuple[Entry[Run], RunStatus]:
    run = entry.value
    if run.databricks_run_id is None and run.token is not None:
        # The notebook was faster than the answer to our submission: the token still names its run.
        try:
            databricks_run_id = plane.submitter.submit(run.job, run.token, parameters_of(run))
        except RunRejectedError as error:  # its run was deleted; no other answer will come
            return entry, status_of("", message=f"Databricks does not name its run ({error})")
        entry = change_run(
            plane.ledger, entry, lambda current: record_submitted(current, databricks_run_id, plane.clock.now())
        )
    if entry.value.databricks_run_id is None:
        return entry, status_of("PENDING")
    try:
        status = plane.submitter.status(entry.value.databricks_run_id)
    except NotFoundError as error:
        return entry, status_of("", message=f"Databricks does not know the run any more ({error})")
    return entry, status


def _scores_of(plane: ControlPlane, run: Run, status: RunStatus) -> ScoresManifest | None:
    if not status.verdict.is_claim or not must_publish_scores(run):
        return None
    return plane.manifests.read_scores(run.output_url)


def _go_again(plane: ControlPlane, entry: Entry[Run], reason: str) -> Progress:
    """Begin the next attempt; its arrivals stay assigned to the run."""
    judged = _facts(entry.value)
    attempt = entry.value.attempt  # that was judged: a rival may begin the next one while the stall is published
    entry = publish_outbox(plane, entry)  # a stall of this attempt, if the topic does not have it yet

    def begin(run: Run) -> Run:
        if run.attempt == attempt and _facts(run) != judged:
            return run  # reported, or repaired in the workspace and proven, since it was looked at
        return begin_next_attempt(run, plane.clock.now(), after=attempt, reason=reason)

    entry = change_run(plane.ledger, entry, begin)
    run = entry.value
    if run.attempt == attempt:
        return Wait(why="it has moved on since it was looked at", seconds=_JUDGE_AGAIN_S)
    leave_seat(plane, run, attempt=attempt)
    item = WorkItem(kind=WorkKind.ADVANCE_RUN, pipeline=run.pipeline, run_id=run.id, traceparent=run.traceparent)
    plane.queue.enqueue(item, delay=timedelta(seconds=_NEXT_ATTEMPT_S))
    return Done(what=f"attempt {run.attempt} follows: {reason}")


def fail_run(plane: ControlPlane, entry: Entry[Run], reason: str) -> Progress:
    """End a run that can never start, or never be finished: as cancelled if that is what someone wants, else as failed.

    The reason is told either way.
    """
    outcome = Outcome.CANCELLED if entry.value.is_cancel_wanted else Outcome.FAILED
    return _give_up(plane, entry, outcome, reason)


def skip_run(plane: ControlPlane, entry: Entry[Run], reason: str) -> Progress:
    """End a run as skipped that was never sent, because its pipeline's policy gives other work precedence."""
    return _give_up(plane, entry, Outcome.SKIPPED, reason)


def _give_up(plane: ControlPlane, entry: Entry[Run], outcome: Outcome, reason: str) -> Progress:
    run = entry.value
    manifest = read_manifest_of(plane, run)  # a run must not stay open for ever because it was lost
    event = announce(run, outcome, reason, now=plane.clock.now(), manifest=manifest)
    return _end(plane, entry, event, manifest, scores=None)


def _end(
    plane: ControlPlane,
    entry: Entry[Run],
    event: CompletionEvent,
    manifest: InputManifest | None,
    *,
    scores: ScoresManifest | None,
) -> Progress:
    """Write an end down in the order in which a crash between any two lines is made up for by repeating all of it.

    Arrivals first: the run's own write may take it out of the index of open runs, and then nobody would come back
    for them. Then the run with its event, in one write. Then its seat, which must not wait for Event Grid. Then the
    topic, then the note that the topic has it. Last the files that go on without it, which its row owes until then.
    """
    if event.outcome is Outcome.COMPLETED and event.outputs is None and scores is not None:
        event = replace(event, outputs=scores.outputs(entry.value.output_url))
    judged = _facts(entry.value)
    entry = read_run(plane.ledger, event.run_id)  # we may have slept since it was read, long enough for a next attempt
    if entry.value.attempt != event.attempt or entry.value.outcome not in {None, event.outcome}:
        return Done(what="another worker has seen to its end")
    if entry.value.outcome is None and _facts(entry.value) != judged:
        return Wait(why="it has moved on since it was looked at", seconds=_JUDGE_AGAIN_S)
    if event.outcome is Outcome.COMPLETED and entry.value.completion is None and entry.value.verdict is None:
        entry = change_run(
            plane.ledger,
            entry,
            lambda run: run if _facts(run) != judged else keep_verdict(run, event, plane.clock.now()),
        )
        if entry.value.verdict != event:
            return Wait(why="it has moved on since it was looked at", seconds=_JUDGE_AGAIN_S)
        judged = _facts(entry.value)
    event = _begun(plane, entry.value, event, manifest)
    told = entry.value.completion if entry.value.outcome is not None else None  # a rival's end is the one that counts
    release_owed = mark_arrivals(plane, entry.value, told or event, manifest)

    def end(run: Run) -> Run:
        if run.outcome is None and _facts(run) != judged:
            return run  # what is marked is marked again when the next look has judged that
        return end_run(run, event, plane.clock.now(), release_owed=release_owed)

    entry = change_run(plane.ledger, entry, end)
    if entry.value.outcome is None:
        return Wait(why="it has moved on since it was looked at", seconds=_JUDGE_AGAIN_S)
    next_in_queue = leave_seat(plane, entry.value, attempt=event.attempt)
    entry = free_the_others(plane, publish_outbox(plane, entry))
    _wake_those_who_waited(plane, entry.value, next_in_queue)
    if entry.value.release_owed:
        return Wait(why="more of its files are to be held again", seconds=_FREE_MORE_S)
    return Done(what=f"ended: {event.outcome.value}")


def _begun(plane: ControlPlane, run: Run, event: CompletionEvent, manifest: InputManifest | None) -> CompletionEvent:
    """Return the end that a worker died in writing: what the notebook reported, if an arrival says that it was proven.

    Its Databricks run, or its scores, may be gone since.
    """
    reported = run.completion
    if run.state is not RunState.REPORTED or event.outcome is Outcome.COMPLETED or reported is None:
        return event
    is_whole = reported.outcome is Outcome.COMPLETED and (reported.outputs or not must_publish_scores(run))
    return reported if is_whole and is_any_scored(plane, run, manifest) else event


def _facts(run: Run) -> tuple[int, RunState, CompletionEvent | None, CompletionEvent | None]:
    """Return what an end is judged by: a rival may send the attempt or prove it, or its notebook may report."""
    return run.attempt, run.state, run.completion, run.verdict


def fail_leftovers(plane: ControlPlane, run: Run) -> None:
    """Give up arrivals that a worker took back for an attempt of an ended run which ended while that worker slept.

    Without this they would stay assigned to a run that nobody comes back for.
    """
    if run.attempt == 1 or run.completion is None or run.outcome is Outcome.COMPLETED:
        return  # a first attempt takes nothing back, and what completed has scored its arrivals
    mark_arrivals(plane, run, run.completion, read_manifest_of(plane, run), only_taken_back=True)


def _wake_those_who_waited(plane: ControlPlane, run: Run, next_in_queue: PipelineKey | None) -> None:
    """Have held arrivals looked at now that a run has ended; if this is lost, the reconciler looks anyway."""
    waiting = {run.pipeline, next_in_queue or run.pipeline} & set(plane.pipelines.by_key)
    if run.kind is RunKind.TRAINING and run.outcome is Outcome.COMPLETED:
        waiting |= {
            pipeline.key
            for pipeline in plane.pipelines.pipelines
            if pipeline.kind is RunKind.SCORING and pipeline.model_name == run.model_name
        }
    for pipeline in sorted(waiting):
        if plane.ledger.held_arrivals(pipeline, limit=1):
            wake_dispatcher(plane, pipeline, after_s=0, traceparent=run.traceparent)
