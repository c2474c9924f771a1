"""Judges how an attempt of a run ended from all that is known of it, and words its completion event."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from functions.core.completion import CompletionEvent
from functions.core.databricks_states import RunStatus, Verdict
from functions.core.freezing import must_publish_scores, token_of, wanted_scores_of
from functions.core.ledger import Run
from functions.core.lineage import MAX_FILES, FileRef, InputsRef, ModelRef, OutputsRef
from functions.core.manifest import InputManifest
from functions.core.model import Outcome, RunState
from functions.core.scores import ScoresManifest, is_of_a_later_run, verify
from functions.core.stalled import StalledEvent

__all__ = ["End", "GoAgain", "Judgement", "KeepWaiting", "announce", "announce_stall", "is_stalled", "judge", "say"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepWaiting:
    """Databricks may still change it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoAgain:
    """The attempt is over without having done its work, and the next one may: nothing is announced."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The run has ended; this is its completion event."""

    event: CompletionEvent


Judgement = KeepWaiting | GoAgain | End


def judge(
    run: Run,
    status: RunStatus,
    scores: ScoresManifest | None,
    *,
    now: datetime,
    manifest: InputManifest | None = None,
) -> Judgement:
    """Return what has become of the current attempt; success only if it is proven.

    Args:
        run: The run, with what its notebook reported, if it did.
        status: What Databricks says.
        scores: The manifest beside the run's scores, or None; only looked at if scores were to be published.
        now: The time of the announcement.
        manifest: The run's input manifest, for the event's lineage.
    """
    verdict = status.verdict
    if verdict is Verdict.OPEN:
        return KeepWaiting()
    reported = run.completion
    is_unwanted = verdict.may_go_again and run.is_cancel_wanted
    if verdict.may_go_again and not is_unwanted and reported is None and run.attempt < run.max_attempts:
        return GoAgain(reason=say(status))
    if not verdict.is_claim:
        # What has not done its work and shall not go again has come to the end that someone asked for.
        outcome = Outcome.CANCELLED if is_unwanted else _OUTCOMES[verdict]
        return End(event=announce(run, outcome, say(status), now=now, manifest=manifest))
    doubts = [*_doubts(run, scores)]
    if doubts:
        doubt = "Databricks says that the run succeeded, but: " + "; ".join(doubts)
        return End(event=announce(run, Outcome.FAILED, doubt, now=now, manifest=manifest))
    if reported is not None:
        return End(event=reported)
    outputs = scores.outputs(run.output_url) if scores is not None and must_publish_scores(run) else None
    reason = say(status) if verdict is Verdict.DEGRADED else None
    return End(event=announce(run, Outcome.COMPLETED, reason, now=now, manifest=manifest, outputs=outputs))


def announce(
    run: Run,
    outcome: Outcome,
    reason: str | None,
    *,
    now: datetime,
    manifest: InputManifest | None = None,
    outputs: OutputsRef | None = None,
) -> CompletionEvent:
    """Return the completion event of the current attempt in our words.

    The notebook knows more; if it reported the same outcome, its own event is the one that counts.
    """
    reported = run.completion
    if reported is not None and reported.outcome is outcome:
        return reported
    inputs = None
    if run.manifest is not None:
        files = () if manifest is None else manifest.files[:MAX_FILES]
        inputs = InputsRef(
            manifest_url=run.manifest.url,
            manifest_sha256=run.manifest.sha256,
            batch_id=run.batch_id,
            file_count=run.file_count,
            files=tuple(FileRef(url=file.blob.url, etag=file.blob.etag) for file in files),
        )
    return CompletionEvent(
        run_id=run.id,
        attempt=run.attempt,
        outcome=outcome,
        reason=reason,
        pipeline=run.pipeline,
        kind=run.kind,
        environment=run.environment,
        token=token_of(run),
        databricks_run_id=run.databricks_run_id,
        time=now,
        announced_by="control_plane",
        model=ModelRef(name=run.model_name, version=run.model_version),
        inputs=inputs,
        outputs=outputs,
        consignment=run.consignment,
        replaces=run.replaces,
        traceparent=run.traceparent or "",
    )


def is_stalled(run: Run, *, now: datetime, after_minutes: int) -> bool:
    """Return whether the attempt has been open for longer than its pipeline's SLA, wherever it stands."""
    return run.state is not RunState.ENDED and now - run.began_at > timedelta(minutes=after_minutes)


def announce_stall(run: Run, *, now: datetime, after_minutes: int) -> StalledEvent:
    """Return the event that says that the current attempt is past its SLA."""
    return StalledEvent(
        run_id=run.id,
        attempt=run.attempt,
        pipeline=run.pipeline,
        kind=run.kind,
        environment=run.environment,
        state=run.state,
        since=run.began_at,
        stalled_after_minutes=after_minutes,
        databricks_run_id=run.databricks_run_id,
        run_page_url=run.run_page_url,
        time=now,
        traceparent=run.traceparent or "",
    )


_OUTCOMES = {
    Verdict.FAILED_TRANSIENT: Outcome.FAILED,
    Verdict.FAILED_PERMANENT: Outcome.FAILED,
    Verdict.TIMED_OUT: Outcome.TIMED_OUT,
    Verdict.CANCELLED: Outcome.CANCELLED,
    Verdict.NOT_RUN: Outcome.SKIPPED,
    Verdict.DISABLED: Outcome.SKIPPED,
    Verdict.UNKNOWN: Outcome.FAILED,
}


def _doubts(run: Run, scores: ScoresManifest | None) -> Iterator[str]:
    """Yield what speaks against the claim that the run did its work."""
    reported = run.completion
    if reported is not None and reported.outcome is not Outcome.COMPLETED:
        yield f"its notebook reported {reported.outcome.value}: {reported.reason or 'no reason given'}"
    if not must_publish_scores(run):
        return
    if scores is None:
        yield f"there is no manifest at {run.output_url}"
        return
    wanted = wanted_scores_of(run)
    yield from verify(scores, wanted)
    is_own = not is_of_a_later_run(scores, wanted)
    if is_own and reported is not None and reported.outputs not in {None, scores.outputs(run.output_url)}:
        yield "its notebook reported other outputs than the manifest has"


def say(status: RunStatus) -> str:
    """Return Databricks' states in its own spelling, with its message."""
    states = "/".join(part for part in (status.life_cycle_state, status.result_state, status.termination_code) if part)
    known = "unknown state " if status.verdict is Verdict.UNKNOWN else ""
    return f"Databricks says {known}{states or 'nothing'}" + (f": {status.message[:2000]}" if status.message else "")
