"""Finds blobs that no event announced, and makes them arrivals as if one had.

A pass looks through some pages of the places that routes read, and remembers in the ledger where it stopped; so it
needs the memory of a page, ends in time, and goes on in another process. Repeating a page finds the arrivals that
were made of it, because their identity is the ETag.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from functions.core.errors import ContinuationLostError, MlopsError
from functions.core.ledger import Arrival
from functions.core.model import ArrivalSource, ArrivalState
from functions.core.sweeping import Place, Sweep, places_of, places_within
from functions.ports import StoredBlob
from functions.services.arrive import arrive_without_event
from functions.services.plane import ControlPlane

__all__ = ["Bounds", "sweep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much a pass may do; it stops after the page in which one of them is reached."""

    page: int = 500
    listed: int = 100_000
    looked_up: int = 2_000
    found: int = 1_000
    takes: timedelta = timedelta(seconds=60)


_BOUNDS: Final = Bounds()


def sweep(plane: ControlPlane, *, grace: timedelta, bounds: Bounds = _BOUNDS) -> Counter[str]:
    """Look through the next part of the routes' places, and return what was listed, looked up and found.

    Args:
        plane: The control plane.
        grace: How old a blob must be before its lack of an arrival is no mere delay.
        bounds: How much this pass may do.
    """
    counts: Counter[str] = Counter()
    with plane.telemetry.span("sweep") as span:
        began = plane.clock.now()
        sweeps: list[tuple[Place, Sweep]] = []
        for place in places_of(plane.pipelines):
            try:
                state = _sweep_of(plane, place, grace)
                sweeps += [(place, state), *_unfinished_within(plane, place, state, grace)]
            except MlopsError as error:
                counts[type(error).__name__] += 1
        for place, state in sorted(sweeps, key=lambda item: (item[1].looked_at, str(item[0]))):
            if _is_spent(counts, bounds) or plane.clock.now() - began >= bounds.takes:
                counts["places_left"] += 1
                continue
            try:
                _sweep_place(plane, place, state, grace, bounds, counts)
            except MlopsError as error:  # one place that cannot be listed keeps no other waiting
                counts[type(error).__name__] += 1
        span.set(**dict(counts))
    return counts


def _sweep_of(plane: ControlPlane, place: Place, grace: timedelta) -> Sweep:
    """Return where the sweep of a place stands; its beginning is remembered before anything is made of it.

    Else a first pass that died half-way through an arrival would leave it to a later beginning, for which it is past.
    """
    remembered = Sweep.from_bookmark(dict(plane.ledger.bookmark(f"sweep.{place}")))
    if remembered is not None:
        return remembered
    first = Sweep.first(plane.clock.now(), grace)
    _remember(plane, place, first)
    return first


def _unfinished_within(
    plane: ControlPlane, place: Place, state: Sweep, grace: timedelta
) -> Iterator[tuple[Place, Sweep]]:
    """Yield the sweeps of places that a new route has come to contain, until they know nothing that its sweep misses.

    That one begins when it is first taken up: what an event had not announced before is still theirs.
    """
    for inner in places_within(place, plane.pipelines):
        remembered = Sweep.from_bookmark(dict(plane.ledger.bookmark(f"sweep.{inner}")))
        if remembered is not None and not remembered.is_continued_by(state, grace):
            yield inner, remembered


def _sweep_place(
    plane: ControlPlane, place: Place, state: Sweep, grace: timedelta, bounds: Bounds, counts: Counter[str]
) -> None:
    """Look through pages of one place until its round ends or the pass may do no more."""
    began = plane.clock.now()
    state = state.go_on(began)
    while True:
        try:
            page = plane.inputs.list_page(
                place.container, place.prefix, continuation=state.continuation, limit=bounds.page
            )
        except ContinuationLostError:
            counts["begun_again"] += 1
            _remember(plane, place, state.begin_again(plane.clock.now()))
            return
        for blob in page.blobs:
            counts["listed"] += 1
            if state.must_look_up(blob.modified_at, plane.clock.now(), grace):
                _look_up(plane, blob, counts)
        state = state.turn_page(page.continuation, plane.clock.now(), grace)
        _remember(plane, place, state)  # after the page: a crash before this line looks at it again
        if page.continuation is None:
            counts["rounds"] += 1
            return
        if _is_spent(counts, bounds) or plane.clock.now() - began >= bounds.takes:
            return


def _look_up(plane: ControlPlane, blob: StoredBlob, counts: Counter[str]) -> None:
    """Make the blob an arrival if some pipeline wants it and the ledger does not know this version of it."""
    if plane.retention is not None and blob.modified_at < plane.clock.now() - plane.retention:
        counts["older_than_kept"] += 1  # the ledger may have known of it, and forgotten
        return
    counts["looked_up"] += 1
    known = plane.ledger.get_arrival(blob.version)
    if known is not None and not _may_be_half_recorded(known.value):
        return
    with plane.telemetry.span("swept", etag=blob.version.etag) as span:
        arrived = arrive_without_event(plane, blob, span.traceparent)
        if arrived is None:
            span.set(outcome="nothing wants it")
            return
        counts["found"] += int(arrived.is_new)
        span.set(arrival_id=arrived.arrival.id, pipeline=arrived.arrival.pipeline, outcome=arrived.what)


def _may_be_half_recorded(arrival: Arrival) -> bool:
    """Return whether an earlier pass may have died before the arrival was in the index; no message repeats a sweep."""
    return arrival.source is ArrivalSource.SWEEP and arrival.state in {ArrivalState.HELD, ArrivalState.SEAL}


def _remember(plane: ControlPlane, place: Place, state: Sweep) -> None:
    plane.ledger.set_bookmark(f"sweep.{place}", state.to_bookmark())


def _is_spent(counts: Counter[str], bounds: Bounds) -> bool:
    return (
        counts["listed"] >= bounds.listed or counts["looked_up"] >= bounds.looked_up or counts["found"] >= bounds.found
    )
