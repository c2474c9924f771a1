"""Publishes what a run's row still owes to the topic: that its attempt is stalled, and how it ended."""

from functions.core.announcements import Announcement
from functions.core.ledger import Run
from functions.core.model import RunState
from functions.core.run_transitions import mark_published, mark_stall_published
from functions.ports import Entry
from functions.services.changes import change_run
from functions.services.plane import ControlPlane

__all__ = ["publish_outbox"]


def publish_outbox(plane: ControlPlane, entry: Entry[Run]) -> Entry[Run]:
    """Publish the events that the topic does not have yet, in the order in which they came about.

    A crash after publishing publishes again: the ids are the same, so subscribers see each event once.
    """
    run = entry.value
    owed: list[Announcement] = []
    if run.stall is not None and run.owes_stall:
        owed.append(run.stall)
    owes_end = run.state is RunState.ENDED and run.completion is not None and run.published_at is None
    if owes_end and run.completion is not None:
        owed.append(run.completion)
    if not owed:
        return entry
    plane.publisher.publish(owed)

    def settle(current: Run) -> Run:
        if current.attempt != run.attempt:
            return current
        now = plane.clock.now()
        if run.stall is not None:
            current = mark_stall_published(current, run.stall, now)
        return mark_published(current, now) if owes_end else current

    return change_run(plane.ledger, entry, settle)
