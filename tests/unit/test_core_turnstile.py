"""Holds the turnstile to its limits whatever is asked of it, and to being fair and forgetting nothing."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.errors import InvalidDocumentError
from functions.core.limits import Limits
from functions.core.model import PipelineKey, RunId
from functions.core.reasons import HoldReason
from functions.core.turnstile import EVERY, Allowance, Candidate, Pause, Queued, Refusal, Seat, Turnstile
from functions.core.turnstile_rows import turnstile_from_row, turnstile_to_row

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TODAY = date(2026, 3, 1)
A, B, C = PipelineKey("a"), PipelineKey("b"), PipelineKey("c")
FAST = Limits(max_in_flight=100, max_starts_per_second=20)


def run_id(pipeline: PipelineKey = A, number: int = 0) -> RunId:
    return RunId(f"{pipeline}-20260301T120000Z-{number:012x}")


def candidate(pipeline: PipelineKey = A, *, capacity: int | None = None, budget: int | None = None) -> Candidate:
    return Candidate(pipeline=pipeline, capacity=capacity, max_runs_per_day=budget)


def admitted(
    turnstile: Turnstile,
    who: Candidate,
    *,
    number: int = 0,
    attempt: int = 1,
    limits: Limits = FAST,
    at: datetime = NOON,
) -> Turnstile:
    result = turnstile.admit(who, limits, at, run_id=run_id(who.pipeline, number), attempt=attempt)
    assert isinstance(result, Turnstile), result
    return result


def refused(
    turnstile: Turnstile, who: Candidate, *, number: int = 99, limits: Limits = FAST, at: datetime = NOON
) -> Refusal:
    result = turnstile.admit(who, limits, at, run_id=run_id(who.pipeline, number), attempt=1)
    assert isinstance(result, Refusal), result
    return result


def test_an_attempt_takes_one_seat_however_often_it_asks() -> None:
    once = admitted(Turnstile(), candidate())

    again = admitted(once, candidate())

    assert again is once
    assert (len(once.seats), once.begun_on(TODAY, A)) == (1, 1)


def test_the_next_attempt_takes_over_the_seat_of_the_one_before() -> None:
    """A process that died before it gave the seat back must not make its own run wait."""
    first = admitted(Turnstile(), candidate(capacity=1))

    second = admitted(first, candidate(capacity=1), attempt=2)

    assert [(seat.run_id, seat.attempt) for seat in second.seats] == [(run_id(), 2)]
    assert second.begun_on(TODAY, A) == 2  # each attempt costs


def test_a_late_goodbye_does_not_take_the_seat_of_the_next_attempt() -> None:
    second = admitted(Turnstile(), candidate(), attempt=2)

    assert refused(second, candidate(), number=0).reason is HoldReason.AT_CAPACITY
    assert second.leave(run_id(), 1) is second
    assert second.leave(run_id(), 2).seats == ()


def test_a_pipeline_has_as_many_seats_as_it_may() -> None:
    full = admitted(admitted(Turnstile(), candidate(capacity=2), number=1), candidate(capacity=2), number=2)

    assert refused(full, candidate(capacity=2)).reason is HoldReason.AT_CAPACITY
    assert admitted(full, candidate(B, capacity=2)).seated(B) == 1
    assert admitted(full.leave(run_id(A, 1), 1), candidate(capacity=2), number=3).seated(A) == 2


def test_all_pipelines_together_have_as_many_seats_as_they_may() -> None:
    limits = replace(FAST, max_in_flight=2)
    full = admitted(admitted(Turnstile(), candidate(A), limits=limits), candidate(B), limits=limits)

    assert refused(full, candidate(C), limits=limits).reason is HoldReason.NO_SEAT


def test_a_limit_that_was_lowered_lets_nobody_in_until_enough_have_left() -> None:
    three = admitted(admitted(admitted(Turnstile(), candidate(), number=1), candidate(), number=2), candidate(B))
    lower = replace(FAST, max_in_flight=2)

    two = three.leave(run_id(A, 1), 1)

    assert refused(three, candidate(C), limits=lower).reason is HoldReason.NO_SEAT
    assert refused(two, candidate(C), limits=lower).reason is HoldReason.NO_SEAT
    assert admitted(two.leave(run_id(A, 2), 1), candidate(C), limits=lower).seated(C) == 1


def test_who_queued_first_gets_the_next_seat() -> None:
    """A pipeline with a storm of files must not keep every seat that it gives back."""
    limits = replace(FAST, max_in_flight=1)
    full = admitted(Turnstile(), candidate(A), limits=limits).queue_up(B, NOON).queue_up(C, NOON)

    free = full.leave(run_id(A), 1)

    assert refused(free, candidate(A), limits=limits).reason is HoldReason.NO_SEAT
    assert refused(free, candidate(C), limits=limits).reason is HoldReason.NO_SEAT
    assert [item.pipeline for item in admitted(free, candidate(B), limits=limits).queue] == [C]


def test_who_queues_keeps_the_place_and_who_stays_away_loses_it() -> None:
    queued = Turnstile().queue_up(B, NOON)

    assert queued.queue_up(B, NOON + timedelta(seconds=10)) is queued
    later = queued.queue_up(B, NOON + timedelta(seconds=100))
    assert later.queue == (Queued(pipeline=B, since=NOON, seen_at=NOON + timedelta(seconds=100)),)
    limits = replace(FAST, max_in_flight=1)
    assert admitted(queued, candidate(A), limits=limits, at=NOON + timedelta(seconds=121)).seated(A) == 1
    # Whoever leaves a seat wakes the first in the queue, which must be someone who still wants one.
    assert [item.pipeline for item in queued.queue_up(C, NOON + timedelta(seconds=121)).queue] == [C]


def test_a_paused_pipeline_keeps_no_place_in_the_queue() -> None:
    paused = Turnstile().queue_up(B, NOON).pause(Pause(pipeline=B, by="ada", at=NOON))

    assert admitted(paused, candidate(A), limits=replace(FAST, max_in_flight=1)).seated(A) == 1


@pytest.mark.parametrize("paused", [A, EVERY])
def test_a_pause_keeps_out_and_the_first_one_stays(paused: PipelineKey) -> None:
    """R76."""
    pause = Pause(pipeline=paused, by="ada", at=NOON, reason="the schema changes")
    turnstile = Turnstile().pause(pause).pause(replace(pause, by="bob"))

    assert refused(turnstile, candidate()).reason is HoldReason.PAUSED
    assert turnstile.pause_of(A) == pause
    assert admitted(turnstile.resume(paused), candidate()).seated(A) == 1


def test_an_attempt_with_a_seat_goes_on_while_its_pipeline_is_paused() -> None:
    """It may be at Databricks already; only sending it again tells."""
    seated = admitted(Turnstile(), candidate()).pause(Pause(pipeline=A, by="ada", at=NOON))

    assert admitted(seated, candidate()) is seated


def test_a_pause_of_all_and_one_of_a_pipeline_end_apart() -> None:
    both = Turnstile().pause(Pause(pipeline=A, by="ada", at=NOON)).pause(Pause(pipeline=EVERY, by="bob", at=NOON))

    assert both.resume(A).pause_of(A) == Pause(pipeline=EVERY, by="bob", at=NOON)
    assert both.resume(EVERY).pause_of(A) == Pause(pipeline=A, by="ada", at=NOON)
    assert both.resume(B) is both


def test_a_spent_budget_keeps_out_until_midnight_in_utc() -> None:
    """R77: what ended is counted too, because it was paid for."""
    spent = admitted(Turnstile(), candidate(budget=1)).leave(run_id(), 1)
    late, midnight = NOON.replace(hour=23, minute=59), NOON.replace(hour=0) + timedelta(days=1)

    assert refused(spent, candidate(budget=1), at=late).reason is HoldReason.BUDGET_SPENT
    assert admitted(spent, candidate(B, budget=1), at=late).begun_on(TODAY, B) == 1
    assert admitted(spent, candidate(budget=1), number=2, at=midnight).begun == {A: 1}


def test_all_pipelines_together_have_a_budget_too() -> None:
    limits = replace(FAST, max_runs_per_day=2)
    spent = admitted(admitted(Turnstile(), candidate(A), limits=limits), candidate(B), limits=limits)

    assert refused(spent, candidate(C), limits=limits).reason is HoldReason.TOTAL_BUDGET_SPENT


def test_a_person_may_allow_another_number_for_one_day() -> None:
    allowance = Allowance(pipeline=A, day=TODAY, runs=2, by="ada", at=NOON)
    spent = admitted(Turnstile(), candidate(budget=1))

    more = spent.allow(allowance)

    assert more.allow(allowance) is more
    assert admitted(more, candidate(budget=1), number=2).begun_on(TODAY, A) == 2
    assert refused(admitted(more, candidate(budget=1), number=2), candidate(budget=1)).reason is HoldReason.BUDGET_SPENT
    assert more.allow(replace(allowance, runs=0)).budget_of(TODAY, A, 1) == 0
    assert more.budget_of(TODAY + timedelta(days=1), A, 1) == 1


def test_a_clock_that_is_behind_at_midnight_does_not_begin_the_old_day_again() -> None:
    after_midnight = datetime(2026, 3, 2, 0, 0, 5, tzinfo=UTC)
    spent = admitted(Turnstile(), candidate(budget=1), at=after_midnight)

    assert refused(spent, candidate(budget=1), at=after_midnight - timedelta(seconds=10)).reason is (
        HoldReason.BUDGET_SPENT
    )


def test_a_clock_that_was_a_year_ahead_does_not_keep_a_budget_spent_for_a_year() -> None:
    spent = admitted(Turnstile(), candidate(budget=1), at=NOON + timedelta(days=365))

    assert admitted(spent, candidate(budget=1), number=2).begun_on(TODAY, A) == 1


@pytest.mark.parametrize("leap", [timedelta(days=5), timedelta(days=-5), timedelta(days=365)])
def test_a_clock_that_leaps_and_leaps_back_gives_no_budget_twice(leap: timedelta) -> None:
    """R77: one worker's wrong clock, or all of them for a while, must not have the day counted anew."""
    who = candidate(budget=2)
    allowance = Allowance(pipeline=B, day=TODAY, runs=0, by="ada", at=NOON)
    spent = admitted(admitted(Turnstile(), who), who, number=1).allow(allowance)

    leapt = admitted(spent, who, number=2, at=NOON + leap)
    back = turnstile_from_row(turnstile_to_row(leapt))

    assert refused(back, who).reason is HoldReason.BUDGET_SPENT
    assert refused(back, candidate(B, budget=2)).reason is HoldReason.BUDGET_SPENT
    assert back.begun_on(TODAY, EVERY) == 2
    again = admitted(back, candidate(C), number=3)
    assert (again.begun_on(TODAY, EVERY), again.begun_on((NOON + leap).date(), A)) == (3, 1)


def test_a_clock_that_leaps_twice_before_it_leaps_back_gives_no_budget_twice() -> None:
    """R77: by way of a day that it has been at before, too."""
    who, in_five_days = candidate(budget=1), NOON + timedelta(days=5)
    turnstile = admitted(admitted(Turnstile(), who), who, number=1, at=in_five_days)
    turnstile = admitted(turnstile, candidate(B))
    turnstile = admitted(turnstile, candidate(C), at=NOON + timedelta(days=365))

    assert refused(turnstile, who).reason is HoldReason.BUDGET_SPENT
    assert refused(turnstile, who, at=in_five_days).reason is HoldReason.BUDGET_SPENT


def test_who_was_told_of_a_spent_budget_is_told_once_a_day_whoever_starts_meanwhile() -> None:
    """R77."""
    told = Turnstile().note_told(A, TODAY)

    assert admitted(told, candidate(B)).told == {A: TODAY}
    assert admitted(told, candidate(B), at=NOON + timedelta(days=1)).told == {}


def test_the_count_of_a_day_that_is_over_is_not_kept() -> None:
    turnstile = Turnstile()
    for day in range(3):
        turnstile = admitted(turnstile, candidate(), number=day, at=NOON + timedelta(days=day))

    assert turnstile.leapt_from == ()


def test_starts_are_spread_over_time_after_a_burst() -> None:
    """R23: below what the workspace refuses, whatever number of workers there are."""
    limits, turnstile, starts = Limits(max_in_flight=1000, max_starts_per_second=5), Turnstile(), list[datetime]()
    now = NOON
    for number in range(60):
        while isinstance(
            result := turnstile.admit(candidate(), limits, now, run_id=run_id(A, number), attempt=1), Refusal
        ):
            assert result.reason is HoldReason.START_RATE
            assert 0 < result.wait_s <= 1
            now += timedelta(seconds=result.wait_s)
        turnstile = result
        starts.append(now)

    assert starts[9] == NOON
    assert starts[10] > NOON
    assert starts[-1] - NOON == pytest.approx(timedelta(seconds=10), abs=timedelta(seconds=0.2))
    in_a_second = [sum(start <= other < start + timedelta(seconds=1) for other in starts) for start in starts]
    assert max(in_a_second) <= 15


def test_a_clock_that_jumps_back_does_not_stop_the_starts() -> None:
    slow = Limits(max_starts_per_second=1)
    ahead = admitted(Turnstile(), candidate(), limits=slow, at=NOON + timedelta(hours=1))

    assert admitted(ahead, candidate(), number=2, limits=slow).seated(A) == 2


def test_a_barred_attempt_never_goes_and_one_with_a_seat_cannot_be_barred() -> None:
    """Ending a run that was not sent, and sending it, exclude each other."""
    barred = Turnstile().bar(run_id(), 1, NOON, "superseded")
    seated = admitted(Turnstile(), candidate())

    assert refused(barred, candidate(), number=0).barred_because == "superseded"
    assert barred.bar(run_id(), 1, NOON, "again") is barred
    assert seated.bar(run_id(), 1, NOON, "superseded") is seated
    assert admitted(barred, candidate(), attempt=2).seated(A) == 1  # asked for by a person
    assert turnstile_from_row(turnstile_to_row(barred)) == barred


def test_what_was_barred_is_forgotten_after_a_day() -> None:
    """No worker lives so long, and the row must not grow."""
    barred = Turnstile().bar(run_id(A, 1), 1, NOON, "x").bar(run_id(A, 2), 1, NOON + timedelta(days=1), "y")

    assert [item.why for item in barred.barred] == ["y"]


def test_what_databricks_has_gets_a_seat_even_beyond_the_limit() -> None:
    seat = Seat(run_id=run_id(A, 7), attempt=3, pipeline=A, taken_at=NOON)

    adopted = admitted(Turnstile(), candidate()).adopt((seat,))

    assert adopted.adopt((seat,)) is adopted
    assert adopted.seated(A) == 2
    assert refused(adopted, candidate(capacity=1)).reason is HoldReason.AT_CAPACITY


_steps = st.lists(
    st.tuples(
        st.sampled_from(["admit", "leave", "queue", "pause", "resume", "tick", "back"]),
        st.sampled_from([A, B, C]),
        st.integers(0, 5),
        st.integers(1, 3),
    ),
    max_size=60,
)


@given(steps=_steps, limit=st.integers(1, 4), capacity=st.integers(1, 3), budget=st.integers(1, 8))
def test_no_limit_is_ever_exceeded(
    steps: list[tuple[str, PipelineKey, int, int]], limit: int, capacity: int, budget: int
) -> None:
    """R14, R26, R77: after whatever happened, in whatever order, with a clock that jumps."""
    limits, turnstile, now = Limits(max_in_flight=limit, max_starts_per_second=20), Turnstile(), NOON
    for step, pipeline, number, attempt in steps:
        who = candidate(pipeline, capacity=capacity, budget=budget)
        match step:
            case "admit":
                result = turnstile.admit(who, limits, now, run_id=run_id(pipeline, number), attempt=attempt)
                turnstile = turnstile if isinstance(result, Refusal) else result
            case "leave":
                turnstile = turnstile.leave(run_id(pipeline, number), attempt)
            case "queue":
                turnstile = turnstile.queue_up(pipeline, now)
            case "pause":
                turnstile = turnstile.pause(Pause(pipeline=pipeline, by="ada", at=now))
            case "resume":
                turnstile = turnstile.resume(pipeline)
            case _:
                now += timedelta(seconds=number * (1 if step == "tick" else -1))

        assert len(turnstile.seats) <= limit
        assert all(turnstile.seated(key) <= capacity for key in (A, B, C))
        assert all(turnstile.begun_on(TODAY, key) <= budget for key in (A, B, C))
        assert len({seat.run_id for seat in turnstile.seats}) == len(turnstile.seats)
        assert turnstile_from_row(turnstile_to_row(turnstile)) == turnstile


def test_the_row_keeps_everything() -> None:
    full = replace(
        admitted(Turnstile(), candidate())
        .queue_up(B, NOON)
        .pause(Pause(pipeline=EVERY, by="ada", at=NOON, reason='"quoted", ß'))
        .allow(Allowance(pipeline=A, day=TODAY, runs=9, by="ada", at=NOON)),
        told={A: TODAY},
    )

    assert turnstile_from_row(turnstile_to_row(full)) == full
    assert turnstile_from_row(turnstile_to_row(Turnstile())) == Turnstile()


def test_a_thousand_seats_fit_into_the_row() -> None:
    """Table Storage takes 64 KiB a property and 1 MiB a row."""
    long = PipelineKey("p" * 48)
    seats = tuple(Seat(run_id=run_id(long, at), attempt=1, pipeline=long, taken_at=NOON) for at in range(1000))

    row = turnstile_to_row(Turnstile(seats=seats))

    assert turnstile_from_row(row).seats == seats
    assert max(len(value) for value in row.values() if isinstance(value, str)) <= 16_000
    assert sum(len(str(value)) for value in row.values()) < 200_000


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[]",
        '{"seats": 1}',
        '{"seats": [["no run id", 1, "2026-03-01T12:00:00.000000Z", null]]}',
        '{"seats": [["p-20260301T120000Z-0123456789ab", 0, "2026-03-01T12:00:00.000000Z", null]]}',
        '{"seats": [["no run id", 1, "2026-03-01T12:00:00.000000Z"]]}',
        '{"seats": [[1]]}',
    ],
)
def test_a_row_that_was_spoilt_is_refused(document: str) -> None:
    with pytest.raises(InvalidDocumentError):
        turnstile_from_row({"schema": 1, "document": document})


def test_patience_is_kept_for_an_attempt_with_a_seat_and_never_shortened() -> None:
    """R23: whoever was told to wait longest is right; an attempt without a seat was not sent."""
    seated = admitted(Turnstile(), candidate())
    patient = seated.be_patient(run_id(), 1, NOON + timedelta(seconds=60))
    seat = patient.seat_of(run_id(), 1)

    assert seat is not None
    assert seat.not_before == NOON + timedelta(seconds=60)
    assert patient.be_patient(run_id(), 1, NOON + timedelta(seconds=60)) is patient
    assert patient.be_patient(run_id(), 1, NOON + timedelta(seconds=59)) is patient
    assert patient.be_patient(run_id(), 2, NOON + timedelta(seconds=90)) is patient
    mended = patient.be_patient(run_id(), 1, NOON - timedelta(days=1)).seat_of(run_id(), 1)
    assert mended is not None  # a clock was a day ahead, or one is a day late
    assert mended.not_before == NOON - timedelta(days=1)
    assert turnstile_from_row(turnstile_to_row(patient)) == patient
