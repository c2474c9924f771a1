"""Holds the ledger of signals to one suite on tables in memory and on Azurite."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from functions.adapters.table_signals import TableSignals
from functions.adapters.tables import AzureTables
from functions.core.model import ModelSignal, PipelineKey, RunId
from functions.core.signal_records import SignalMark, SignalRecord
from tests.support.in_memory import InMemoryTables
from tests.support.records import make_signal
from tests.support.storage_ports import fresh_name, storage_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PIPELINE = PipelineKey("train")
RUN = RunId("train-20260301T120000Z-0123456789ab")


@pytest.fixture(params=["memory", pytest.param("azurite", marks=pytest.mark.integration)])
def signals(request: pytest.FixtureRequest) -> Iterator[TableSignals]:
    if request.param == "memory":
        yield TableSignals(InMemoryTables())
        return
    with storage_of(request.getfixturevalue("azurite")) as storage:
        yield TableSignals(AzureTables(storage, prefix=fresh_name("s")))


def odd_signal(event_id: str = "id with / # ? and ü") -> ModelSignal:
    return make_signal(event_id=event_id)


def make_record(signal: ModelSignal, *, minute: int = 0, run_id: RunId | None = None) -> SignalRecord:
    return SignalRecord(
        source=signal.source,
        event_id=signal.event_id,
        event_time=signal.time + timedelta(minutes=minute),
        type=signal.type.value,
        model_name=signal.model_name,
        window_start=signal.window_start,
        window_end=signal.window_end,
        recorded_at=NOON,
        pipeline=PIPELINE if run_id is not None else None,
        rule="drift" if run_id is not None else "",
        run_id=run_id,
        reason="" if run_id is not None else "no_signal_rule",
        what="it says why",
        config_version="0123",
    )


def test_the_first_record_of_a_signal_stays(signals: TableSignals) -> None:
    first = make_record(odd_signal(), run_id=RUN)
    before = signals.find(odd_signal())

    assert before is None
    assert signals.record(first) == first
    assert signals.record(make_record(odd_signal())) == first
    assert signals.find(odd_signal()) == first
    assert signals.find(odd_signal("another")) is None


def test_records_are_listed_newest_first(signals: TableSignals) -> None:
    for minute, event_id in ((1, "b"), (0, "a"), (2, "c")):
        signals.record(make_record(odd_signal(event_id), minute=minute))

    assert [record.event_id for record in signals.recent(limit=2)] == ["c", "b"]


def test_a_mark_is_claimed_by_compare_and_set(signals: TableSignals) -> None:
    """Of two windows that saw the same mark, one gets it."""
    first = SignalMark(run_id=RUN, at=NOON)

    assert signals.mark_of(PIPELINE, "drift") is None
    assert signals.claim(PIPELINE, "drift", first, None)
    assert not signals.claim(PIPELINE, "drift", first, None)
    seen = signals.mark_of(PIPELINE, "drift")
    assert seen is not None
    second = seen.value.followed_by(RunId(f"{RUN[:-1]}c"), NOON + timedelta(days=2))
    assert signals.claim(PIPELINE, "drift", second, seen)
    assert not signals.claim(PIPELINE, "drift", second, seen)
    current = signals.mark_of(PIPELINE, "drift")
    assert current is not None
    assert current.value == second
    assert signals.mark_of(PIPELINE, "decay") is None


@pytest.mark.parametrize("mark", [SignalMark(run_id=RUN, at=NOON), SignalMark(run_id=None, at=NOON)])
def test_a_mark_survives_the_table(signals: TableSignals, mark: SignalMark) -> None:
    signals.claim(PIPELINE, "drift", mark, None)

    found = signals.mark_of(PIPELINE, "drift")

    assert found is not None
    assert found.value == mark
