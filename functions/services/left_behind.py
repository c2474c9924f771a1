"""Remembers which pipelines there were, and finds those that are gone while arrivals are still held for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from functions.core.model import ArrivalState, PipelineKey
from functions.core.reading import to_iso
from functions.ports import HeldArrival, RunLedger
from functions.services.plane import ControlPlane

__all__ = ["LeftBehind", "find_left_behind", "pipelines_that_were", "remember_pipelines"]

_BOOKMARK: Final = "pipelines"
_COUNTED: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftBehind:
    """Arrivals that are held for a pipeline which `pipelines.toml` does not have any more."""

    pipeline: PipelineKey
    count: int  # up to a hundred
    oldest: datetime  # when the first of them happened

    def __str__(self) -> str:
        count = f"{self.count} or more" if self.count >= _COUNTED else str(self.count)
        return (
            f"{count} arrival(s) since {to_iso(self.oldest)} are held for {self.pipeline!r}, which is not configured; "
            "they go on when it is back, or when they are replayed for another pipeline"
        )


def remember_pipelines(plane: ControlPlane) -> None:
    """Remember the pipelines that are configured now, beside those that were; one read, and a write if one is new."""
    known = pipelines_that_were(plane.ledger)
    wanted = known | set(plane.pipelines.by_key)
    if wanted != known:
        # Of two writers at once one may lose its news; it finds that out in its next pass.
        plane.ledger.set_bookmark(_BOOKMARK, {"keys": " ".join(sorted(wanted))})


def find_left_behind(plane: ControlPlane) -> tuple[LeftBehind, ...]:
    """Return what is held for pipelines that are not configured any more; reads a bounded part of their indexes."""
    found: list[LeftBehind] = []
    for pipeline in sorted(pipelines_that_were(plane.ledger) - set(plane.pipelines.by_key)):
        held = _still_held(plane, plane.ledger.held_arrivals(pipeline, limit=_COUNTED))
        if held:
            oldest = min(item.entry.value.event_time for item in held)
            found.append(LeftBehind(pipeline=pipeline, count=len(held), oldest=oldest))
    return tuple(found)


def _still_held(plane: ControlPlane, held: Sequence[HeldArrival]) -> list[HeldArrival]:
    """Return what has not gone on since, and remove the index rows of what has: no look at the pipeline will."""
    entries = plane.ledger.get_arrivals([item.entry.value.blob for item in held])
    known = {item.key: entry.value for item, entry in zip(held, entries, strict=True) if entry is not None}
    alive = {
        key
        for key, arrival in known.items()
        if arrival.state in {ArrivalState.HELD, ArrivalState.ASSIGNED} and arrival.pipeline == held[0].pipeline
    }
    plane.ledger.forget_held([item for item in held if item.key not in alive])
    return [item for item in held if item.key in alive]


def pipelines_that_were(ledger: RunLedger) -> set[PipelineKey]:
    """Return every pipeline that was configured once, as the reconciler has seen them."""
    return {PipelineKey(key) for key in ledger.bookmark(_BOOKMARK).get("keys", "").split()}
