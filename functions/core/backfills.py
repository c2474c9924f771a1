"""Plans a backfill and counts it on, page by page: what is listed, what of it is wanted, how fast it may go."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from functions.core.errors import IllegalTransitionError
from functions.core.ledger import CHANGES_KEPT, Change
from functions.core.model import PipelineKey, require_utc
from functions.core.pipelines import Pipeline
from functions.core.tokens import digest

__all__ = [
    "BACKFILL_TRANSITIONS",
    "Backfill",
    "BackfillState",
    "Counts",
    "backfill_id_of",
    "confirm",
    "count_page",
    "give_up",
    "go_on",
    "places_of",
    "start_over",
    "stop",
]


class BackfillState(StrEnum):
    """Where a backfill stands."""

    COUNTING = "counting"  # the dry run: it lists and changes nothing
    COUNTED = "counted"  # it waits for someone to confirm what it would do
    RUNNING = "running"  # it lists again, and records what is new
    DONE = "done"
    STOPPED = "stopped"  # on a person's word, or because it cannot go on; the same request goes on with it

    @property
    def is_active(self) -> bool:
        """Whether there is a next page to be looked at."""
        return self in {BackfillState.COUNTING, BackfillState.RUNNING}


BACKFILL_TRANSITIONS: Final[Mapping[BackfillState, frozenset[BackfillState]]] = {
    BackfillState.COUNTING: frozenset({BackfillState.COUNTED, BackfillState.RUNNING, BackfillState.STOPPED}),
    BackfillState.COUNTED: frozenset({BackfillState.RUNNING, BackfillState.STOPPED}),
    BackfillState.RUNNING: frozenset({BackfillState.DONE, BackfillState.STOPPED}),
    BackfillState.DONE: frozenset(),
    BackfillState.STOPPED: frozenset({BackfillState.COUNTING, BackfillState.COUNTED, BackfillState.RUNNING}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many blobs a pass has seen, and what they are to it; `seen` is the sum of the others."""

    outside: int = 0  # written before or after the time that is meant, or empty
    unwanted: int = 0  # no route of the pipeline wants them
    known: int = 0  # the ledger has this very version, and it is not to be taken again
    new: int = 0  # the ledger has not: to be recorded, or recorded
    again: int = 0  # ignored or failed before: to be held again, or held again

    @property
    def seen(self) -> int:
        """All blobs that were listed."""
        return self.outside + self.unwanted + self.known + self.new + self.again

    @property
    def acted(self) -> int:
        """Blobs that are, or would be, handed to the pipeline."""
        return self.new + self.again

    def plus(self, other: "Counts") -> "Counts":
        """Return the sums."""
        return Counts(**{item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """Existing blobs on their way through a pipeline, as far as the ledger knows."""

    id: str
    pipeline: PipelineKey
    prefix: str
    since: datetime
    until: datetime
    again: bool  # whether to take those again that were ignored or failed
    per_minute: int  # blobs handed to the pipeline
    places: tuple[tuple[str, str], ...]  # container and prefix of each listing
    state: BackfillState
    asked_by: str
    created_at: datetime
    updated_at: datetime
    is_confirmed: bool = False  # whether it goes on by itself when it is counted
    place: int = 0  # which listing is at hand
    continuation: str | None = None  # which page of it comes next; None: the first
    pages: int = 0  # of this pass
    counts: Counts = field(default_factory=Counts)  # of this pass
    plan: Counts | None = None  # what the dry run counted
    note: str = ""  # why it was stopped
    history: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        for name in ("since", "until", "created_at", "updated_at"):
            require_utc(getattr(self, name), name)
        if not self.places:
            raise ValueError("a backfill lists at least one place")

    @property
    def confirmation(self) -> str | None:
        """What a person repeats to say that they have seen the plan; None before there is one."""
        if self.plan is None:
            return None
        counted = (getattr(self.plan, item.name) for item in fields(self.plan))
        return digest("confirm", self.id, self.created_at.isoformat(), *counted)[:8]


def backfill_id_of(
    pipeline: PipelineKey, prefix: str, since: datetime | None, until: datetime | None, *, again: bool
) -> str:
    """Return the one backfill of these arguments: the same question goes on with the same answer."""
    times = (moment.isoformat() if moment is not None else "" for moment in (since, until))
    return digest("backfill", pipeline, prefix, *times, "again" if again else "new")[:16]


def places_of(pipeline: Pipeline, prefix: str) -> tuple[tuple[str, str], ...]:
    """Return what has to be listed: each route's place, as far as it lies under the prefix or contains it."""
    found: list[tuple[str, str]] = []
    for route in pipeline.routes:
        if route.prefix.startswith(prefix):
            place = (route.container, route.prefix)
        elif prefix.startswith(route.prefix):
            place = (route.container, prefix)
        else:
            continue
        if not any(place[0] == other[0] and place[1].startswith(other[1]) for other in found):
            found = [other for other in found if place[0] != other[0] or not other[1].startswith(place[1])]
            found.append(place)
    return tuple(found)


def count_page(backfill: Backfill, counts: Counts, continuation: str | None, at: datetime) -> Backfill:
    """Return the backfill past one page; after the last page of the last place its pass is over."""
    counted = replace(
        backfill,
        counts=backfill.counts.plus(counts),
        continuation=continuation,
        place=backfill.place if continuation is not None else backfill.place + 1,
        pages=backfill.pages + 1,
        updated_at=max(at, backfill.updated_at),
    )
    if counted.place < len(counted.places):
        return counted
    if backfill.state is BackfillState.RUNNING:
        return _become(counted, BackfillState.DONE, at, f"{counted.counts.acted} handed over")
    counted = _become(
        replace(counted, plan=counted.counts), BackfillState.COUNTED, at, f"{counted.counts.acted} to be handed over"
    )
    return _run(counted, at, f"confirmed by {counted.asked_by}") if counted.is_confirmed else counted


def confirm(backfill: Backfill, at: datetime, *, by: str) -> Backfill:
    """Return the backfill under way, on a person's word; one that is counting goes on when it is counted."""
    match backfill.state:
        case BackfillState.COUNTED:
            return _run(replace(backfill, is_confirmed=True), at, f"confirmed by {by}")
        case BackfillState.COUNTING:
            return replace(backfill, is_confirmed=True, updated_at=max(at, backfill.updated_at))
        case _:
            return backfill


def start_over(backfill: Backfill, at: datetime, why: str) -> Backfill:
    """Return the backfill at the first page of its pass: storage does not know the present one any more.

    What was recorded before is found as its own and counted as it was.
    """
    note = Change(state=backfill.state.value, at=max(at, backfill.updated_at), note=f"from the beginning: {why}")
    return replace(
        backfill,
        place=0,
        continuation=None,
        pages=0,
        counts=Counts(),
        updated_at=note.at,
        history=(*backfill.history, note)[-CHANGES_KEPT:],
    )


def stop(backfill: Backfill, at: datetime, *, by: str) -> Backfill:
    """Return the backfill stopped on a person's word; one that is over stays as it is."""
    if backfill.state in {BackfillState.STOPPED, BackfillState.DONE}:
        return backfill
    return _become(replace(backfill, note=f"stopped by {by}"), BackfillState.STOPPED, at, f"by {by}")


def give_up(backfill: Backfill, at: datetime, why: str) -> Backfill:
    """Return the backfill stopped because it cannot go on until someone has mended the reason."""
    return _become(replace(backfill, note=why), BackfillState.STOPPED, at, why)


def go_on(backfill: Backfill, at: datetime, *, by: str) -> Backfill:
    """Return a stopped backfill in the pass in which it was stopped, at the page that it had come to."""
    if backfill.state is not BackfillState.STOPPED:
        return backfill
    if backfill.plan is None:
        return _become(replace(backfill, note=""), BackfillState.COUNTING, at, f"goes on, asked for by {by}")
    if not backfill.is_confirmed:  # it was stopped while it waited for a word, and still waits for one
        return _become(replace(backfill, note=""), BackfillState.COUNTED, at, f"goes on, asked for by {by}")
    return _become(replace(backfill, note=""), BackfillState.RUNNING, at, f"goes on, asked for by {by}")


def _run(backfill: Backfill, at: datetime, why: str) -> Backfill:
    fresh = replace(backfill, is_confirmed=True, place=0, continuation=None, pages=0, counts=Counts())
    return _become(fresh, BackfillState.RUNNING, at, why)


def _become(backfill: Backfill, state: BackfillState, at: datetime, note: str) -> Backfill:
    if state not in BACKFILL_TRANSITIONS[backfill.state]:
        raise IllegalTransitionError("FollowTheTable", backfill.id, backfill.state.value, state.value)
    at = max(at, backfill.updated_at)
    history = (*backfill.history, Change(state=state.value, at=at, note=note))[-CHANGES_KEPT:]
    return replace(backfill, state=state, updated_at=at, history=history)
