"""Says which files of a failed run are to blame, and lets the others go to their pipeline's next batch.

A file that nobody can read fails every file that happens to be in its batch. When the notebook names the files that
alone are to blame, only their arrivals fail. The others are held again, once an attempt, and only so often: a
producer who sends a bad file with every batch must not have the same good one read for ever.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from functions.core.completion import CompletionEvent
from functions.core.ledger import Arrival, Run
from functions.core.lineage import file_digest
from functions.core.model import ArrivalId, ArrivalState, BlobVersion, Outcome
from functions.core.pipelines import ConcurrencyPolicy
from functions.core.tokens import arrival_id_of

__all__ = ["MOST_RELEASES", "is_split", "mark_arrival", "refused_arrivals", "set_free"]

MOST_RELEASES: Final = 5
_REFUSED_TOO: Final = "refused, as one of"
_BECAUSE_OF_OTHERS: Final = "failed because of other files"


def refused_arrivals(event: CompletionEvent, blobs: Iterable[BlobVersion]) -> dict[ArrivalId, str]:
    """Return why each of these files is to blame for the failure, by arrival; what is not among them is nobody's.

    The notebook's report is a claim about files of its own batch, and no more.
    """
    if event.outcome is not Outcome.FAILED or event.refused is None:
        return {}
    why = f"{_REFUSED_TOO} {event.refused.file_count} files of its batch; replay it to be told why"
    reasons = dict.fromkeys(event.refused.others, why)
    reasons |= {file_digest(file.url, file.etag): file.reason for file in event.refused.files}
    found = {arrival_id_of(blob): reasons.get(file_digest(blob.url, blob.etag)) for blob in blobs}
    return {arrival_id: reason for arrival_id, reason in found.items() if reason is not None}


def is_split(
    run: Run, event: CompletionEvent, refused: Mapping[ArrivalId, str], *, policy: ConcurrencyPolicy | None
) -> bool:
    """Return whether the run's other files go on without those that are to blame.

    An event has room to name some of those, and counts them all: when that is every file, no other is left.

    A consignment is read whole or not at all. Where the newest run supersedes, older files that come back as a new
    run would cancel a newer one.
    """
    is_all = event.refused is not None and event.refused.file_count >= run.arrival_count
    is_mixed = 0 < len(refused) < run.arrival_count
    return is_mixed and not is_all and not run.consignment and policy is not ConcurrencyPolicy.SUPERSEDE


def mark_arrival(
    arrival: Arrival,
    run: Run,
    event: CompletionEvent,
    refused: Mapping[ArrivalId, str],
    *,
    is_split: bool,
    at: datetime,
) -> Arrival:
    """Return the arrival as the end of its run leaves it; one that is to go on is set free once that end is written."""
    if arrival.run_id != run.id or arrival.state not in {ArrivalState.ASSIGNED, ArrivalState.FAILED}:
        return arrival  # marked by an earlier repeat, or gone to another run on a person's word
    if event.outcome is Outcome.COMPLETED:
        # Failed is what a worker may say that has slept since an earlier attempt: this one has scored it.
        return arrival.mark_scored(run.id, at)
    reason = event.reason or event.outcome.value
    if arrival.id in refused:
        return arrival.blame(run.id, at, refused[arrival.id])
    if is_split:
        return arrival
    if refused and run.consignment:
        reason = f"its consignment failed as a whole: {reason}"
    return arrival.mark_failed(run.id, at, reason)


def set_free(arrival: Arrival, run: Run, refused: Mapping[ArrivalId, str], *, at: datetime) -> Arrival:
    """Return an arrival of a run that was split as its next batch finds it: held again, or failed once too often."""
    if arrival.run_id != run.id or arrival.state not in {ArrivalState.ASSIGNED, ArrivalState.FAILED}:
        return arrival
    note = f"{run.id}.{run.attempt} {_BECAUSE_OF_OTHERS}"
    if arrival.id in refused or any(change.note == note for change in arrival.history):
        return arrival  # to blame itself; or set free by a rival while we slept, and back since
    releases = sum(
        change.state == ArrivalState.HELD.value and change.note.endswith(_BECAUSE_OF_OTHERS)
        for change in arrival.history
    )
    if releases >= MOST_RELEASES:
        reason = f"{releases + 1} batches that it was in {_BECAUSE_OF_OTHERS}; replay it once they are mended"
        return arrival.mark_failed(run.id, at, reason)
    return arrival.release(run.id, at, note)
