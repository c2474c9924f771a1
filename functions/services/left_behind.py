"""Remembers which pipelines there were, and finds those that are gone while arrivals are still held for them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from functions.core.ledger import Arrival
from functions.core.model import ArrivalState, PipelineKey
from functions.core.reading import to_iso
from functions.ports import HeldArrival, RunLedger
from functions.services.looking import is_announced
from functions.services.plane import ControlPlane

__all__ = ["LeftBehind", "find_left_behind", "forget_what_went_on", "pipelines_that_were", "remember_pipelines"]

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
    for pipeline, indexed in _indexed(plane):
        alive = [item.entry.value.event_time for item, is_held in indexed if is_held]
        if alive:
            found.append(LeftBehind(pipeline=pipeline, count=len(alive), oldest=min(alive)))
    return tuple(found)


def forget_what_went_on(plane: ControlPlane) -> None:
    """Remove the index rows that a crash has left of arrivals that went on: no look at their pipeline will."""
    for _, indexed in _indexed(plane):
        over = [item for item, is_held in indexed if not is_held]
        plane.ledger.forget_held([item for item in over if not is_announced(plane, item)])


def _indexed(plane: ControlPlane) -> Iterator[tuple[PipelineKey, list[tuple[HeldArrival, bool]]]]:
    """Yield a part of the index of each pipeline that is gone, and whether each arrival in it is held for it still."""
    for pipeline in sorted(pipelines_that_were(plane.ledger) - set(plane.pipelines.by_key)):
        held = plane.ledger.held_arrivals(pipeline, limit=_COUNTED)
        entries = plane.ledger.get_arrivals([item.entry.value.blob for item in held])
        yield (
            pipeline,
            [
                (item, entry is not None and _is_held(entry.value, pipeline))
                for item, entry in zip(held, entries, strict=True)
            ],
        )


def _is_held(arrival: Arrival, pipeline: PipelineKey) -> bool:
    return arrival.pipeline == pipeline and arrival.state in {ArrivalState.HELD, ArrivalState.ASSIGNED}


def pipelines_that_were(ledger: RunLedger) -> set[PipelineKey]:
    """Return every pipeline that was configured once, as the reconciler has seen them."""
    return {PipelineKey(key) for key in ledger.bookmark(_BOOKMARK).get("keys", "").split()}
