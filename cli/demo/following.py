"""Follows a run from its decision to its completion event, telling each change."""

import time

from cli.demo.context import Demo, DemoFailedError, until
from cli.wording import counted
from functions.core.ledger import Run
from functions.core.ledger_rows import model_version_of
from functions.core.model import Outcome, PipelineKey, RunId, RunKind, RunState

__all__ = ["find_run_of_arrival", "follow", "require_outcome", "runs_of"]

_EVERY_LOG = ("functions_host", "workspace")
_DELIVERY_S = 20.0
_POLL_S = 0.25


def find_run_of_arrival(demo: Demo, container: str, path: str, etag: str, *, timeout_s: float = 30.0) -> RunId:
    """Return the run to which the ledger assigned one version of one blob."""

    def assigned() -> RunId | None:
        for entry in demo.ledger.rows.arrivals_of_path(demo.blobs.account_name or "", container, path):
            if entry.value.blob.etag == etag and entry.value.run_id is not None:
                return entry.value.run_id
        return None

    return until(assigned, what=f"a run for {path}", timeout_s=timeout_s, logs=("functions_host", "event_grid"))


def follow(demo: Demo, run_id: RunId, *, timeout_s: float) -> Run:
    """Return the run once it has ended and its completion event has reached the subscriber.

    Raises:
        DemoFailedError: It did not end, or nobody was told.
    """
    deadline = time.monotonic() + timeout_s
    told: tuple[RunState, int] | None = None
    with demo.console.status(f"waiting for {run_id}"):
        while True:
            run = demo.ledger.run(run_id)
            if run is not None and told != (run.state, run.attempt):
                told = (run.state, run.attempt)
                demo.say(_line(run))
            if run is not None and run.is_story_over:
                break
            if time.monotonic() > deadline:
                state = run.state.value if run is not None else "unknown to the ledger"
                raise DemoFailedError(
                    f"run {run_id} did not end within {timeout_s:.0f} s: it is {state}", logs=_EVERY_LOG
                )
            time.sleep(_POLL_S)
    event_id = run.completion.id if run.completion is not None else ""
    until(
        lambda: demo.subscriber.completion(event_id),
        what=f"completion event {event_id} at the subscriber",
        timeout_s=_DELIVERY_S,
        logs=("event_grid", "functions_host"),
    )
    demo.runs.append(run)
    demo.good(f"the subscriber received completion event {event_id}")
    return run


def require_outcome(demo: Demo, run: Run, wanted: Outcome) -> None:
    """Fail unless the run ended as it should.

    Raises:
        DemoFailedError: It did not; with the notebook's own error.
    """
    if run.outcome is wanted:
        return
    outcome = run.outcome.value if run.outcome is not None else run.state.value
    raise DemoFailedError(
        f"run {run.id} ended as {outcome}, not as {wanted.value}: {run.reason}",
        logs=_EVERY_LOG,
        detail=_notebook_error(demo, run),
    )


def runs_of(demo: Demo, pipeline: PipelineKey) -> set[RunId]:
    """Return the ids of a pipeline's runs."""
    return {run.id for run in demo.ledger.runs(pipeline=pipeline, limit=1000)}


def _line(run: Run) -> str:
    attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
    match run.state:
        case RunState.DECIDED:
            return f"run [bold]{run.id}[/bold] is decided{attempt}: {counted(run.file_count, 'file')}, manifest written"
        case RunState.SUBMITTING:
            return f"its token is persisted{attempt}, then sent"
        case RunState.SUBMITTED:
            return f"Databricks run {run.databricks_run_id} was started{attempt}"
        case RunState.REPORTED:
            return "the notebook has announced its end"
        case RunState.ENDED:
            outcome = run.outcome.value if run.outcome is not None else ""
            seconds = (run.finished_at - run.created_at).total_seconds() if run.finished_at is not None else 0.0
            made = f", model version {model_version_of(run)}" if run.kind is RunKind.TRAINING else ""
            return f"the run ended: {outcome} after {seconds:.0f} s{made}"


def _notebook_error(demo: Demo, run: Run) -> str:
    """Return the error of the run's notebook, as the workspace keeps it."""
    if run.databricks_run_id is None:
        return ""
    whole = demo.workspace.jobs.get_run(run.databricks_run_id)
    for task in whole.tasks or []:
        output = demo.workspace.jobs.get_run_output(task.run_id or run.databricks_run_id)
        if output.error or output.error_trace:
            return f"{output.error or ''}\n{output.error_trace or ''}"[-4000:]
    return ""
