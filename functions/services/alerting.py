"""Raises alerts: into the telemetry, where rules match on them, and into the ledger, where health shows them."""

from functions.core.alerts import Alert, AlertKind
from functions.core.ledger import Run
from functions.services.plane import ControlPlane

__all__ = ["raise_alert"]


def raise_alert(plane: ControlPlane, kind: AlertKind, run: Run, detail: str) -> None:
    """Tell people about a run; after a crash between the two, telling them again is better than not at all."""
    now = plane.clock.now()
    alert = Alert(kind=kind, pipeline=run.pipeline, run_id=run.id, attempt=run.attempt, at=now, detail=detail)
    plane.telemetry.alert(
        kind.value,
        traceparent=run.traceparent,
        run_id=run.id,
        attempt=run.attempt,
        pipeline=run.pipeline,
        detail=detail[:1000],
    )
    plane.ledger.record_alert(alert)
