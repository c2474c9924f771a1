"""Holds the ledger to listing runs and arrivals newest first, across months and pipelines."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from functions.adapters.table_ledger import TableLedger
from functions.core.model import ArrivalState, PipelineKey
from tests.support.control_plane import make_blob
from tests.support.ledger_at_noon import NOON, PIPELINE, make_arrival, make_run

BEFORE, AFTER = NOON - timedelta(1), NOON + timedelta(1)


def test_runs_are_listed_newest_first_across_months(ledger: TableLedger) -> None:
    times = [datetime(2025, 11, 30, 23, 59, 59, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), NOON]
    for index, at in enumerate(times):
        ledger.insert_run(make_run(at=at, name=str(index)))

    all_of_them = ledger.runs([PIPELINE], since=datetime(2025, 1, 1, tzinfo=UTC), until=NOON + timedelta(1), limit=10)
    newest = ledger.runs([PIPELINE], since=datetime(2025, 1, 1, tzinfo=UTC), until=NOON + timedelta(1), limit=1)
    recent = ledger.runs([PIPELINE], since=datetime(2026, 1, 1, tzinfo=UTC), until=NOON, limit=10)

    assert [run.cause.at for run in all_of_them] == times[::-1]
    assert [run.cause.at for run in newest] == [NOON]
    assert [run.cause.at for run in recent] == [times[1]]


def test_arrivals_are_listed_newest_first_since_a_time(ledger: TableLedger) -> None:
    for minute, name in ((0, "a"), (1, "b"), (2, "c")):
        ledger.record_arrival(make_arrival(make_blob(name), at=NOON + timedelta(minutes=minute)))

    found = ledger.arrivals([PIPELINE], since=NOON + timedelta(minutes=1), until=NOON + timedelta(1), limit=10)
    before = ledger.arrivals([PIPELINE], since=NOON, until=NOON + timedelta(minutes=2), limit=1)

    assert [arrival.blob.path for arrival in found] == ["flights/new/c", "flights/new/b"]
    assert [arrival.blob.path for arrival in before] == ["flights/new/b"]


def test_arrivals_of_several_pipelines_and_of_none_are_listed_in_one_order(ledger: TableLedger) -> None:
    for minute, name in ((0, "a"), (1, "b"), (2, "c")):
        state = ArrivalState.IGNORED if name == "b" else ArrivalState.HELD
        ledger.record_arrival(make_arrival(make_blob(name), state=state, at=NOON + timedelta(minutes=minute)))

    everything = ledger.arrivals([PIPELINE, None, PipelineKey("another")], limit=10, since=BEFORE, until=AFTER)
    unwanted = ledger.arrivals([None], limit=10, since=BEFORE, until=AFTER)
    chosen = ledger.arrivals(
        [PIPELINE], limit=1, where=lambda arrival: arrival.blob.path.endswith("a"), since=BEFORE, until=AFTER
    )

    assert [arrival.blob.path[-1] for arrival in everything] == ["c", "b", "a"]
    assert [arrival.blob.path[-1] for arrival in unwanted] == ["b"]
    assert [arrival.blob.path[-1] for arrival in chosen] == ["a"]


def test_arrivals_are_listed_across_months_and_more_than_one_reading(ledger: TableLedger) -> None:
    new_year = datetime(2026, 1, 1, tzinfo=UTC)
    for index in range(-3, 120):
        ledger.record_arrival(make_arrival(make_blob(f"{index}"), at=new_year + timedelta(seconds=index)))

    found = ledger.arrivals([PIPELINE], since=new_year - timedelta(seconds=2), until=NOON, limit=1000)

    names = [arrival.blob.path.rpartition("/")[2] for arrival in found]
    assert names == [f"{index}" for index in range(119, -3, -1)]


def test_an_arrival_that_was_given_to_another_pipeline_is_listed_as_its_own_once(ledger: TableLedger) -> None:
    entry, _, _ = ledger.record_arrival(make_arrival(state=ArrivalState.IGNORED))
    ledger.update_arrival(entry, entry.value.replay(PIPELINE, NOON, "a person mended the route"))

    both = ledger.arrivals([PIPELINE, None], limit=10, since=BEFORE, until=AFTER)
    nobodys = ledger.arrivals([None], limit=10, since=BEFORE, until=AFTER)

    assert [arrival.pipeline for arrival in both] == [PIPELINE]
    assert nobodys == []


def test_the_arrivals_of_a_run_are_found_without_its_manifest(ledger: TableLedger) -> None:
    run = replace(make_run(), arrival_count=2)
    for name in ("a", "b", "c"):
        entry, _, _ = ledger.record_arrival(make_arrival(make_blob(name)))
        if name != "c":
            ledger.update_arrival(entry, entry.value.assign(run.id, NOON))

    found = ledger.arrivals_of_run(run)

    assert sorted(blob.path[-1] for blob in found) == ["a", "b"]
