"""Holds batches to their windows, and to what their pipeline lets run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.decided import (
    ArrivalsInput,
    Hold,
    StartRun,
)
from functions.core.reasons import HoldReason, SkipReason
from tests.support.decisions import T0, close, make_arrival, reason_of, started


def test_without_a_window_an_arrival_starts_at_once() -> None:
    arrival = make_arrival(traceparent="t")

    start = started(close([arrival]))

    assert start.input == ArrivalsInput(arrivals=(arrival,))
    assert (start.model_version, start.traceparent, start.cause.at) == ("3", "t", T0)
    assert start.run_id.startswith("score-20260101T030000Z-")


def test_nothing_held_is_nothing_to_do() -> None:
    assert reason_of(close([])) is HoldReason.NOTHING_HELD


WINDOW = "[pipelines.score.batching]\nquiet_seconds = 30\nmax_wait_seconds = 60\nmax_files = 3\n"


@pytest.mark.parametrize(
    ("arrived_s", "now_s", "wait_s"),
    [
        ([0], 10, 20),
        ([0], 30, None),
        ([0, 20], 30, 20),
        ([0, 20, 40], 45, None),  # as many as fit
        ([0, 50], 55, 5),  # the first has waited long enough
        ([0, 50], 60, None),
        ([0], -100, 130),  # a clock that jumped back waits longer, and decides the same in the end
        ([0], -300, 330),
        ([0], -301, None),  # one that was wrong by far holds nothing
        ([-20, 86_400], -10, None),
    ],
)
def test_window_closes_when_quiet_full_or_old(arrived_s: list[float], now_s: float, wait_s: float | None) -> None:
    """R09."""
    held = [make_arrival(f"new/{index}.parquet", after_s=after) for index, after in enumerate(arrived_s)]

    decision = close(held, extra=WINDOW, now_s=now_s)

    assert (decision.wait_s if isinstance(decision, Hold) else None) == wait_s


def test_batch_takes_the_oldest_files_and_leaves_the_rest() -> None:
    held = [make_arrival(f"new/{index}.parquet", after_s=10 - index) for index in range(5)]

    start = started(close(held, extra=WINDOW))

    assert isinstance(start.input, ArrivalsInput)
    assert [arrival.blob.path for arrival in start.input.arrivals] == [
        "new/4.parquet",
        "new/3.parquet",
        "new/2.parquet",
    ]


@given(order=st.permutations(range(4)))
def test_batch_does_not_depend_on_the_order_of_reading(order: list[int]) -> None:
    """Two workers that look at the same held arrivals want the same run."""
    held = [make_arrival(f"new/{index}.parquet") for index in range(4)]

    assert close([held[index] for index in order]) == close(held)


def test_arrival_waits_for_a_model() -> None:
    decision = close([make_arrival()], model_version=None)

    assert isinstance(decision, Hold)
    assert (decision.reason, decision.wait_s) == (HoldReason.NO_MODEL_YET, 15)


@pytest.mark.parametrize(
    ("policy", "active", "expected"),
    [
        ('"parallel"\nmax_active = 2', 1, "start"),
        ('"parallel"\nmax_active = 2', 2, HoldReason.AT_CAPACITY),
        ('"queue"', 0, "start"),
        ('"queue"', 1, HoldReason.AT_CAPACITY),
        ('"supersede"', 0, "start"),
        ('"supersede"', 1, "cancel"),
        ('"drop"', 0, "start"),
        ('"drop"', 1, SkipReason.DROPPED_WHILE_ACTIVE),
    ],
)
def test_concurrency_policy(policy: str, active: int, expected: object) -> None:
    """R26."""
    decision = close([make_arrival()], extra=f"[pipelines.score.concurrency]\npolicy = {policy}\n", active_runs=active)

    if isinstance(decision, StartRun):
        assert expected == ("cancel" if decision.must_cancel_active else "start")
    else:
        assert decision.reason is expected
