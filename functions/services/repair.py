"""Has the failed tasks of a run's Databricks run done again, as the run's next attempt."""

from functions.core.access import Actor
from functions.core.errors import IllegalTransitionError, NotFoundError
from functions.core.ledger import Run, RunRule
from functions.core.model import Outcome, RunId, RunState
from functions.core.run_transitions import ASK_ANEW, begin_repair
from functions.services.acted import Acted
from functions.services.changes import change_run, read_run
from functions.services.decided_runs import queue_run
from functions.services.freeing import free_the_others
from functions.services.outbox import publish_outbox
from functions.services.plane import ControlPlane

__all__ = ["repair_run"]


def repair_run(plane: ControlPlane, run_id: RunId, actor: Actor) -> Acted:
    """Begin an attempt that repairs the Databricks run of the one that ended: same run, same files, same model.

    Tasks that succeeded are not done again; the attempt has a number and a token of its own, so that its completion
    event is its own too.

    Raises:
        UnknownRunError: There is no such run.
        IllegalTransitionError: It has completed, has not ended, or Databricks never ran it or forgot it.
    """
    entry = read_run(plane.ledger, run_id)
    run = entry.value
    if run.state is not RunState.ENDED and run.repair_after is not None:
        queue_run(plane, run)
        return Acted(
            did=("had the dispatcher look at it",),
            did_not=(f"began no repair: attempt {run.attempt} is one, and open",),
        )
    if run.state is not RunState.ENDED or run.databricks_run_id is None:
        current = f"{run.state.value}, Databricks run {run.databricks_run_id or 'none'}"
        instead = "retry it instead" if run.state is RunState.ENDED else "wait until it has ended, or cancel it"
        raise IllegalTransitionError(RunRule.REPAIR_WHAT_RAN, run.id, current, f"repaired; {instead}")
    if run.outcome is Outcome.COMPLETED:
        raise IllegalTransitionError(RunRule.REJECT_RETRY_OF_SUCCESS, run.id, "completed", f"repaired; {ASK_ANEW}")
    try:
        latest = plane.submitter.latest_repair(run.databricks_run_id)
    except NotFoundError as error:
        raise IllegalTransitionError(
            RunRule.REPAIR_WHAT_RAN, run.id, f"unknown to Databricks ({error})", "repaired; retry it instead"
        ) from error
    entry = free_the_others(plane, publish_outbox(plane, entry))
    is_rivals = False

    def begin(current: Run) -> Run:
        nonlocal is_rivals
        is_rivals = current.attempt > run.attempt  # begun while the event of the attempt that ended was published
        return begin_repair(
            current,
            plane.clock.now(),
            after=run.attempt,
            latest_repair=latest,
            reason=f"repair of Databricks run {run.databricks_run_id}, asked for by {actor}",
        )

    entry = change_run(plane.ledger, entry, begin)
    # A crash before this line: the reconciler finds the run in the index of open ones.
    queue_run(plane, entry.value)
    if is_rivals:
        return Acted(did_not=(f"began no repair: attempt {run.attempt + 1} was begun meanwhile",))
    return Acted(did=(f"began attempt {entry.value.attempt}, a repair of Databricks run {run.databricks_run_id}",))
