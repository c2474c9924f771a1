"""Says where a sweep looks, which blobs it looks up, and where it goes on the next time."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from functions.core.pipelines import Pipelines
from functions.core.reading import parse_utc, to_iso

__all__ = ["Place", "Sweep", "places_of", "places_within"]

_CLOCKS_DIFFER_BY: Final = timedelta(minutes=5)
_EVERYTHING_EVERY: Final = timedelta(hours=24)  # a rename may keep the time of a file's last change


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A part of storage in which some route wants blobs."""

    container: str
    prefix: str

    def __str__(self) -> str:
        return f"{self.container}/{self.prefix}"


def places_of(pipelines: Pipelines) -> tuple[Place, ...]:
    """Return the places of all routes, each part of storage once."""
    found = _places(pipelines)
    return tuple(place for place in sorted(found, key=str) if not any(_contains(other, place) for other in found))


def places_within(outer: Place, pipelines: Pipelines) -> tuple[Place, ...]:
    """Return the places of routes that lie within another one."""
    return tuple(place for place in sorted(_places(pipelines), key=str) if _contains(outer, place))


def _places(pipelines: Pipelines) -> set[Place]:
    return {
        Place(container=route.container, prefix=route.prefix)
        for pipeline in pipelines.pipelines
        for route in pipeline.routes
    }


def _contains(outer: Place, place: Place) -> bool:
    is_other = outer.container == place.container and outer.prefix != place.prefix
    return is_other and place.prefix.startswith(outer.prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Where the sweep of one place stands: rounds through its listing, each over many passes.

    What was there before the place was first swept is not looked for: to deploy a sweep is not to score the past,
    for which there is the backfill.
    """

    since: datetime  # older blobs are the backfill's
    round_began_at: datetime
    looks_from: datetime  # this round looks up what was changed since then
    everything_at: datetime  # when a round last looked up everything from `since` on
    looked_at: datetime  # the latest pass
    continuation: str | None = None  # where this round goes on; None: at its beginning

    @classmethod
    def first(cls, now: datetime, grace: timedelta) -> "Sweep":
        """Return the sweep of a place that was never swept."""
        since = now - grace
        return cls(since=since, round_began_at=now, looks_from=since, everything_at=now, looked_at=now)

    def must_look_up(self, modified_at: datetime, now: datetime, grace: timedelta) -> bool:
        """Return whether a blob may lack its arrival: it is no news any more, and no earlier round looked it up."""
        return self.looks_from <= modified_at <= now - grace

    def go_on(self, now: datetime) -> "Sweep":
        """Return the sweep as a pass takes it up; at the beginning of its listing, the round begins now."""
        return self if self.continuation is not None else replace(self, round_began_at=now)

    def turn_page(self, continuation: str | None, now: datetime, grace: timedelta) -> "Sweep":
        """Return the sweep after a page; after the last one, a new round begins."""
        if continuation is not None:
            return replace(self, continuation=continuation, looked_at=now)
        is_everything_due = now - self.everything_at >= _EVERYTHING_EVERY
        return replace(
            self,
            continuation=None,
            looked_at=now,
            looks_from=self.since if is_everything_due else self._unseen_from(grace),
            everything_at=now if is_everything_due else self.everything_at,
        )

    def is_continued_by(self, outer: "Sweep", grace: timedelta) -> bool:
        """Return whether the sweep of a place around this one looks up whatever this one has not."""
        return self.continuation is None and outer.since <= self._unseen_from(grace)

    def _unseen_from(self, grace: timedelta) -> datetime:
        """Return since when blobs were changed that the round has not looked up: they were too young for it."""
        return max(self.since, self.round_began_at - grace - _CLOCKS_DIFFER_BY)

    def begin_again(self, now: datetime) -> "Sweep":
        """Return the sweep at the beginning of its round, because its continuation is lost."""
        return replace(self, continuation=None, looked_at=now)

    def to_bookmark(self) -> dict[str, str]:
        """Return what the ledger remembers."""
        times = {name: to_iso(getattr(self, name)) for name in _TIMES}
        return times | ({} if self.continuation is None else {"continuation": self.continuation})

    @classmethod
    def from_bookmark(cls, values: dict[str, str]) -> "Sweep | None":
        """Return the sweep that the ledger remembers; None: nothing that can be read."""
        times = {name: time for name in _TIMES if (time := parse_utc(values.get(name, ""))) is not None}
        if len(times) < len(_TIMES):
            return None
        return cls(**times, continuation=values.get("continuation"))


_TIMES: Final = ("since", "round_began_at", "looks_from", "everything_at", "looked_at")
