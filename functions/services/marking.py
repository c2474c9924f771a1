"""Marks the arrivals of a run with what its end means for them."""

from functions.core.completion import CompletionEvent
from functions.core.errors import InvalidDocumentError, NotFoundError
from functions.core.ledger import Arrival, Run
from functions.core.manifest import InputManifest
from functions.core.model import ArrivalState, BlobVersion, RunState
from functions.core.splitting import is_split, mark_arrival, refused_arrivals
from functions.services.changes import CHANGED_AT_ONCE, change_arrivals
from functions.services.plane import ControlPlane

__all__ = ["arrivals_of", "is_any_scored", "is_run_open", "mark_arrivals", "read_manifest_of"]


def mark_arrivals(
    plane: ControlPlane,
    run: Run,
    event: CompletionEvent,
    manifest: InputManifest | None,
    *,
    only_taken_back: bool = False,
) -> bool:
    """Mark the run's arrivals; return whether some of them are not to blame for its failure and go on without it.

    Those are left as they are: they are this run's until its end is written.
    """
    if run.arrival_count == 0:
        return False
    blobs = arrivals_of(plane, run, manifest)
    refused = refused_arrivals(event, blobs)
    pipeline = plane.pipelines.by_key.get(run.pipeline)
    policy = None if pipeline is None else pipeline.concurrency.policy
    goes_on = not only_taken_back and is_split(run, event, refused, policy=policy)
    now = plane.clock.now()

    def mark(arrival: Arrival) -> Arrival:
        if only_taken_back and not arrival.is_taken_back:
            return arrival  # a person has replayed it: whoever claimed it begins the next attempt
        return mark_arrival(arrival, run, event, refused, is_split=goes_on, at=now)

    change_arrivals(plane.ledger, blobs, mark)
    return goes_on


def is_any_scored(plane: ControlPlane, run: Run, manifest: InputManifest | None) -> bool:
    """Return whether a worker has begun to mark the run's arrivals as scored; it marks the first of them first."""
    first = arrivals_of(plane, run, manifest)[:CHANGED_AT_ONCE] if run.arrival_count else []
    found = plane.ledger.get_arrivals(first) if first else []
    return any(
        entry is not None and (entry.value.state, entry.value.run_id) == (ArrivalState.SCORED, run.id)
        for entry in found
    )


def is_run_open(plane: ControlPlane, arrival: Arrival) -> bool:
    """Return whether the run that gave a failed arrival up is open: its end is written last, a next attempt first."""
    if arrival.state is not ArrivalState.FAILED or arrival.run_id is None:
        return False
    run = plane.ledger.get_run(arrival.run_id)  # none: retention has removed it
    return run is not None and run.value.state is not RunState.ENDED


def arrivals_of(plane: ControlPlane, run: Run, manifest: InputManifest | None) -> list[BlobVersion]:
    """Return the versions that arrivals brought into the run's batch; without its manifest, from the index by time."""
    if manifest is None:
        return list(plane.ledger.arrivals_of_run(run))
    return [file.blob for file in manifest.files if file.arrival_id is not None]


def read_manifest_of(plane: ControlPlane, run: Run) -> InputManifest | None:
    """Return the run's manifest, or None if it has none or lost it: its story must end all the same."""
    try:
        return None if run.manifest is None else plane.manifests.read(run.manifest)
    except (NotFoundError, InvalidDocumentError):
        return None
