"""Announces attempts that are open for longer than their pipeline's SLA, each once."""

from functions.core.alerts import AlertKind
from functions.core.endings import announce_stall, is_stalled
from functions.core.ledger import Run
from functions.core.model import PipelineKey
from functions.core.pipelines import DEFAULT_STALLED_AFTER_MINUTES
from functions.core.run_transitions import mark_stalled
from functions.ports import Entry
from functions.services.alerting import raise_alert
from functions.services.changes import change_run, read_run
from functions.services.outbox import publish_outbox
from functions.services.plane import ControlPlane

__all__ = ["announce_if_stalled", "stalled_after_minutes"]


def stalled_after_minutes(plane: ControlPlane, pipeline: PipelineKey) -> int:
    """Return the pipeline's SLA; one that was removed meanwhile has the usual one."""
    known = plane.pipelines.by_key.get(pipeline)
    return DEFAULT_STALLED_AFTER_MINUTES if known is None else known.stalled_after_minutes


def announce_if_stalled(plane: ControlPlane, run: Run) -> bool:
    """Announce the run's current attempt if it is past its SLA; return whether it is.

    The event goes into the run's row by one compare-and-set, so that of rivals one writes it, and to the topic from
    there: a crash after publishing publishes the same event again. The run is read anew, because whoever calls this
    has just tried to take it further.
    """
    after = stalled_after_minutes(plane, run.pipeline)
    if not is_stalled(run, now=plane.clock.now(), after_minutes=after):
        return False
    entry = read_run(plane.ledger, run.id)
    if entry.value.owes_stall:
        publish_outbox(plane, entry)
        return True
    if entry.value.stall is not None or not is_stalled(entry.value, now=plane.clock.now(), after_minutes=after):
        return entry.value.stall is not None
    event = announce_stall(entry.value, now=plane.clock.now(), after_minutes=after)
    detail = f"{entry.value.state.value} since {event.since.isoformat()}, longer than {after} minutes"
    raise_alert(plane, AlertKind.RUN_STALLED, entry.value, detail)
    marked: Entry[Run] = change_run(
        plane.ledger, entry, lambda current: mark_stalled(current, event, plane.clock.now())
    )
    publish_outbox(plane, marked)
    return True
