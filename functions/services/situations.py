"""Finds out what a decision depends on: the model that the alias names, and how many runs are active."""

from datetime import timedelta
from typing import Final

from functions.core.decided import Situation
from functions.core.ledger import Run
from functions.core.model import BlobVersion, RunId, RunKind, RunState
from functions.core.pipelines import ConcurrencyPolicy, Pipeline
from functions.ports import Entry
from functions.services.plane import ControlPlane

__all__ = ["active_runs", "bare_situation", "situation_of"]

_COUNT_IS_FRESH: Final = timedelta(seconds=5)
_ACTIVE: Final = frozenset({RunState.SUBMITTING, RunState.SUBMITTED, RunState.REPORTED})


def bare_situation(plane: ControlPlane, known_versions: tuple[BlobVersion, ...] = ()) -> Situation:
    """Return the situation of an event that starts nothing by itself; asks nobody."""
    return Situation(environment=plane.environment, account=plane.account, known_versions=known_versions)


def situation_of(plane: ControlPlane, pipeline: Pipeline) -> Situation:
    """Return the situation in which a run of the pipeline would be decided now."""
    model_version = None
    if pipeline.kind is RunKind.SCORING:
        model_version = plane.models.resolve(pipeline.model_name, pipeline.alias)
    return Situation(
        environment=plane.environment,
        account=plane.account,
        model_version=model_version,
        active_runs=_count_active(plane, pipeline),
    )


def active_runs(plane: ControlPlane, pipeline: Pipeline, *, but: RunId | None = None) -> list[Entry[Run]]:
    """Return the pipeline's runs that Databricks has, or may have; the index bounds how many rows are read."""
    entries = (plane.ledger.get_run(run.run_id) for run in plane.ledger.open_runs(pipeline.key) if run.run_id != but)
    return [entry for entry in entries if entry is not None and entry.value.state in _ACTIVE]


def _count_active(plane: ControlPlane, pipeline: Pipeline) -> int:
    """Return how many runs are active: exactly where that decides, else an upper bound from the index alone.

    Far below the capacity, a count of a few seconds ago plus what this process has started since is near enough.
    Two dispatchers that count at the same time may both go; the job's own limit and queue are the hard one.
    """
    if pipeline.concurrency.policy not in {ConcurrencyPolicy.PARALLEL, ConcurrencyPolicy.QUEUE}:
        return len(active_runs(plane, pipeline))
    now, capacity = plane.clock.now(), pipeline.concurrency.capacity
    at, count = plane.counted.get(pipeline.key, (now, capacity))
    if not timedelta(0) <= now - at < _COUNT_IS_FRESH or count >= capacity / 2:
        at, count = now, sum(1 for _ in plane.ledger.open_runs(pipeline.key))
    plane.counted[pipeline.key] = (at, count + 1)
    return count if count < capacity else len(active_runs(plane, pipeline))
