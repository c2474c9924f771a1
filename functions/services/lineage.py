"""Follows a blob to the runs that read it, or back to the run that wrote it."""

from collections.abc import Sequence
from typing import Final

from functions.core.errors import InvalidDocumentError, NotFoundError
from functions.core.ledger import Arrival, Run
from functions.core.ledger_rows import arrival_to_public_json, run_to_public_json
from functions.core.listing import RunFilter, parse_blob_place, runs_named_by
from functions.core.manifest import ManifestFile
from functions.core.model import RunId
from functions.services.listing import find_run, list_runs
from functions.services.plane import ControlPlane
from functions.services.waiting import Waiting

__all__ = ["show_lineage"]

_RUNS_SEARCHED: Final = 5000


def show_lineage(plane: ControlPlane, place: tuple[str, str, str]) -> dict[str, object]:
    """Return arrivals, runs, inputs, scores and events around a blob (account, container, path), or scores' folder.

    The runs that the blob's own arrivals name are read by their keys. The others are looked for among the 5000 newest
    of the last year; of those, a manifest is read only where the run's row has not the arrival of every file, as with
    training data, files of a request, and batches of more than 200 files.

    Raises:
        NotFoundError: Nothing is known of it.
    """
    place = (*place[:2], place[2].rstrip("/"))
    arrivals = [entry.value for entry in plane.ledger.arrivals_of_path(*place)]
    listed = list_runs(
        plane.ledger,
        plane.pipelines,
        RunFilter(),
        pipeline=None,
        since=None,
        limit=_RUNS_SEARCHED,
        now=plane.clock.now(),
    )
    made_by = [run for run in listed if _is_output(run, place)]
    used_by = _runs_that_read(plane, place, arrivals, listed, others={run.id for run in made_by})
    if not arrivals and not made_by and not used_by:
        raise NotFoundError(
            "following a blob",
            f"nothing is known of it: no event announced it, and none of the {_RUNS_SEARCHED} newest runs of the last "
            "year read or wrote it; if a pipeline should have had it, look for its event with `tidegate dead-letters`, "
            "or hand it over with `tidegate backfill`",
        )
    waiting = Waiting(plane)
    arrivals.sort(key=lambda arrival: arrival.recorded_at)
    return {
        "arrivals": [arrival_to_public_json(arrival, waits=waiting.of_arrival(arrival)) for arrival in arrivals],
        "runs": [_shown(plane, run, waiting) for run in used_by],
        "made_by": [_shown(plane, run, waiting) for run in made_by],
    }


def _is_output(run: Run, place: tuple[str, str, str]) -> bool:
    output = parse_blob_place(run.output_url)
    if output is None or output[:2] != place[:2]:  # a training run has none
        return False
    return place[2] == output[2] or place[2].startswith(f"{output[2]}/")


def _runs_that_read(
    plane: ControlPlane,
    place: tuple[str, str, str],
    arrivals: Sequence[Arrival],
    listed: Sequence[Run],
    *,
    others: set[RunId],
) -> list[Run]:
    """Return the runs that read any version of the blob, the newest first."""
    ids = {arrival.id for arrival in arrivals}
    named = {*runs_named_by(arrivals), *(arrival.run_id for arrival in arrivals if arrival.run_id is not None)}

    def is_reader(run: Run) -> bool:
        return run.id in named or not ids.isdisjoint(run.arrivals) or _is_listed(plane, place, run)

    found = [run for run in listed if run.id not in others and is_reader(run)]
    older = (find_run(plane.ledger, run_id) for run_id in named - {run.id for run in listed})
    found += [run for run in older if run is not None]
    return sorted(found, key=lambda run: (run.cause.at, run.id), reverse=True)


def _is_listed(plane: ControlPlane, place: tuple[str, str, str], run: Run) -> bool:
    """Return whether the run's manifest lists the blob; not asked if the row has the arrival of every file."""
    if run.file_count == len(run.arrivals):
        return False
    return any((file.blob.account, file.blob.container, file.blob.path) == place for file in _inputs(plane, run))


def _inputs(plane: ControlPlane, run: Run) -> Sequence[ManifestFile]:
    """Return every file that the run reads, from its manifest; none if that is gone or not what it was."""
    try:
        return () if run.manifest is None else plane.manifests.read(run.manifest).files
    except (NotFoundError, InvalidDocumentError):
        return ()


def _shown(plane: ControlPlane, run: Run, waiting: Waiting) -> dict[str, object]:
    model = None if run.completion is None else run.completion.model
    outputs = None if run.completion is None else run.completion.outputs
    return {
        **run_to_public_json(run, waits=waiting.of_run(run), setback=waiting.setback_of(run)),
        "model": run.model_name,
        "mlflow_run_id": None if model is None else model.mlflow_run_id,
        "rows_scored": None if outputs is None else outputs.rows_scored,
        "inputs": [
            {"url": file.blob.url, "etag": file.blob.etag, "arrival_id": file.arrival_id}
            for file in _inputs(plane, run)
        ],
    }
