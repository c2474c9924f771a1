"""Finds out what a decision depends on: the model that the alias names, and whether a run may start now."""

from dataclasses import replace

from functions.core.decided import Situation
from functions.core.ledger import Run
from functions.core.model import BlobVersion, RunId, RunKind, RunState
from functions.core.pipelines import ConcurrencyPolicy, Pipeline
from functions.core.reasons import HoldReason
from functions.ports import Entry
from functions.services.plane import ControlPlane
from functions.services.turnstile import look_at_turnstile, refusal_of

__all__ = ["active_runs", "bare_situation", "count_waiting_runs", "situation_of", "situation_of_batch"]

_ACTIVE = frozenset({RunState.SUBMITTING, RunState.SUBMITTED, RunState.REPORTED})
_UNSENT = frozenset({RunState.DECIDED, RunState.SUBMITTING})
_WAITING_POLICIES = frozenset({ConcurrencyPolicy.PARALLEL, ConcurrencyPolicy.QUEUE})


def bare_situation(plane: ControlPlane, known_versions: tuple[BlobVersion, ...] = ()) -> Situation:
    """Return the situation of an event that starts nothing by itself; asks nobody."""
    return Situation(environment=plane.environment, account=plane.account, known_versions=known_versions)


def situation_of(plane: ControlPlane, pipeline: Pipeline) -> Situation:
    """Return the situation in which a run of the pipeline would be decided now."""
    model_version = None
    if pipeline.kind is RunKind.SCORING:
        model_version = plane.models.resolve(pipeline.model_name, pipeline.alias)
    is_waiting = pipeline.concurrency.policy in _WAITING_POLICIES
    return Situation(
        environment=plane.environment,
        account=plane.account,
        model_version=model_version,
        active_runs=_count_ahead(plane, pipeline) if is_waiting else len(active_runs(plane, pipeline)),
    )


def situation_of_batch(plane: ControlPlane, pipeline: Pipeline) -> Situation:
    """Return the situation in which held arrivals become a run, or stay held because no run may start now.

    What is refused asks nothing else: in a storm each file comes here while its pipeline is full.
    """
    refusal = refusal_of(plane, pipeline.key)
    is_full = refusal is not None and refusal.reason is HoldReason.AT_CAPACITY
    if refusal is None or (is_full and pipeline.concurrency.policy not in _WAITING_POLICIES):
        return situation_of(plane, pipeline)  # if it is full, its policy says what becomes of new work
    return replace(bare_situation(plane), refusal=refusal)


def active_runs(plane: ControlPlane, pipeline: Pipeline, *, but: RunId | None = None) -> list[Entry[Run]]:
    """Return the pipeline's runs that Databricks has, or may have; the index bounds how many rows are read."""
    entries = (plane.ledger.get_run(run.run_id) for run in plane.ledger.open_runs(pipeline.key) if run.run_id != but)
    return [entry for entry in entries if entry is not None and entry.value.state in _ACTIVE]


def count_waiting_runs(plane: ControlPlane, pipeline: Pipeline, *, most: int, before: RunId | None = None) -> int:
    """Return how many of the pipeline's runs wait to be sent, counting no further than `most`.

    The index is in the order of the runs' causes, so `before` leaves out what came later. Rows are read only until
    enough are counted.
    """
    seated, count = {seat.run_id for seat in look_at_turnstile(plane).seats}, 0
    for run in plane.ledger.open_runs(pipeline.key):
        if count >= most or run.run_id == before:
            break
        if run.run_id not in seated and (entry := plane.ledger.get_run(run.run_id)) is not None:
            count += entry.value.state in _UNSENT
    return count


def _count_ahead(plane: ControlPlane, pipeline: Pipeline) -> int:
    """Return how many runs come before held arrivals: those that have a seat, and those that wait for one.

    Far below the capacity nobody waits for long, unless the pipeline has lately found no seat among all.
    """
    turnstile, capacity = look_at_turnstile(plane), pipeline.concurrency.capacity
    seated = turnstile.seated(pipeline.key)
    if capacity > 1 and seated < capacity / 2 and all(item.pipeline != pipeline.key for item in turnstile.queue):
        return seated
    return seated + count_waiting_runs(plane, pipeline, most=capacity - seated)
