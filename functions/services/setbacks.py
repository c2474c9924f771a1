"""Keeps in a run's row why it could not be sent yet, for those who look at it.

It is a hint. It is written after the work was put back, so that it delays nothing; a write that is lost is made up for
by the next one, and a step of the run removes it without a write of its own. Whoever reads a row that is a moment old
finds an error that is over only for as long as that.
"""

from contextlib import suppress
from dataclasses import replace
from typing import Final

from functions.core.errors import LedgerConflictError, LedgerThrottledError, LedgerUnavailableError, MlopsError
from functions.core.ledger import Run
from functions.core.model import RunState
from functions.core.setback import setback_of
from functions.ports import Entry
from functions.services.plane import ControlPlane

__all__ = ["forget_setback", "note_setback"]

_UNSENT: Final = frozenset({RunState.DECIDED, RunState.SUBMITTING})
# A rival, or what could hardly be written: hints would double the calls of which the ledger has had too many.
_NOT_OF_THE_RUN: Final = (LedgerConflictError, LedgerThrottledError, LedgerUnavailableError)


def note_setback(plane: ControlPlane, run: Run, error: MlopsError, *, tries: int, wait_s: float) -> None:
    """Write why the run was put back, if that is news; never raises what the ledger may have to say.

    Args:
        plane: The control plane.
        run: The run as it was when it was tried.
        error: Why it could not be sent.
        tries: How often whoever tried it has done so.
        wait_s: When it is tried again.
    """
    if run.state not in _UNSENT or isinstance(error, _NOT_OF_THE_RUN):
        return
    now = plane.clock.now()
    # A storm of refusals ends here: what the row said before this try is enough to know that it need not be read.
    if not setback_of(error, run.setback, at=now, tries=tries, wait_s=wait_s).is_news_after(run.setback):
        return
    with suppress(MlopsError):
        entry = plane.ledger.get_run(run.id)  # the try has changed it, or a rival has sent it meanwhile
        if entry is None or entry.value.attempt != run.attempt or entry.value.state not in _UNSENT:
            return
        setback = setback_of(error, entry.value.setback, at=now, tries=tries, wait_s=wait_s)
        if setback.is_news_after(entry.value.setback):
            plane.ledger.update_run(entry, replace(entry.value, setback=setback))


def forget_setback(plane: ControlPlane, entry: Entry[Run]) -> None:
    """Remove what put a decided run back, if it waits now for nothing but its turn; lost if the run has moved on."""
    if entry.value.state is RunState.DECIDED and entry.value.setback is not None:
        with suppress(MlopsError):
            plane.ledger.update_run(entry, replace(entry.value, setback=None))
