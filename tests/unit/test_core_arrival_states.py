"""Holds arrivals to their table of transitions, whatever is repeated and in whatever order."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from functions.core.errors import IllegalTransitionError
from functions.core.ledger import (
    ARRIVAL_TRANSITIONS,
    CHANGES_KEPT,
    RUN_TRANSITIONS,
    Arrival,
    Change,
    RunRule,
)
from functions.core.model import (
    ArrivalState,
    PipelineKey,
    RunState,
)
from tests.support.ledger_entries import LATER, OTHER_RUN_ID, RUN_ID, T0, make_arrival, refusal_of


def test_every_state_has_its_row_in_the_table() -> None:
    assert set(ARRIVAL_TRANSITIONS) == set(ArrivalState)
    assert set(RUN_TRANSITIONS) == set(RunState)


ARRIVAL_MOVES: dict[str, tuple[ArrivalState, Callable[[Arrival], Arrival]]] = {
    "assign": (ArrivalState.ASSIGNED, lambda arrival: arrival.assign(RUN_ID, LATER)),
    "release": (ArrivalState.HELD, lambda arrival: arrival.release(RUN_ID, LATER, "its run was given up")),
    "supersede": (ArrivalState.SUPERSEDED, lambda arrival: arrival.supersede(LATER, "a newer one came")),
    "ignore": (ArrivalState.IGNORED, lambda arrival: arrival.ignore(LATER, "no route")),
    "mark_scored": (ArrivalState.SCORED, lambda arrival: arrival.mark_scored(RUN_ID, LATER)),
    "mark_failed": (ArrivalState.FAILED, lambda arrival: arrival.mark_failed(RUN_ID, LATER, "it broke")),
    "replay": (ArrivalState.HELD, lambda arrival: arrival.replay(PipelineKey("other"), LATER, "by hand")),
}


@pytest.mark.parametrize("state", ArrivalState)
@pytest.mark.parametrize("move", ARRIVAL_MOVES)
def test_arrival_moves_as_the_table_says_and_repeating_is_harmless(state: ArrivalState, move: str) -> None:
    """A transition that the table lacks is refused; one that was made already changes nothing."""
    target, act = ARRIVAL_MOVES[move]
    arrival = make_arrival(state)

    try:
        moved = act(arrival)
    except IllegalTransitionError:
        is_another_runs_business = move in {"release", "mark_scored", "mark_failed"} and arrival.run_id is None
        is_alive = move == "replay" and state is ArrivalState.ASSIGNED
        assert target not in ARRIVAL_TRANSITIONS[state] or is_another_runs_business or is_alive
        return

    assert target in ARRIVAL_TRANSITIONS[state] or target is state
    assert moved.state is target
    assert act(moved).state is target
    assert act(moved).history == moved.history


def test_arrival_belongs_to_one_run_at_a_time() -> None:
    """I2: whoever comes second finds it taken."""
    arrival = make_arrival().assign(RUN_ID, LATER)

    assert arrival.run_id == RUN_ID
    assert arrival.history == (Change(state="assigned", at=LATER, note=RUN_ID),)
    for act in (
        lambda: arrival.assign(OTHER_RUN_ID, LATER),
        lambda: arrival.release(OTHER_RUN_ID, LATER, "mine now"),
        lambda: arrival.mark_scored(OTHER_RUN_ID, LATER),
        lambda: arrival.mark_failed(OTHER_RUN_ID, LATER, "x"),
    ):
        assert refusal_of(act) == RunRule.FOLLOW_THE_TABLE


def test_held_arrival_says_why_it_waits() -> None:
    waiting = make_arrival().hold_because("no_model_yet", LATER)

    assert (waiting.reason, waiting.updated_at) == ("no_model_yet", LATER)
    assert waiting.hold_because("no_model_yet", LATER + timedelta(1)) is waiting
    assert refusal_of(lambda: make_arrival(ArrivalState.SCORED).hold_because("x", LATER)) == RunRule.FOLLOW_THE_TABLE


def test_redelivery_is_counted_and_changes_nothing_else() -> None:
    arrival = make_arrival(ArrivalState.SCORED)

    again = arrival.redelivered(LATER)

    assert again == replace(arrival, deliveries=2, updated_at=LATER)


def test_clock_that_jumps_back_does_not_reorder_history() -> None:
    arrival = make_arrival(updated_at=LATER).assign(RUN_ID, T0)

    assert arrival.history[-1].at == LATER
    assert arrival.updated_at == LATER


def test_history_of_an_arrival_is_bounded() -> None:
    arrival = make_arrival()
    for _ in range(CHANGES_KEPT):
        arrival = arrival.assign(RUN_ID, LATER).release(RUN_ID, LATER, "again")

    assert len(arrival.history) == CHANGES_KEPT


@pytest.mark.parametrize(
    ("state", "changes", "message"),
    [
        (ArrivalState.HELD, {"pipeline": None}, "held needs a pipeline"),
        (ArrivalState.SCORED, {"run_id": None}, "scored needs a run"),
        (ArrivalState.HELD, {"event_time": datetime(2026, 1, 1)}, "event_time must be"),  # noqa: DTZ001 - the point
    ],
)
def test_arrival_that_cannot_be_is_not_built(state: ArrivalState, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_arrival(state, **changes)
