"""Holds the ledger to recording each arrival once, and to changing it by compare-and-set."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from functions.adapters.table_ledger import TableLedger
from functions.core.model import ArrivalState, RunId
from tests.support.control_plane import make_blob
from tests.support.ledger_at_noon import NOON, make_arrival


def test_the_first_delivery_is_recorded_and_the_second_counted(ledger: TableLedger) -> None:
    first, held, is_new = ledger.record_arrival(make_arrival())
    again, _, is_new_again = ledger.record_arrival(make_arrival(at=NOON + timedelta(minutes=1)))

    assert (is_new, is_new_again) == (True, False)
    assert held is not None
    assert (first.value.deliveries, again.value.deliveries) == (1, 2)
    assert again.value.recorded_at == NOON


def test_many_workers_record_one_arrival_once(ledger: TableLedger) -> None:
    """R07: however many deliveries at once, one of them made the entry and all are counted."""
    with ThreadPoolExecutor(4) as pool:
        made = [is_new for _, _, is_new in pool.map(ledger.record_arrival, [make_arrival()] * 4)]

    entry = ledger.get_arrival(make_blob())
    assert entry is not None
    assert (sorted(made), entry.value.deliveries) == ([False, False, False, True], 4)


def test_a_redelivery_leaves_the_entry_at_its_version(ledger: TableLedger) -> None:
    """A storm of repeats does not get into the way of the dispatcher, which claims what it read before."""
    first, held, _ = ledger.record_arrival(make_arrival())
    ledger.record_arrival(make_arrival(), is_first_try=True)

    (claimed,) = ledger.update_arrivals([(first, first.value.assign(RunId("run-a"), NOON))])

    assert held is not None
    assert claimed is not None
    known = ledger.get_arrival(make_blob())
    assert known is not None
    assert (known.value.state, known.value.deliveries) == (ArrivalState.ASSIGNED, 2)


def test_a_write_does_not_count_redeliveries_twice(ledger: TableLedger) -> None:
    for _ in range(3):
        ledger.record_arrival(make_arrival())
    known = ledger.get_arrival(make_blob())
    assert known is not None

    written = ledger.update_arrival(known, known.value.assign(RunId("run-a"), NOON))
    ledger.update_arrival(written, written.value.mark_scored(RunId("run-a"), NOON))

    (entry,) = ledger.arrivals_of_path("tidegatelocal", "input", "flights/new/2013-07.parquet")
    assert (entry.value.state, entry.value.deliveries) == (ArrivalState.SCORED, 3)


def test_many_arrivals_are_changed_across_partitions(ledger: TableLedger) -> None:
    entries = [ledger.record_arrival(make_arrival(make_blob(f"{index}")))[0] for index in range(60)]
    stale = entries[30]
    ledger.update_arrival(stale, stale.value.hold_because("no_model_yet", NOON))

    written = ledger.update_arrivals([(entry, entry.value.assign(RunId("run-a"), NOON)) for entry in entries])

    assert [index for index, entry in enumerate(written) if entry is None] == [30]


def test_many_arrivals_are_read_at_once(ledger: TableLedger) -> None:
    first, _, _ = ledger.record_arrival(make_arrival(make_blob("a")))

    found = ledger.get_arrivals([make_blob("none"), make_blob("a")])

    assert found == [None, first]


def test_arrivals_of_one_path_are_all_its_versions_and_no_others(ledger: TableLedger) -> None:
    for name, etag in (("a", "0x1"), ("a", "0x2"), ("ab", "0x1")):
        ledger.record_arrival(make_arrival(make_blob(name, etag=etag)))

    found = ledger.arrivals_of_path("tidegatelocal", "input", "flights/new/a")

    assert sorted(entry.value.blob.etag for entry in found) == ["0x1", "0x2"]


def test_a_new_version_of_a_known_path_says_so(ledger: TableLedger) -> None:
    """Only then the other versions are read, to supersede what is older."""
    _, first, _ = ledger.record_arrival(make_arrival(make_blob("a", etag="0x1")))
    _, other, _ = ledger.record_arrival(make_arrival(make_blob("b", etag="0x1")))
    _, newer, _ = ledger.record_arrival(make_arrival(make_blob("a", etag="0x2")))

    assert first is not None
    assert other is not None
    assert newer is not None
    assert (first.is_known_path, other.is_known_path, newer.is_known_path) == (False, False, True)
