"""Holds the ledger's index of held arrivals to having every one of them, in the order of their events."""

from dataclasses import replace
from datetime import timedelta

from functions.adapters.table_ledger import TableLedger
from functions.core.model import ArrivalSource, ArrivalState, PipelineKey, RunId
from tests.support.control_plane import make_blob
from tests.support.ledger_at_noon import NOON, PIPELINE, make_arrival


def test_held_arrivals_are_indexed_oldest_event_first(ledger: TableLedger) -> None:
    for minute, name in ((3, "c"), (1, "a"), (2, "b")):
        ledger.record_arrival(make_arrival(make_blob(name), at=NOON + timedelta(minutes=minute)))
    ledger.record_arrival(make_arrival(make_blob("z"), state=ArrivalState.IGNORED))

    held = ledger.held_arrivals(PIPELINE, limit=2)

    assert [item.entry.value.blob.path for item in held] == ["flights/new/a", "flights/new/b"]
    assert ledger.held_arrivals(PipelineKey("another"), limit=2) == []


def test_a_backfilled_arrival_whose_event_comes_meanwhile_is_held_once(ledger: TableLedger) -> None:
    """Its row in the index is written first, at the time that storage tells; the event tells another one."""
    of_event = make_arrival(at=NOON + timedelta(seconds=1))
    ledger.record_arrival(of_event)

    ledger.record_arrival(replace(make_arrival(), source=ArrivalSource.BACKFILL))
    (held,) = ledger.held_arrivals(PIPELINE, limit=10)

    assert (held.entry.value.id, held.entry.value.source) == (of_event.id, ArrivalSource.EVENT)


def test_another_message_of_a_young_arrival_leaves_it_to_the_first(ledger: TableLedger) -> None:
    """The first one's message comes back if it died; a later try of any message looks after the index itself."""
    _, first, _ = ledger.record_arrival(make_arrival(), is_first_try=True)
    _, second, _ = ledger.record_arrival(make_arrival(at=NOON + timedelta(minutes=1)), is_first_try=True)
    _, late, _ = ledger.record_arrival(make_arrival(at=NOON + timedelta(minutes=5)), is_first_try=True)
    _, again, _ = ledger.record_arrival(make_arrival(at=NOON + timedelta(minutes=1)))

    assert first is not None
    assert second is None
    assert late is not None
    assert again is not None


def test_an_index_row_is_forgotten_only_in_the_version_that_was_seen(ledger: TableLedger) -> None:
    """A slow worker must not hide an arrival that was held again after it looked."""
    _, seen, _ = ledger.record_arrival(make_arrival())
    assert seen is not None
    ledger.record_arrival(make_arrival())  # writes the index row anew

    ledger.forget_held([seen])
    left = ledger.held_arrivals(PIPELINE, limit=10)
    ledger.forget_held(left)

    assert len(left) == 1
    assert ledger.held_arrivals(PIPELINE, limit=10) == []


def test_a_claim_through_the_index_needs_the_entrys_version(ledger: TableLedger) -> None:
    """Two dispatchers that see the same index: one of them gets the arrival."""
    ledger.record_arrival(make_arrival())
    (held,) = ledger.held_arrivals(PIPELINE, limit=10)
    mine = held.entry.value.assign(RunId("run-a"), NOON)
    theirs = held.entry.value.assign(RunId("run-b"), NOON)

    written = ledger.update_arrivals([(held.entry, mine)]) + ledger.update_arrivals([(held.entry, theirs)])

    assert [entry is None for entry in written] == [False, True]
    entry = ledger.get_arrival(make_blob())
    assert entry is not None
    assert entry.value.run_id == "run-a"


def test_an_arrival_that_is_released_is_in_the_index_before_its_row_says_held(ledger: TableLedger) -> None:
    entry, held, _ = ledger.record_arrival(make_arrival())
    assert held is not None
    (assigned,) = ledger.update_arrivals([(entry, entry.value.assign(RunId("run-a"), NOON))])
    assert assigned is not None
    ledger.forget_held([held])

    released = ledger.update_arrival(assigned, assigned.value.release(RunId("run-a"), NOON, "left out"))

    (found,) = ledger.held_arrivals(PIPELINE, limit=10)
    assert found.entry == released


def held_names(ledger: TableLedger, consignment: str | None) -> list[str]:
    held = ledger.held_arrivals(PIPELINE, limit=10, consignment=consignment)
    return [item.entry.value.blob.path.rpartition("/")[2] for item in held]


def test_held_arrivals_of_a_consignment_are_together_in_the_index(ledger: TableLedger) -> None:
    """However many others wait, those of one folder are read alone, and a walk sees every folder."""
    for minute, (name, place) in enumerate([("a", "input/x/"), ("b", ""), ("c", "input/y/"), ("d", "input/x/")]):
        arrival = make_arrival(make_blob(name), at=NOON + timedelta(minutes=minute))
        ledger.record_arrival(replace(arrival, consignment=place))

    found, after = [], ""
    while (step := ledger.next_consignment(PIPELINE, after=after)) is not None:
        after, place = step
        found.append(place)

    assert held_names(ledger, "input/x/") == ["a", "d"]
    assert held_names(ledger, "input/y/") == ["c"]
    assert held_names(ledger, "input/z/") == []
    assert held_names(ledger, "") == ["b"]
    assert sorted(held_names(ledger, None)) == ["a", "b", "c", "d"]
    assert sorted(found) == ["input/x/", "input/y/"]
    ledger.forget_held(ledger.held_arrivals(PIPELINE, limit=10, consignment="input/x/"))
    assert held_names(ledger, None) == ["b", "c"]
