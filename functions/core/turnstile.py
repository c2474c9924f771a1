"""Decides whether an attempt may be sent to Databricks now: the one place that every attempt passes, one at a time.

What is decided here holds for all workers together, because the turnstile is one row of the ledger, which changes by
compare-and-set only: who goes through is counted in the same write that lets them through.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Final

from functions.core.limits import Limits
from functions.core.model import PipelineKey, RunId, require_utc
from functions.core.reasons import HoldReason

__all__ = [
    "EVERY",
    "LONGEST_PATIENCE",
    "Allowance",
    "Barred",
    "Candidate",
    "Pause",
    "Queued",
    "Refusal",
    "Seat",
    "Turnstile",
]

EVERY: Final = PipelineKey("all")  # no pipeline may have this name
LONGEST_PATIENCE: Final = timedelta(hours=1)  # whoever asks for more is mistaken, or a clock is or was wrong

_LOOK_AGAIN_S: Final = 15.0  # at what frees up by itself, when a run ends
_LOOK_LATER_S: Final = 60.0  # at what a person or midnight changes
_QUEUED_FOR: Final = timedelta(seconds=120)  # then whoever queued up has other reasons to wait, or is gone
_STILL_THERE: Final = timedelta(seconds=45)
_BURST_S: Final = 2.0  # starts of so many seconds may be used up at once
_NO_TIME_S: Final = 0.001
_CLOCKS_DIFFER: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)
_MOST_LEAPS: Final = 3  # days whose counts are kept although another one is counted
_BARRED_FOR: Final = timedelta(days=1)
_MOST_BARRED: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A place among the runs that Databricks has, or may have: an attempt takes it before it is first sent."""

    run_id: RunId
    attempt: int
    pipeline: PipelineKey
    taken_at: datetime
    not_before: datetime | None = None  # Databricks refused the attempt, and asked not to be asked again before then

    def __post_init__(self) -> None:
        require_utc(self.taken_at, "taken_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A person's word that nothing of a pipeline, or of all, is to start."""

    pipeline: PipelineKey  # or EVERY
    by: str
    at: datetime
    reason: str = ""

    def __post_init__(self) -> None:
        require_utc(self.at, "at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """A person's word that a pipeline, or all together, may begin another number of runs on one day."""

    pipeline: PipelineKey  # or EVERY
    day: date
    runs: int
    by: str
    at: datetime

    def __post_init__(self) -> None:
        require_utc(self.at, "at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A pipeline that found no seat, and comes before those who did so later."""

    pipeline: PipelineKey
    since: datetime
    seen_at: datetime  # when it last asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Barred:
    """An attempt that was never sent and never will be, so that whoever is on the way to a seat for it finds none."""

    run_id: RunId
    attempt: int
    at: datetime
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Whose attempt wants to go through, and what `pipelines.toml` allows it."""

    pipeline: PipelineKey
    capacity: int | None  # None: the pipeline is not configured any more, so only the limits of all apply
    max_runs_per_day: int | None  # None: no limit of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why an attempt may not go now, and after how long asking again is worth it."""

    reason: HoldReason
    wait_s: float
    barred_because: str | None = None  # the attempt will never go; None: it waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Turnstile:
    """Who has a seat, how many went through today, who is kept out, and who waits."""

    seats: tuple[Seat, ...] = ()
    day: date | None = None  # the UTC day that `begun` counts; None before the first run
    begun: Mapping[PipelineKey, int] = field(default_factory=dict[PipelineKey, int])
    # What had begun on other days, the latest last, when a clock leapt from them by more than a day: it may leap back.
    leapt_from: tuple[tuple[date, Mapping[PipelineKey, int]], ...] = ()
    pauses: tuple[Pause, ...] = ()
    allowances: tuple[Allowance, ...] = ()
    told: Mapping[PipelineKey, date] = field(default_factory=dict[PipelineKey, date])  # of a day's spent budget
    queue: tuple[Queued, ...] = ()  # in the order in which they come
    barred: tuple[Barred, ...] = ()  # for longer than any worker lives
    next_start_at: datetime | None = None  # when the next start would be due if starts were evenly spread

    def seat_of(self, run_id: RunId, attempt: int) -> Seat | None:
        """Return the attempt's seat, or None."""
        return next((seat for seat in self.seats if (seat.run_id, seat.attempt) == (run_id, attempt)), None)

    def bar_of(self, run_id: RunId, attempt: int) -> Barred | None:
        """Return why the attempt is never to be sent, or None."""
        return next((item for item in self.barred if (item.run_id, item.attempt) == (run_id, attempt)), None)

    def seated(self, pipeline: PipelineKey) -> int:
        """Return how many seats the pipeline has."""
        return sum(seat.pipeline == pipeline for seat in self.seats)

    def pause_of(self, pipeline: PipelineKey) -> Pause | None:
        """Return what keeps the pipeline out: its own pause, or that of all, or None."""
        by_pipeline = {pause.pipeline: pause for pause in self.pauses}
        return by_pipeline.get(pipeline) or by_pipeline.get(EVERY)

    def day_at(self, now: datetime) -> date:
        """Return the UTC day that counts at this time: never one before a day that was counted, but for a wild clock.

        Workers' clocks differ: at midnight a slower one must not begin the old day again. A clock that was wrong by
        more than a day, however, must not keep a budget spent until that day comes.
        """
        today = now.date()
        return self.day if self.day is not None and today < self.day <= today + _DAY else today

    def begun_on(self, day: date, pipeline: PipelineKey) -> int:
        """Return how many runs the pipeline, or all together, began on a day that may be the counted one."""
        begun = self._begun_of(day)
        return sum(begun.values()) if pipeline == EVERY else begun.get(pipeline, 0)

    def budget_of(self, day: date, pipeline: PipelineKey, configured: int | None) -> int | None:
        """Return how many runs may begin on a day: what a person allowed for it, else what is configured."""
        allowed = (item.runs for item in self.allowances if (item.pipeline, item.day) == (pipeline, day))
        return next(allowed, configured)

    def keeps_out(self, candidate: Candidate, limits: Limits, now: datetime) -> Refusal | None:
        """Return why nothing of the pipeline may start, whatever frees up: it is paused, or a budget is spent."""
        if self.pause_of(candidate.pipeline) is not None:
            return Refusal(reason=HoldReason.PAUSED, wait_s=_LOOK_LATER_S)
        day = self.day_at(now)
        for pipeline, configured, reason in (
            (EVERY, limits.max_runs_per_day, HoldReason.TOTAL_BUDGET_SPENT),
            (candidate.pipeline, candidate.max_runs_per_day, HoldReason.BUDGET_SPENT),
        ):
            budget = self.budget_of(day, pipeline, configured)
            if budget is not None and self.begun_on(day, pipeline) >= budget:
                return Refusal(reason=reason, wait_s=_LOOK_LATER_S)
        return None

    def refuses(self, candidate: Candidate, limits: Limits, now: datetime) -> Refusal | None:
        """Return why an attempt of the pipeline would not get a seat now, or None if it would."""
        if (refusal := self.keeps_out(candidate, limits, now)) is not None:
            return refusal
        if candidate.capacity is not None and self.seated(candidate.pipeline) >= candidate.capacity:
            return Refusal(reason=HoldReason.AT_CAPACITY, wait_s=_LOOK_AGAIN_S)
        if self._ahead_of(candidate.pipeline, now) >= limits.max_in_flight - len(self.seats):
            return Refusal(reason=HoldReason.NO_SEAT, wait_s=_LOOK_AGAIN_S)
        slack_s = _BURST_S - 1 / limits.max_starts_per_second
        wait_s = (self._due_at(now) - now).total_seconds() - slack_s
        return Refusal(reason=HoldReason.START_RATE, wait_s=wait_s) if wait_s > _NO_TIME_S else None

    def admit(
        self, candidate: Candidate, limits: Limits, now: datetime, *, run_id: RunId, attempt: int
    ) -> "Turnstile | Refusal":
        """Return the turnstile with a seat for the attempt, which counts as a run of today; or why there is none.

        An attempt that has a seat keeps it, and is not counted again. An earlier attempt of the run gives its seat up.
        """
        if self.seat_of(run_id, attempt) is not None:
            return self
        if (barred := self.bar_of(run_id, attempt)) is not None:
            return Refusal(reason=HoldReason.AT_CAPACITY, wait_s=_LOOK_AGAIN_S, barred_because=barred.why)
        before = self.leave(run_id, attempt)
        if any(seat.run_id == run_id for seat in before.seats):  # of a later attempt: this one is over
            return Refusal(reason=HoldReason.AT_CAPACITY, wait_s=_LOOK_AGAIN_S)
        if (refusal := before.refuses(candidate, limits, now)) is not None:
            return refusal
        day = before.day_at(now)
        begun, leapt_from = dict(self._begun_of(day)), self._leaping_to(day)
        kept = {of for of, _ in leapt_from}
        begun[candidate.pipeline] = begun.get(candidate.pipeline, 0) + 1
        seat = Seat(run_id=run_id, attempt=attempt, pipeline=candidate.pipeline, taken_at=now)
        return replace(
            before,
            seats=(*before.seats, seat),
            day=day,
            begun=begun,
            leapt_from=leapt_from,
            allowances=tuple(item for item in before.allowances if item.day >= day or item.day in kept),
            told={pipeline: of for pipeline, of in before.told.items() if of >= day or of in kept},
            queue=tuple(item for item in before.queue if item.pipeline != candidate.pipeline),
            next_start_at=self._due_at(now) + timedelta(seconds=1 / limits.max_starts_per_second),
        )

    def leave(self, run_id: RunId, attempt: int) -> "Turnstile":
        """Return the turnstile without the seat of this attempt, or of an earlier one, of the run."""
        seats = tuple(seat for seat in self.seats if seat.run_id != run_id or seat.attempt > attempt)
        return self if len(seats) == len(self.seats) else replace(self, seats=seats)

    def bar(self, run_id: RunId, attempt: int, now: datetime, why: str) -> "Turnstile":
        """Return the turnstile at which the attempt never gets a seat; unchanged if it has one, or is barred already.

        Ending a run that was not sent needs this: a worker that read it before may be on the way to Databricks.
        """
        if self.seat_of(run_id, attempt) is not None or self.bar_of(run_id, attempt) is not None:
            return self
        recent = tuple(item for item in self.barred if abs(now - item.at) < _BARRED_FOR)[-_MOST_BARRED:]
        return replace(self, barred=(*recent, Barred(run_id=run_id, attempt=attempt, at=now, why=why)))

    def be_patient(self, run_id: RunId, attempt: int, until: datetime) -> "Turnstile":
        """Return the turnstile with the time before which the attempt, which has a seat, is not to be sent again.

        Whoever asks for the longest patience is right, unless it is a wrong clock that has written so late a time.
        """
        found = self.seat_of(run_id, attempt)
        if found is None or (found.not_before is not None and until <= found.not_before <= until + LONGEST_PATIENCE):
            return self
        seats = tuple(replace(seat, not_before=until) if seat is found else seat for seat in self.seats)
        return replace(self, seats=seats)

    def adopt(self, seats: tuple[Seat, ...]) -> "Turnstile":
        """Return the turnstile with seats for attempts that Databricks has, as the ledger shows, without having one."""
        missing = tuple(seat for seat in seats if self.seat_of(seat.run_id, seat.attempt) is None)
        return replace(self, seats=(*self.seats, *missing)) if missing else self

    def queue_up(self, pipeline: PipelineKey, now: datetime) -> "Turnstile":
        """Return the turnstile with the pipeline in the queue for a seat; where it stands, it stays."""
        found = next((item for item in self.queue if item.pipeline == pipeline), None)
        if found is not None and self._is_waiting(found, now):
            if abs(now - found.seen_at) < _STILL_THERE:
                return self
            queue = tuple(replace(item, seen_at=now) if item is found else item for item in self.queue)
            return replace(self, queue=queue)
        others = tuple(item for item in self.queue if item is not found and self._is_waiting(item, now))
        return replace(self, queue=(*others, Queued(pipeline=pipeline, since=now, seen_at=now)))

    def pause(self, pause: Pause) -> "Turnstile":
        """Return the turnstile with the pause; the first one of a pipeline stays."""
        if any(item.pipeline == pause.pipeline for item in self.pauses):
            return self
        return replace(self, pauses=(*self.pauses, pause))

    def resume(self, pipeline: PipelineKey) -> "Turnstile":
        """Return the turnstile without the pause of exactly this pipeline, or of all."""
        pauses = tuple(item for item in self.pauses if item.pipeline != pipeline)
        return self if len(pauses) == len(self.pauses) else replace(self, pauses=pauses)

    def allow(self, allowance: Allowance) -> "Turnstile":
        """Return the turnstile with another number of runs for one day; the last word counts."""
        same = (allowance.pipeline, allowance.day)
        found = next((item for item in self.allowances if (item.pipeline, item.day) == same), None)
        if found is not None and found.runs == allowance.runs:
            return self
        return replace(self, allowances=(*(item for item in self.allowances if item is not found), allowance))

    def note_told(self, pipeline: PipelineKey, day: date) -> "Turnstile":
        """Return the turnstile with the note that someone was told of a day's spent budget."""
        if self.told.get(pipeline) == day:
            return self
        return replace(self, told={**self.told, pipeline: day})

    def _begun_of(self, day: date) -> Mapping[PipelineKey, int]:
        return self.begun if self.day == day else dict(self.leapt_from).get(day, {})

    def _leaping_to(self, day: date) -> tuple[tuple[date, Mapping[PipelineKey, int]], ...]:
        """Return the counts of other days to keep while this one is counted; those of yesterday are over."""
        others = [(of, begun) for of, begun in self.leapt_from if of != day]
        if self.day is not None and self.day != day and day - self.day != _DAY:
            others.append((self.day, self.begun))
        return tuple(others[-_MOST_LEAPS:])

    def _ahead_of(self, pipeline: PipelineKey, now: datetime) -> int:
        """Return how many other pipelines queue for a seat before this one; at its end if it does not queue yet."""
        ahead = 0
        for item in self.queue:
            if item.pipeline == pipeline:
                break
            ahead += self._is_waiting(item, now)
        return ahead

    def _is_waiting(self, item: Queued, now: datetime) -> bool:
        return abs(now - item.seen_at) < _QUEUED_FOR and self.pause_of(item.pipeline) is None

    def _due_at(self, now: datetime) -> datetime:
        due = self.next_start_at
        is_ahead = due is not None and now < due <= now + _CLOCKS_DIFFER  # further ahead: the clock has jumped back
        return due if due is not None and is_ahead else now
