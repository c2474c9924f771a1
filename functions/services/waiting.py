"""Says of a run or an arrival that waits whether it does so because its whole pipeline may start nothing."""

from dataclasses import dataclass, field

from functions.core.ledger import Arrival, Run
from functions.core.model import ArrivalState, PipelineKey, RunState
from functions.core.reasons import HoldReason
from functions.services.plane import ControlPlane
from functions.services.turnstile import is_kept_out, look_at_turnstile

__all__ = ["Waiting"]

_BEFORE_DATABRICKS = frozenset({RunState.DECIDED, RunState.SUBMITTING})


@dataclass(frozen=True, slots=True)
class Waiting:
    """What one question has found out: the turnstile is asked once a pipeline, however long the list is."""

    plane: ControlPlane
    known: dict[PipelineKey, HoldReason | None] = field(default_factory=dict[PipelineKey, HoldReason | None])

    def of_run(self, run: Run) -> str | None:
        """Return why nothing of its pipeline starts, for a run that waits to be sent and was not let through yet."""
        if run.state not in _BEFORE_DATABRICKS or run.databricks_run_id is not None:
            return None
        reason = self._reason(run.pipeline)
        has_seat = reason is not None and look_at_turnstile(self.plane).seat_of(run.id, run.attempt) is not None
        return None if reason is None or has_seat else reason.value

    def setback_of(self, run: Run) -> dict[str, object] | None:
        """Return why a run that is to be sent was put back, and when it is tried again at the latest."""
        if run.setback is None or run.state not in _BEFORE_DATABRICKS:
            return None
        return run.setback.to_public_json(self.plane.clock.now())

    def of_arrival(self, arrival: Arrival) -> str | None:
        """Return why nothing of its pipeline starts, for an arrival that is held."""
        if arrival.state is not ArrivalState.HELD or arrival.pipeline is None:
            return None
        reason = self._reason(arrival.pipeline)
        return None if reason is None else reason.value

    def _reason(self, pipeline: PipelineKey) -> HoldReason | None:
        if pipeline not in self.known:
            refusal = is_kept_out(self.plane, pipeline)
            self.known[pipeline] = None if refusal is None else refusal.reason
        return self.known[pipeline]
