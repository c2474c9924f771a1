"""Ends a run before its time, on a person's word, wherever it stands.

The wish is written down first, so that whoever handles the run next sees it: what was not sent is not sent any
more, and what was sent is cancelled at Databricks as soon as its id is known. An attempt that has a seat may have
been sent or not; sending its token once more is the only way to learn which run it names, and that run is cancelled
at once. An attempt without a seat was never sent, and ends when whoever had read it before the wish has had time for
one.
"""

from functions.core.access import Actor
from functions.core.errors import TransientError
from functions.core.model import Outcome, RunId, RunState
from functions.core.run_transitions import want_cancel
from functions.services.acted import Acted
from functions.services.changes import change_run, read_run
from functions.services.decided_runs import queue_run
from functions.services.plane import ControlPlane, Wait
from functions.services.putting_back import MENDED_BY_A_PERSON
from functions.services.submission import advance_run

__all__ = ["cancel_run"]


def cancel_run(plane: ControlPlane, run_id: RunId, actor: Actor) -> Acted:
    """Have the run's current attempt end as cancelled; repeating this changes nothing more.

    A run that completes before Databricks has heard of it has completed: its scores are there, and are announced.

    Raises:
        UnknownRunError: There is no such run.
    """
    entry = read_run(plane.ledger, run_id)
    if entry.value.state is RunState.ENDED:
        return Acted(did_not=(_has_ended(entry.value.outcome),))
    was_wanted = entry.value.is_cancel_wanted
    entry = change_run(plane.ledger, entry, lambda run: want_cancel(run, plane.clock.now(), by=str(actor)))
    if entry.value.state is RunState.ENDED:  # a rival was faster
        return Acted(did_not=(_has_ended(entry.value.outcome),))
    # A crash before the next line: the reconciler looks at every open run that is to be cancelled.
    queue_run(plane, entry.value)
    noted = () if was_wanted else ("noted that it is to be cancelled",)
    already = ("noted nothing: it was to be cancelled already",) if was_wanted else ()
    try:
        progress = advance_run(plane, entry)
    except (TransientError, *MENDED_BY_A_PERSON) as error:
        return Acted(did=noted, did_not=(*already, f"could not reach Databricks yet, which is tried again: {error}"))
    run = read_run(plane.ledger, run_id).value
    if run.state is RunState.ENDED:
        is_late = run.outcome is not Outcome.CANCELLED
        late = (f"cancelled it not: it was {run.outcome} before Databricks heard of it",) if is_late else ()
        return Acted(did=noted if is_late else (*noted, f"ended it as {run.outcome}"), did_not=(*already, *late))
    # A repair that is still to be sent has the id of the run that it repairs, of which nobody has asked anything.
    if run.databricks_run_id is None or run.state in {RunState.DECIDED, RunState.SUBMITTING}:
        why = progress.why if isinstance(progress, Wait) else "another worker is sending it"
        return Acted(did=noted, did_not=(*already, f"ended it not yet: {why}"))
    return Acted(did=(*noted, f"asked Databricks to cancel run {run.databricks_run_id}"), did_not=already)


def _has_ended(outcome: object) -> str:
    return f"cancelled nothing: it has ended already as {outcome}"
