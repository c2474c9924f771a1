"""Turns ledger entries into the JSON that the command line prints."""

from datetime import datetime
from typing import Any

from functions.core.ledger import Arrival, Run
from functions.core.model import Outcome, RunKind, RunState
from functions.core.reading import to_iso

__all__ = ["arrival_document", "model_version_of", "run_document", "scores_url_of"]


def run_document(run: Run) -> dict[str, Any]:
    """Return one run as `tidegate runs --json` prints it."""
    return {
        "id": run.id,
        "pipeline": run.pipeline,
        "kind": run.kind.value,
        "state": run.state.value,
        "outcome": run.outcome.value if run.outcome is not None else None,
        "attempt": run.attempt,
        "token": run.token,
        "databricks_run_id": run.databricks_run_id,
        "model_version": model_version_of(run),
        "arrivals": list(run.arrivals),
        "scores_url": scores_url_of(run),
        "completion_event_id": run.completion.id if run.completion is not None else None,
        "created_at": to_iso(run.created_at),
        "finished_at": _instant(run.finished_at),
    }


def model_version_of(run: Run) -> str | None:
    """Return the version that a scoring run uses, or that a training run made."""
    if run.model_version:
        return run.model_version
    model = run.completion.model if run.completion is not None else None
    return model.version if model is not None else None


def scores_url_of(run: Run) -> str | None:
    """Return where a run's scores are, None as long as they are not proven."""
    is_proven = run.kind is RunKind.SCORING and run.state is RunState.ENDED and run.outcome is Outcome.COMPLETED
    return run.output_url if is_proven else None


def arrival_document(arrival: Arrival) -> dict[str, Any]:
    """Return one arrival: what came, and what became of it."""
    return {
        "id": arrival.id,
        "url": arrival.blob.url,
        "etag": arrival.blob.etag,
        "size_bytes": arrival.blob.size_bytes,
        "state": arrival.state.value,
        "reason": arrival.reason,
        "pipeline": arrival.pipeline,
        "route": arrival.route or None,
        "run_id": arrival.run_id,
        "event_id": arrival.event_id,
        "event_time": to_iso(arrival.event_time),
        "recorded_at": to_iso(arrival.recorded_at),
        "deliveries": arrival.deliveries,
        "source": arrival.source.value,
        "consignment": arrival.consignment or None,
        "contradictions": list(arrival.contradictions),
    }


def _instant(value: datetime | None) -> str | None:
    return to_iso(value) if value is not None else None
