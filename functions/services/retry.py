"""Begins another attempt of a run that did not complete, on a person's word."""

from functions.core.access import Actor
from functions.core.ledger import Run
from functions.core.model import Outcome, RunId, RunState
from functions.core.run_transitions import begin_next_attempt
from functions.services.acted import Acted
from functions.services.changes import change_run, read_run
from functions.services.decided_runs import queue_run
from functions.services.freeing import free_the_others
from functions.services.outbox import publish_outbox
from functions.services.plane import ControlPlane

__all__ = ["retry_run"]


def retry_run(plane: ControlPlane, run_id: RunId, actor: Actor, *, note: str | None = None) -> Acted:
    """Begin the next attempt; one that is under way already stays as it is, and is seen to be moving.

    `note` says in the run's history why, if it is more than that someone asked for it.

    Raises:
        UnknownRunError: There is no such run.
        IllegalTransitionError: It has completed, so there is nothing to do again.
    """
    entry = read_run(plane.ledger, run_id)
    if entry.value.state is not RunState.ENDED:
        queue_run(plane, entry.value)
        run = entry.value
        ends = ", and is being cancelled: ask again when it has ended" if run.is_cancel_wanted else ""
        return Acted(
            did=("had the dispatcher look at it",),
            did_not=(f"began no attempt: attempt {run.attempt} has not ended, it is {run.state.value}{ends}",),
        )
    # Seen to have ended: while its event is published, a rival may begin another.
    attempt = entry.value.attempt
    entry = free_the_others(plane, publish_outbox(plane, entry))
    is_rivals = False

    def begin(run: Run) -> Run:
        nonlocal is_rivals
        is_rivals = run.attempt > attempt
        return begin_next_attempt(run, plane.clock.now(), after=attempt, reason=note or f"asked for by {actor}")

    entry = change_run(plane.ledger, entry, begin)
    # A crash before this line: the reconciler finds the run in the index of open ones.
    if entry.value.outcome is not Outcome.COMPLETED:
        queue_run(plane, entry.value)
    if is_rivals:
        return Acted(did_not=(f"began no attempt: attempt {attempt + 1} was begun meanwhile",))
    return Acted(did=(f"began attempt {entry.value.attempt}",))
