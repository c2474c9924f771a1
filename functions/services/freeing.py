"""Puts the good files of a run that failed because of others back for their pipeline's next batch.

The run's row owes it, as it owes its event to the topic: it is written with the end, and the run stays in the index
of open runs until it is done. Not before the end, because until then the run is alive, and nobody may have its files.
"""

from collections.abc import Mapping
from typing import Final

from functions.core.completion import CompletionEvent
from functions.core.errors import LedgerConflictError
from functions.core.ledger import Run
from functions.core.model import ArrivalId, BlobVersion
from functions.core.run_transitions import is_news_of_the_end, learn_of_refusals, mark_released
from functions.core.splitting import refused_arrivals, set_free
from functions.ports import Entry
from functions.services.changes import change_run
from functions.services.decided_runs import queue_run
from functions.services.marking import arrivals_of, mark_arrivals, read_manifest_of
from functions.services.plane import ControlPlane
from functions.services.waking import wake_dispatcher

__all__ = ["free_the_others", "learn_who_is_to_blame"]

_AT_ONCE: Final = 500
_TRIES: Final = 6


def learn_who_is_to_blame(plane: ControlPlane, entry: Entry[Run], event: CompletionEvent) -> Entry[Run]:
    """Have the good files of a run go on whose notebook named the bad ones after the run had ended for us.

    Databricks may be asked before the notebook's event has come through the topic, and then everything has failed.
    """
    run = entry.value
    if not is_news_of_the_end(run, event):
        return entry
    if not mark_arrivals(plane, run, event, read_manifest_of(plane, run)):
        return entry
    # A crash before this line: the event is delivered again. After it: the run is in the index of open ones again.
    entry = change_run(plane.ledger, entry, lambda current: learn_of_refusals(current, event, plane.clock.now()))
    queue_run(plane, entry.value)
    return entry


def free_the_others(plane: ControlPlane, entry: Entry[Run]) -> Entry[Run]:
    """Hold some of what is owed again, and note it once nothing is; a repeat goes on where a crash or a bound ended it.

    The entry that is returned says whether anything is still owed.
    """
    run = entry.value
    if not run.release_owed or run.completion is None:
        return entry
    blobs = arrivals_of(plane, run, read_manifest_of(plane, run))
    refused = refused_arrivals(run.completion, blobs)
    room = _AT_ONCE
    for start in range(0, len(blobs), _AT_ONCE):
        some = blobs[start : start + _AT_ONCE]
        for blob, found in zip(some, plane.ledger.get_arrivals(some), strict=True):
            if found is None or set_free(found.value, run, refused, at=plane.clock.now()) == found.value:
                continue
            if room == 0:
                return entry
            room -= 1
            _free(plane, run, blob, refused)
    if run.pipeline in plane.pipelines.by_key:
        wake_dispatcher(plane, run.pipeline, after_s=0, traceparent=run.traceparent)
    return change_run(plane.ledger, entry, lambda current: mark_released(current, run.attempt, plane.clock.now()))


def _free(plane: ControlPlane, run: Run, blob: BlobVersion, refused: Mapping[ArrivalId, str]) -> None:
    for _ in range(_TRIES):
        entry = plane.ledger.get_arrival(blob)
        if entry is None:
            return
        freed = set_free(entry.value, run, refused, at=plane.clock.now())
        if freed == entry.value:
            return  # a rival was first
        try:
            plane.ledger.update_arrival(entry, freed)
        except LedgerConflictError:
            continue
        return
    raise LedgerConflictError(f"arrival {blob.path!r}", "it kept changing")
