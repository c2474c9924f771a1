"""Reads the index of held arrivals, without the rows of those that are only about to be held."""

from collections.abc import Sequence

from functions.core.model import PipelineKey
from functions.ports import HeldArrival
from functions.services.plane import SLOWEST_WRITER, ControlPlane

__all__ = ["is_announced", "look_at_held"]


def look_at_held(
    plane: ControlPlane, pipeline: PipelineKey, *, limit: int, consignment: str | None = None
) -> Sequence[HeldArrival]:
    """Return the oldest held arrivals of the pipeline's index, or of one consignment's.

    Who holds an arrival again writes its index row first. That row is left alone for as long as its writer may live:
    it must outlive a crash after the arrival's own row. What a writer left that died before is removed.
    """
    found = plane.ledger.held_arrivals(pipeline, limit=limit, consignment=consignment)
    announced = [item for item in found if item.announced_at is not None]
    if not announced:
        return found
    plane.ledger.forget_held([item for item in announced if not is_announced(plane, item)])
    more = plane.ledger.held_arrivals(pipeline, limit=limit + len(announced), consignment=consignment)
    return [item for item in more if item.announced_at is None][:limit]


def is_announced(plane: ControlPlane, item: HeldArrival) -> bool:
    """Return whether whoever wrote the index row may be about to hold its arrival."""
    return item.announced_at is not None and abs(plane.clock.now() - item.announced_at) <= SLOWEST_WRITER
