"""Moves a run from its decision to its end, refusing every change that a named rule forbids.

Each function returns the same run when the change was made already, so that a caller who crashed between the
ledger's write and its acknowledgement can simply repeat the call.
"""

from dataclasses import replace
from datetime import datetime
from typing import Final

from functions.core.completion import CompletionEvent
from functions.core.errors import IllegalTransitionError
from functions.core.ledger import CHANGES_KEPT, RUN_TRANSITIONS, Attempt, Change, Run, RunRule
from functions.core.lineage import shortened
from functions.core.manifest import ManifestPointer
from functions.core.model import DatabricksRunId, IdempotencyToken, Outcome, RunKind, RunState, Stage
from functions.core.stalled import StalledEvent

__all__ = [
    "ASK_ANEW",
    "attach_manifest",
    "begin_next_attempt",
    "begin_repair",
    "end_run",
    "is_news_of_the_end",
    "keep_verdict",
    "learn_of_refusals",
    "mark_published",
    "mark_released",
    "mark_stall_published",
    "mark_stalled",
    "persist_token",
    "record_report",
    "record_submitted",
    "want_cancel",
]

_REASONS_IN_FULL: Final = 9
_SHORT_REASON: Final = 200
ASK_ANEW: Final = "POST /api/runs with its files makes a new run"


def attach_manifest(run: Run, manifest: ManifestPointer, file_count: int, at: datetime) -> Run:
    """Return the run pointing to its frozen batch; the first manifest stays."""
    if run.manifest == manifest:
        return run
    if run.manifest is not None or run.state is not RunState.DECIDED:
        raise _refused(RunRule.MANIFEST_BEFORE_TOKEN, run, f"a run of {manifest.url!r}")
    return replace(run, manifest=manifest, file_count=file_count, updated_at=max(at, run.updated_at))


def persist_token(run: Run, token: IdempotencyToken, at: datetime) -> Run:
    """Return the run about to be submitted: the token is in the ledger before any call can carry it."""
    if run.token is not None:
        # Whoever comes second, after a crash or beside us, must call with the token that is already there.
        if run.token != token:
            raise _refused(RunRule.KEEP_THE_FIRST_TOKEN, run, f"submitting with token {token[:12]}…")
        return run
    if run.manifest is None:
        raise _refused(RunRule.MANIFEST_BEFORE_TOKEN, run, RunState.SUBMITTING.value)
    if run.is_cancel_wanted:
        raise _refused(RunRule.CANCEL_BEFORE_TOKEN, run, RunState.SUBMITTING.value)
    return _become(run, RunState.SUBMITTING, at, note=token, token=token)


def record_submitted(run: Run, databricks_run_id: DatabricksRunId, at: datetime, *, run_page_url: str = "") -> Run:
    """Return the run with Databricks' own id; harmless after the notebook has already reported."""
    if run.databricks_run_id is not None:
        if run.databricks_run_id != databricks_run_id:
            raise _refused(RunRule.KEEP_THE_FIRST_DATABRICKS_RUN, run, f"Databricks run {databricks_run_id}")
        if run.state is not RunState.SUBMITTING:
            return run
    page = run_page_url or run.run_page_url
    if run.state in {RunState.REPORTED, RunState.ENDED}:
        # The notebook was faster than the answer to our call: keep its state, add what the answer says.
        return replace(run, databricks_run_id=databricks_run_id, run_page_url=page, updated_at=max(at, run.updated_at))
    return _become(
        run,
        RunState.SUBMITTED,
        at,
        note=str(databricks_run_id),
        databricks_run_id=databricks_run_id,
        run_page_url=page,
        submitted_at=at,
    )


def record_report(run: Run, event: CompletionEvent, at: datetime) -> Run:
    """Return the run with the end that its notebook announced; Databricks and the outputs still have to confirm it.

    The notebook published the event itself, so nothing is left in the outbox.
    A report of an earlier attempt is refused: it must not end the attempt that runs now.
    """
    if (event.run_id, event.attempt, event.token) != (run.id, run.attempt, run.token):
        raise _refused(RunRule.REJECT_FOREIGN_COMPLETION, run, f"attempt {event.attempt} {event.outcome.value}")
    if run.state is RunState.ENDED:
        if run.outcome is not event.outcome:
            raise _refused(RunRule.REJECT_SECOND_COMPLETION, run, event.outcome.value)
        # We announced the same end first (same id); the delivery proves that the topic has it.
        return run if run.published_at is not None else replace(run, published_at=at, updated_at=at)
    if run.completion is not None:
        if run.completion.outcome is not event.outcome:
            raise _refused(RunRule.REJECT_SECOND_COMPLETION, run, event.outcome.value)
        return run
    if run.verdict is not None:
        if event.outcome is not Outcome.COMPLETED:
            raise _refused(RunRule.REJECT_SECOND_COMPLETION, run, event.outcome.value)
        if event.outputs not in {None, run.verdict.outputs}:
            return run  # contradicts what was proven
    return _become(
        run,
        RunState.REPORTED,
        at,
        note=event.outcome.value,
        completion=event,
        databricks_run_id=run.databricks_run_id or event.databricks_run_id,
    )


def keep_verdict(run: Run, verdict: CompletionEvent, at: datetime) -> Run:
    """Return the run with the success that was proven without its notebook's report, before its arrivals are told.

    An arrival that is scored stays so: nothing that comes next may have the same attempt judged otherwise.
    It is kept apart from what the notebook reports, which the topic has: this it does not have yet.
    """
    is_open = run.state is not RunState.ENDED and run.completion is None and run.verdict is None
    if not is_open or verdict.outcome is not Outcome.COMPLETED:
        return run
    return replace(run, verdict=verdict, updated_at=max(at, run.updated_at))


def end_run(
    run: Run, completion: CompletionEvent, at: datetime, *, reason: str | None = None, release_owed: bool = False
) -> Run:
    """Return the run ended, its completion event in the outbox in the same write, and what it owes to its good files.

    If the notebook reported this very outcome, its own event stays: it is published already and says more.
    If it reported another one (it said completed, but the outputs do not prove it), ours says what is true.
    """
    outcome = completion.outcome
    if (completion.run_id, completion.attempt) != (run.id, run.attempt):
        raise _refused(RunRule.REJECT_FOREIGN_COMPLETION, run, f"attempt {completion.attempt} {outcome.value}")
    if run.state is RunState.ENDED:
        if run.outcome is not outcome:
            raise _refused(RunRule.REJECT_SECOND_COMPLETION, run, outcome.value)
        return run
    must_publish = run.kind is RunKind.SCORING and run.stages.get(Stage.PUBLISH, False)
    if outcome is Outcome.COMPLETED and must_publish and completion.outputs is None:
        raise _refused(RunRule.PROVE_SCORES, run, outcome.value)
    is_reported = run.completion is not None and run.completion.outcome is outcome
    return _become(
        run,
        RunState.ENDED,
        at,
        note=outcome.value,
        outcome=outcome,
        reason=reason if reason is not None else completion.reason,
        completion=run.completion if is_reported else completion,
        verdict=None,
        published_at=at if is_reported else run.published_at,
        finished_at=at,
        release_owed=release_owed,
    )


def is_news_of_the_end(run: Run, event: CompletionEvent) -> bool:
    """Return whether a notebook's report says which files are to blame for an end that we know without that."""
    is_same_end = run.state is RunState.ENDED and run.outcome is event.outcome
    is_its_own = (event.run_id, event.attempt, event.token) == (run.id, run.attempt, run.token)
    knows_none = run.completion is None or run.completion.refused is None
    return is_same_end and is_its_own and knows_none and event.refused is not None


def learn_of_refusals(run: Run, event: CompletionEvent, at: datetime) -> Run:
    """Return the ended run with its notebook's own event, which says more than ours, owing its good files a release."""
    if not is_news_of_the_end(run, event):
        return run
    return replace(run, completion=event, release_owed=True, updated_at=max(at, run.updated_at))


def mark_released(run: Run, attempt: int, at: datetime) -> Run:
    """Return the run whose good files are held again; that of another attempt changes nothing."""
    if not run.release_owed or run.attempt != attempt:
        return run
    return replace(run, release_owed=False, updated_at=max(at, run.updated_at))


def mark_published(run: Run, at: datetime) -> Run:
    """Return the run whose completion event the topic has taken."""
    if run.state is not RunState.ENDED:
        raise _refused(RunRule.END_BEFORE_PUBLISHING, run, "published")
    return run if run.published_at is not None else replace(run, published_at=at, updated_at=max(at, run.updated_at))


def mark_stalled(run: Run, event: StalledEvent, at: datetime) -> Run:
    """Return the run past its SLA, the event in the outbox in the same write; it stays open until Databricks ends it.

    The first event of an attempt stays; one of an attempt that is over, or of a run that has ended, changes nothing.
    """
    if run.stall is not None or run.state is RunState.ENDED or (event.run_id, event.attempt) != (run.id, run.attempt):
        return run
    return replace(run, stall=event, updated_at=max(at, run.updated_at))


def mark_stall_published(run: Run, event: StalledEvent, at: datetime) -> Run:
    """Return the run whose stalled event the topic has taken; that of another attempt changes nothing."""
    if run.stall != event or run.stall_published_at is not None:
        return run
    return replace(run, stall_published_at=at, updated_at=max(at, run.updated_at))


def want_cancel(run: Run, at: datetime, *, by: str) -> Run:
    """Return the run whose current attempt is to end before its time; one that has ended stays as it is."""
    if run.is_cancel_wanted or run.state is RunState.ENDED:
        return run
    at = max(at, run.updated_at)
    history = (*run.history, Change(state=run.state.value, at=at, note=f"to be cancelled, asked for by {by}"))
    return replace(run, cancel_wanted_at=at, updated_at=at, history=history[-CHANGES_KEPT:])


def begin_repair(run: Run, at: datetime, *, after: int, latest_repair: int, reason: str) -> Run:
    """Return the run decided again under the next attempt, which repairs the Databricks run of the one that ended.

    Args:
        run: The run as the ledger has it.
        at: Now.
        after: The attempt that the caller saw end; if the run is past it already, nothing changes.
        latest_repair: The id of the Databricks run's latest repair, 0 if there is none: a later one will be ours.
        reason: Why it is repaired.
    """
    if run.attempt > after:
        return run
    if run.state is not RunState.ENDED or run.databricks_run_id is None:
        raise _refused(RunRule.REPAIR_WHAT_RAN, run, f"attempt {run.attempt + 1}, a repair")
    begun = begin_next_attempt(run, at, after=after, reason=reason)
    return replace(
        begun,
        databricks_run_id=run.databricks_run_id,
        run_page_url=run.run_page_url,
        repair_after=latest_repair,
    )


def begin_next_attempt(run: Run, at: datetime, *, after: int, reason: str) -> Run:
    """Return the run decided again under the next attempt, with a token still to come.

    Args:
        run: The run as the ledger has it.
        at: Now.
        after: The attempt that the caller saw end; if the run is past it already, nothing changes.
        reason: Why it goes again.
    """
    if run.attempt > after:
        return run
    if run.state is RunState.DECIDED:
        raise _refused(RunRule.FOLLOW_THE_TABLE, run, f"attempt {run.attempt + 1}")
    if run.is_cancel_wanted and run.state is not RunState.ENDED:
        raise _refused(RunRule.CANCEL_IS_FINAL, run, f"attempt {run.attempt + 1}")
    if run.state is RunState.REPORTED:
        raise _refused(RunRule.REPORT_THEN_END, run, f"attempt {run.attempt + 1}")
    if run.owes_stall:
        raise _refused(RunRule.PUBLISH_BEFORE_RETRY, run, f"attempt {run.attempt + 1}")
    if run.state is RunState.ENDED:
        if run.outcome is Outcome.COMPLETED:
            raise _refused(RunRule.REJECT_RETRY_OF_SUCCESS, run, f"attempt {run.attempt + 1}; {ASK_ANEW}")
        if run.published_at is None:
            raise _refused(RunRule.PUBLISH_BEFORE_RETRY, run, f"attempt {run.attempt + 1}")
        if run.release_owed:
            raise _refused(RunRule.RELEASE_BEFORE_RETRY, run, f"attempt {run.attempt + 1}")
    over = Attempt(
        number=run.attempt,
        token=run.token,
        databricks_run_id=run.databricks_run_id,
        outcome=run.outcome,
        reason=run.reason if run.reason is not None else reason,
        ended_at=run.finished_at or at,
    )
    return _become(
        run,
        RunState.DECIDED,
        at,
        note=f"attempt {run.attempt + 1}: {reason}",
        attempt=run.attempt + 1,
        attempts=(*_with_short_reasons(run.attempts), over),
        token=None,
        databricks_run_id=None,
        run_page_url="",
        outcome=None,
        reason=reason,
        completion=None,
        verdict=None,
        published_at=None,
        stall=None,
        stall_published_at=None,
        cancel_wanted_at=None,
        repair_after=None,
        submitted_at=None,
        finished_at=None,
    )


def _become(run: Run, state: RunState, at: datetime, *, note: str, **changes: object) -> Run:
    if state not in RUN_TRANSITIONS[run.state]:
        raise _refused(RunRule.FOLLOW_THE_TABLE, run, state.value)
    at = max(at, run.updated_at)  # a clock that jumps back does not reorder the history
    history = (*run.history, Change(state=state.value, at=at, note=note))[-CHANGES_KEPT:]
    # Whatever put it back before is over with the step.
    return replace(run, state=state, updated_at=at, history=history, setback=None, **changes)  # type: ignore[arg-type] # fields of Run, by name


def _refused(rule: RunRule, run: Run, wanted: str) -> IllegalTransitionError:
    current = f"{run.state.value} (attempt {run.attempt}, outcome {run.outcome.value if run.outcome else 'none yet'})"
    return IllegalTransitionError(rule, run.id, current, wanted)


def _with_short_reasons(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """Return the attempts with all but the latest reasons shortened: a row holds a mebibyte, also of many attempts."""
    early = len(attempts) - _REASONS_IN_FULL
    return tuple(
        replace(attempt, reason=shortened(attempt.reason, _SHORT_REASON, max_bytes=6 * _SHORT_REASON))
        if index < early
        else attempt
        for index, attempt in enumerate(attempts)
    )
