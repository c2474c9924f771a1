"""Takes attempts through the turnstile: a seat before they are sent, given back when they are over.

The turnstile is one row of the ledger, and this process remembers how it last saw it. A remembered row may let a write
be tried without reading first, which fails if the row has moved on; it never is enough to turn anyone away.

The order of writes, and what a crash between two of them leaves behind:

1. The run's row says SUBMITTING, with its token.
   Crash: an attempt without a seat, which was never sent. Whoever looks at the run next takes one.
2. The seat is taken. It belongs to the attempt until the run's row says that the attempt is over, whoever died.
   Crash: whoever looks at the run next finds the seat, and sends the token.
3. The run's row says that the attempt is over.
   Crash: a seat too many. The reconciler compares seats with runs, and gives it back.
4. The seat is given back.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

from functions.core.errors import LedgerConflictError
from functions.core.ledger import Run
from functions.core.model import DatabricksRunId, PipelineKey, RunState
from functions.core.reasons import HoldReason
from functions.core.turnstile import LONGEST_PATIENCE, Candidate, Refusal, Seat, Turnstile
from functions.ports import Entry, OpenRun
from functions.services.plane import ControlPlane, TurnstileChange

__all__ = [
    "bar",
    "be_patient",
    "candidate_of",
    "change_turnstile",
    "is_kept_out",
    "leave_seat",
    "look_at_turnstile",
    "patience_s",
    "read_turnstile",
    "reclaim_seats",
    "refusal_of",
    "take_seat",
]

_TRIES: Final = 30  # each conflict means that another worker got through
_LONGEST_TURN_S: Final = 30.0  # so many seconds of starts wait in line; who comes after them begins a second line
_REMEMBERED_FOR: Final = timedelta(seconds=5)
_AT_DATABRICKS: Final = frozenset({RunState.SUBMITTED, RunState.REPORTED})


def look_at_turnstile(plane: ControlPlane) -> Turnstile:
    """Return the turnstile as it was at most five seconds ago, with all that this process has changed since."""
    now, seen = plane.clock.now(), plane.turnstile.get("")
    if seen is not None and timedelta(0) <= now - seen[0] < _REMEMBERED_FOR:
        return seen[1].value
    return _read(plane).value


def change_turnstile[R: Refusal](plane: ControlPlane, change: Callable[[Turnstile], Turnstile | R]) -> Turnstile | R:
    """Return the turnstile after `change`, which is applied to whatever the ledger has by then; or its refusal.

    Changes that meet in one process are written together: a refused seat takes no part in the write.
    """
    if plane.changes is None:
        (changed,) = _change(plane, [change])
        if isinstance(changed, BaseException):
            raise changed
    else:
        changed = plane.changes.do(change, partial(_change, plane))
    return changed  # type: ignore[return-value] # a refusal is the change's own


def _change(plane: ControlPlane, changes: Sequence[TurnstileChange]) -> Sequence[Turnstile | Refusal | BaseException]:
    """Apply all changes in one write; return what came of each, in their order."""
    seen = plane.turnstile.get("")
    entry, is_current = (_read(plane), True) if seen is None else (seen[1], False)
    for _ in range(_TRIES):
        turnstile, outcomes = _apply(entry.value, changes)
        if turnstile is not entry.value:
            try:
                _remember(plane, plane.ledger.update_turnstile(entry, turnstile))
            except LedgerConflictError:
                entry, is_current = _read(plane), True
            else:
                return outcomes
        elif is_current:
            return outcomes
        else:
            entry, is_current = _read(plane), True
    raise LedgerConflictError("the turnstile", "it kept changing")


def _apply(
    turnstile: Turnstile, changes: Sequence[TurnstileChange]
) -> tuple[Turnstile, list[Turnstile | Refusal | BaseException]]:
    outcomes: list[Turnstile | Refusal | BaseException] = []
    for change in changes:
        try:
            changed = change(turnstile)
        except Exception as error:  # noqa: BLE001 - whoever asked for the change raises it, and nobody else
            outcomes.append(error)
            continue
        outcomes.append(changed)
        if not isinstance(changed, Refusal):
            turnstile = changed
    return turnstile, outcomes


def refusal_of(plane: ControlPlane, pipeline: PipelineKey) -> Refusal | None:
    """Return why an attempt of the pipeline would not get a seat now; a pipeline without a seat is queued for one."""
    candidate, now = candidate_of(plane, pipeline), plane.clock.now()
    refusal = look_at_turnstile(plane).refuses(candidate, plane.pipelines.limits, now)
    if refusal is not None:  # what was remembered may be out of date
        refusal = _read(plane).value.refuses(candidate, plane.pipelines.limits, now)
    if refusal is not None and refusal.reason is HoldReason.NO_SEAT:
        change_turnstile(plane, lambda turnstile: turnstile.queue_up(pipeline, now))
    return None if refusal is None else _in_turn(plane, refusal)


def is_kept_out(plane: ControlPlane, pipeline: PipelineKey) -> Refusal | None:
    """Return why nothing of the pipeline may start whatever frees up, from one read of one row at most.

    A pause is seen at once by whoever takes a seat, and within five seconds by whoever would freeze a batch.
    """
    candidate, now = candidate_of(plane, pipeline), plane.clock.now()
    if look_at_turnstile(plane).keeps_out(candidate, plane.pipelines.limits, now) is None:
        return None
    return _read(plane).value.keeps_out(candidate, plane.pipelines.limits, now)


def take_seat(plane: ControlPlane, run: Run) -> Refusal | None:
    """Take a seat for the run's current attempt unless it has one; return why there is none."""
    seen = plane.turnstile.get("")
    if seen is not None and seen[1].value.seat_of(run.id, run.attempt) is not None:
        return None  # an attempt keeps its seat for as long as it lives, so this cannot be out of date
    candidate, now = candidate_of(plane, run.pipeline), plane.clock.now()
    limits = plane.pipelines.limits

    def admit(turnstile: Turnstile) -> Turnstile | Refusal:
        return turnstile.admit(candidate, limits, now, run_id=run.id, attempt=run.attempt)

    admitted = change_turnstile(plane, admit)
    if not isinstance(admitted, Refusal):
        return None
    if admitted.reason is HoldReason.NO_SEAT:
        change_turnstile(plane, lambda turnstile: turnstile.queue_up(run.pipeline, now))
    return _in_turn(plane, admitted)


def _in_turn(plane: ControlPlane, refusal: Refusal) -> Refusal:
    """Give each of those whom this process turns away because starts are spread a turn of its own.

    Else all of them would come back when the next start is due, and all but one in vain. A turn reserves nothing:
    whoever comes at the right moment goes, and who comes too early gets another turn.
    """
    if refusal.reason is not HoldReason.START_RATE:
        return refusal
    now = plane.clock.now()
    earliest, latest = now + timedelta(seconds=refusal.wait_s), now + timedelta(seconds=_LONGEST_TURN_S)
    with plane.lock:
        last = plane.turns.get("")
        step = timedelta(seconds=1 / plane.pipelines.limits.max_starts_per_second)
        is_in_line = last is not None and earliest <= last + step <= latest  # else nobody waits, or the clock jumped
        turn = last + step if last is not None and is_in_line else earliest
        plane.turns[""] = turn
    return replace(refusal, wait_s=(turn - now).total_seconds())


def bar(plane: ControlPlane, run: Run, why: str) -> bool:
    """Return whether the run's current attempt was never sent, and sees to it that nobody sends it any more.

    Who is refused the seat and who takes it may be two workers with the same run: the turnstile says which came first.
    """
    now = plane.clock.now()
    turnstile = change_turnstile(plane, lambda current: current.bar(run.id, run.attempt, now, why))
    return turnstile.bar_of(run.id, run.attempt) is not None


def patience_s(plane: ControlPlane, run: Run) -> float:
    """Return for how many seconds more the attempt, which has a seat, is not to be sent again; 0: it may be."""
    seat = look_at_turnstile(plane).seat_of(run.id, run.attempt)
    if seat is None or seat.not_before is None:
        return 0.0
    wait = seat.not_before - plane.clock.now()
    return max(wait.total_seconds(), 0.0) if wait <= LONGEST_PATIENCE else 0.0


def be_patient(plane: ControlPlane, run: Run, *, after_s: float) -> None:
    """Remember that Databricks asked for patience, for whoever looks at the run before its work item comes back."""
    until = plane.clock.now() + timedelta(seconds=min(after_s, LONGEST_PATIENCE.total_seconds()))
    change_turnstile(plane, lambda turnstile: turnstile.be_patient(run.id, run.attempt, until))


def leave_seat(plane: ControlPlane, run: Run, *, attempt: int) -> PipelineKey | None:
    """Give the seat of an attempt back that is over; return the pipeline that has queued for one the longest."""
    left = change_turnstile(plane, lambda turnstile: turnstile.leave(run.id, attempt))
    return left.queue[0].pipeline if left.queue else None


def reclaim_seats(plane: ControlPlane, open_runs: Sequence[OpenRun], active: Collection[DatabricksRunId]) -> str:
    """Make the seats those of the attempts that live; return what was found.

    Only seats are looked at whose run Databricks does not list as active, so a pass reads few rows. A seat without a
    living attempt is what a process left that died before it gave the seat back. An attempt that Databricks has
    without a seat comes from a time before the turnstile, or its row was lost.
    """
    turnstile = _read(plane).value
    living = {run.run_id for run in open_runs if run.databricks_run_id in active}
    over = [seat for seat in turnstile.seats if seat.run_id not in living and _is_over(plane, seat)]
    seated = {seat.run_id for seat in turnstile.seats}
    found = [_seat_for(plane, run) for run in open_runs if run.run_id in living - seated]
    missing = tuple(seat for seat in found if seat is not None)
    if not over and not missing:
        return "seats: right"

    def mend(current: Turnstile) -> Turnstile:
        for seat in over:
            current = current.leave(seat.run_id, seat.attempt)
        return current.adopt(missing)

    change_turnstile(plane, mend)
    return "seats: mended"


def _is_over(plane: ControlPlane, seat: Seat) -> bool:
    entry = plane.ledger.get_run(seat.run_id)
    return entry is None or entry.value.attempt > seat.attempt or entry.value.state is RunState.ENDED


def _seat_for(plane: ControlPlane, open_run: OpenRun) -> Seat | None:
    entry = plane.ledger.get_run(open_run.run_id)
    if entry is None or entry.value.state not in _AT_DATABRICKS:
        return None
    run = entry.value
    return Seat(run_id=run.id, attempt=run.attempt, pipeline=run.pipeline, taken_at=run.submitted_at or run.updated_at)


def candidate_of(plane: ControlPlane, key: PipelineKey) -> Candidate:
    """Return what `pipelines.toml` allows a pipeline."""
    pipeline = plane.pipelines.by_key.get(key)
    if pipeline is None:  # removed since; the run goes on as it was decided
        return Candidate(pipeline=key, capacity=None, max_runs_per_day=None)
    return Candidate(pipeline=key, capacity=pipeline.concurrency.capacity, max_runs_per_day=pipeline.max_runs_per_day)


def read_turnstile(plane: ControlPlane) -> Turnstile:
    """Return the turnstile as it stands in the ledger."""
    return _read(plane).value


def _read(plane: ControlPlane) -> Entry[Turnstile]:
    return _remember(plane, plane.ledger.read_turnstile())


def _remember(plane: ControlPlane, entry: Entry[Turnstile]) -> Entry[Turnstile]:
    plane.turnstile[""] = (plane.clock.now(), entry)
    return entry
