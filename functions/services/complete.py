"""Takes in the topic's events: a notebook's report about its run, a monitor's signal, the echo of our own."""

from datetime import timedelta
from typing import Final

from functions.core.announcements import read_topic_event
from functions.core.completion import CompletionEvent
from functions.core.errors import IllegalTransitionError
from functions.core.held import HeldEvent
from functions.core.model import ModelSignal, RunState
from functions.core.run_transitions import record_report
from functions.core.stalled import StalledEvent
from functions.core.work import WorkItem, WorkKind
from functions.services.changes import change_run, read_run
from functions.services.freeing import learn_who_is_to_blame
from functions.services.plane import ControlPlane
from functions.services.signals import receive_signal

__all__ = ["complete"]

_CONFIRM_AFTER_S: Final = 1.0  # the report is the notebook's last act but one: Databricks needs a moment to see its end


def complete(plane: ControlPlane, message: str | bytes) -> str:
    """Record the event in a message; return what was done with it.

    A report is a claim. The run is REPORTED by it and ends when Databricks and the scores confirm it, which a work
    item asks for shortly; the reconciler is behind that.

    Raises:
        InvalidDocumentError: The message is no event of the completion topic; it goes to the poison queue.
        UnknownRunError: It names a run that is not in the ledger; likewise.
    """
    event = read_topic_event(message)
    if isinstance(event, StalledEvent):
        return "our own announcement of a stalled attempt, which the ledger has"
    if isinstance(event, ModelSignal):
        return receive_signal(plane, event).what
    if isinstance(event, HeldEvent):
        return "our own announcement of work that is held, which the ledger has"
    with plane.telemetry.span(
        "completion",
        traceparent=event.traceparent or None,
        run_id=event.run_id,
        attempt=event.attempt,
        outcome=event.outcome.value,
        announced_by=event.announced_by,
    ) as span:
        what = _record(plane, event)
        span.set(what=what)
    return what


def _record(plane: ControlPlane, event: CompletionEvent) -> str:
    if event.environment != plane.environment:
        return f"of environment {event.environment!r}, which is not this one"
    entry = read_run(plane.ledger, event.run_id)
    try:
        entry = change_run(
            plane.ledger, entry, lambda run: record_report(run, event, max(plane.clock.now(), run.updated_at))
        )
    except IllegalTransitionError as error:
        # A late report of an attempt that is over, or one that contradicts what was proven: it changes nothing.
        return f"ignored: {error}"
    entry = learn_who_is_to_blame(plane, entry, event)
    run = entry.value
    if run.release_owed:
        return "it names the files that are to blame; the others are held again"
    if run.state is not RunState.REPORTED:
        return f"the run is {run.state.value} already"
    # A crash before this line: the event is delivered again, and the repeated transition changes nothing.
    item = WorkItem(kind=WorkKind.ADVANCE_RUN, pipeline=run.pipeline, run_id=run.id, traceparent=run.traceparent)
    plane.queue.enqueue(item, delay=timedelta(seconds=_CONFIRM_AFTER_S))
    return "reported; Databricks is asked to confirm"
