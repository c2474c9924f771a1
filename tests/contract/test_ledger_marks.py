"""Holds the ledger to what it keeps one of: requests, slots, consignments, bookmarks, the turnstile."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest

from functions.adapters.table_ledger import TableLedger
from functions.core.consignments import Consignment
from functions.core.errors import LedgerConflictError
from functions.core.model import PipelineKey
from functions.core.turnstile import Pause, Seat, Turnstile
from functions.ports import ClaimedRequest, NotedSlot
from tests.support.ledger_at_noon import NOON, PIPELINE, make_run


def test_a_request_keeps_the_time_of_its_first_claim(ledger: TableLedger) -> None:
    first = ClaimedRequest(request_id="key with / and #", requested_at=NOON, fingerprint="a")
    later = ClaimedRequest(request_id="key with / and #", requested_at=NOON + timedelta(1), fingerprint="b")

    assert ledger.claim_request(first) == first
    assert ledger.claim_request(later) == first


def make_slot(day: int, timetable: str) -> NotedSlot:
    return NotedSlot(slot=datetime(2026, 3, day, tzinfo=UTC), timetable=timetable)


def test_the_last_slot_only_moves_forward(ledger: TableLedger) -> None:
    assert ledger.last_slot(PIPELINE, "monthly") is None

    for day in (1, 3, 2):
        ledger.note_slot(PIPELINE, "monthly", make_slot(day, "a"), "done")

    assert ledger.last_slot(PIPELINE, "monthly") == make_slot(3, "a")


def test_the_last_slot_may_be_noted_again_under_another_timetable(ledger: TableLedger) -> None:
    for noted in (make_slot(3, "a"), make_slot(3, "b"), make_slot(2, "c")):
        ledger.note_slot(PIPELINE, "monthly", noted, "done")

    assert ledger.last_slot(PIPELINE, "monthly") == make_slot(3, "b")


def test_a_slot_that_is_taken_back_keeps_its_timetable(ledger: TableLedger) -> None:
    ledger.note_slot(PIPELINE, "monthly", make_slot(9, "a"), "done")

    ledger.take_back_slot(PIPELINE, "monthly", make_slot(9, "a").slot, make_slot(2, "a").slot, "a wrong clock")

    assert ledger.last_slot(PIPELINE, "monthly") == make_slot(2, "a")


def test_of_many_workers_at_the_turnstile_one_write_wins(ledger: TableLedger) -> None:
    """Whoever read an older turnstile is refused, so a limit that was checked still holds when it is written."""
    empty = ledger.read_turnstile()

    def write(number: int) -> bool:
        pause = Pause(pipeline=PipelineKey(f"p{number}"), by="ada", at=NOON, reason="ß" * 200)
        try:
            ledger.update_turnstile(empty, empty.value.pause(pause))
        except LedgerConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(write, range(8)))
    seen = ledger.read_turnstile()
    seat = Seat(run_id=make_run().id, attempt=1, pipeline=PIPELINE, taken_at=NOON)
    seated = ledger.update_turnstile(seen, seen.value.adopt((seat,)))

    assert empty.value == Turnstile()
    assert sum(first) == 1
    assert len(seen.value.pauses) == 1
    assert ledger.read_turnstile() == seated
    with pytest.raises(LedgerConflictError):
        ledger.update_turnstile(seen, seen.value)


def test_a_consignment_moves_on_by_compare_and_set(ledger: TableLedger) -> None:
    place = "input/naïve #1/"
    first = Consignment(pipeline=PIPELINE, place=place, run_id=make_run().id)
    assert ledger.consignment(PIPELINE, place) is None

    entry = ledger.move_consignment(None, first)
    second = replace(first, run_id=make_run(name="b").id, version=2, replaces=first.run_id, is_frozen=True)
    ledger.move_consignment(entry, second)

    for stale in (None, entry):
        with pytest.raises(LedgerConflictError):
            ledger.move_consignment(stale, first)
    found = ledger.consignment(PIPELINE, place)
    assert found is not None
    assert found.value == second
    assert ledger.consignment(PipelineKey("other"), place) is None


def test_a_bookmark_is_what_was_last_remembered(ledger: TableLedger) -> None:
    assert ledger.bookmark("walk") == {}

    ledger.set_bookmark("walk", {"after": "x" * 40_000, "empty": ""})
    ledger.set_bookmark("walk", {"after": "y" * 40_000})

    assert ledger.bookmark("walk") == {"after": "y" * 40_000}


def test_of_two_wake_ups_the_first_is_noted_if_it_is_soon_enough(ledger: TableLedger) -> None:
    def note(due_s: float, *, at_s: float = 0) -> datetime | None:
        due, not_before = (NOON + timedelta(seconds=seconds) for seconds in (due_s, at_s + 1))
        return ledger.note_wake_up(PIPELINE, due, not_before=not_before)

    assert note(30) is None
    assert note(31, at_s=1) == note(30) == NOON + timedelta(seconds=30)
    assert note(20) is None  # sooner
    assert note(50, at_s=19.5) is None  # the one that is noted may be handled by now
    assert ledger.note_wake_up(PipelineKey("other"), NOON, not_before=NOON - timedelta(seconds=1)) is None
    ledger.forget_wake_up(PIPELINE)
    assert note(60, at_s=20) is None


def test_of_workers_that_note_a_wake_up_at_once_one_does(ledger: TableLedger) -> None:
    together = Barrier(4)

    def note(index: int) -> datetime | None:
        together.wait()
        return ledger.note_wake_up(PIPELINE, NOON + timedelta(seconds=30 + index / 100), not_before=NOON)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(note, [3, 2, 1, 0]))

    noted = ledger.note_wake_up(PIPELINE, NOON + timedelta(seconds=40), not_before=NOON)
    assert noted is not None
    # Each either saw one that comes before its own, or noted its own before a sooner one was.
    assert found.count(None) >= 1
    assert all(said is None or said <= NOON + timedelta(seconds=30.04) for said in found)
