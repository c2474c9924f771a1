"""Changes ledger entries by compare-and-set, reading again when someone else was first."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from functions.core.errors import LedgerConflictError, UnknownRunError
from functions.core.ledger import Arrival, Run
from functions.core.model import BlobVersion, RunId
from functions.ports import Entry, RunLedger

__all__ = ["change_arrivals", "change_run", "read_run"]

_TRIES: Final = 6
CHANGED_AT_ONCE: Final = 500


def read_run(ledger: RunLedger, run_id: RunId) -> Entry[Run]:
    """Return the run's entry; raises UnknownRunError."""
    entry = ledger.get_run(run_id)
    if entry is None:
        raise UnknownRunError(run_id)
    return entry


def change_run(ledger: RunLedger, entry: Entry[Run], change: Callable[[Run], Run]) -> Entry[Run]:
    """Return the entry after `change`, a transition of the core, which is applied to whatever the ledger has by then.

    A transition that was made already returns the same run, so nothing is written twice; one that is not allowed
    any more raises IllegalTransitionError.
    """
    for _ in range(_TRIES):
        changed = change(entry.value)
        if changed == entry.value:
            return entry
        try:
            return ledger.update_run(entry, changed)
        except LedgerConflictError:
            entry = read_run(ledger, entry.value.id)
    raise LedgerConflictError(f"run {entry.value.id!r}", "it kept changing")


def change_arrivals(ledger: RunLedger, blobs: Iterable[BlobVersion], change: Callable[[Arrival], Arrival]) -> None:
    """Apply `change` to the arrivals of these blobs; an arrival for which it returns the same one is left alone."""
    waiting = list(blobs)
    for start in range(0, len(waiting), CHANGED_AT_ONCE):
        left: Sequence[BlobVersion] = waiting[start : start + CHANGED_AT_ONCE]
        for _ in range(_TRIES):
            entries = [entry for entry in ledger.get_arrivals(left) if entry is not None]
            changes = [(entry, changed) for entry in entries if (changed := change(entry.value)) != entry.value]
            written = ledger.update_arrivals(changes)
            left = [changed.blob for (_, changed), entry in zip(changes, written, strict=True) if entry is None]
            if not left:
                break
        else:
            raise LedgerConflictError(f"{len(left)} arrivals", "they kept changing")
