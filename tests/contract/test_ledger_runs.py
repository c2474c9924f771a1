"""Holds the ledger to keeping each run once, and in the index of open runs until its story is over."""

from dataclasses import replace

import pytest

from functions.adapters.table_ledger import TableLedger
from functions.core.errors import LedgerConflictError
from functions.core.freezing import token_of
from functions.core.ledger import Run
from functions.core.model import DatabricksRunId, RunId
from functions.core.run_transitions import begin_next_attempt, mark_published, persist_token, record_submitted
from functions.ports import Entry, OpenRun
from tests.support.ledger_at_noon import NOON, PIPELINE, failed, make_run


def test_the_first_run_of_an_id_wins(ledger: TableLedger) -> None:
    first, is_new = ledger.insert_run(make_run())
    second, is_new_again = ledger.insert_run(replace(make_run(), model_version="8"))

    assert (is_new, is_new_again) == (True, False)
    assert second == first
    assert [run.run_id for run in ledger.open_runs()] == [make_run().id]


def test_a_run_survives_its_row_with_its_outbox(ledger: TableLedger) -> None:
    run = failed(record_submitted(persist_token(make_run(), token_of(make_run()), NOON), DatabricksRunId(2**53), NOON))
    ledger.insert_run(run)

    entry = ledger.get_run(run.id)

    assert entry is not None
    assert entry.value == run


def test_a_stale_change_of_a_run_is_refused(ledger: TableLedger) -> None:
    entry, _ = ledger.insert_run(make_run())
    submitting = persist_token(entry.value, token_of(entry.value), NOON)
    ledger.update_run(entry, submitting)

    with pytest.raises(LedgerConflictError):
        ledger.update_run(entry, submitting)


def test_a_run_is_open_until_its_end_is_announced(ledger: TableLedger) -> None:
    entry, _ = ledger.insert_run(make_run())

    entry = ledger.update_run(entry, failed(entry.value))
    unannounced = [run.run_id for run in ledger.open_runs()]
    entry = ledger.update_run(entry, mark_published(entry.value, NOON))
    announced = [run.run_id for run in ledger.open_runs()]
    ledger.update_run(entry, begin_next_attempt(entry.value, NOON, after=1, reason="again"))
    again = [run.run_id for run in ledger.open_runs(PIPELINE)]

    assert (unannounced, announced, again) == ([make_run().id], [], [make_run().id])


def test_a_repeated_insert_does_not_open_what_is_over(ledger: TableLedger) -> None:
    entry, _ = ledger.insert_run(make_run())
    entry = ledger.update_run(entry, failed(entry.value))
    ledger.update_run(entry, mark_published(entry.value, NOON))

    ledger.insert_run(make_run())

    assert list(ledger.open_runs()) == []


def test_open_runs_of_one_pipeline_are_its_own(ledger: TableLedger) -> None:
    ledger.insert_run(make_run())
    ledger.insert_run(replace(make_run(), id=RunId(f"{PIPELINE}_2-20260301T120000Z-0123456789ab")))

    assert [run.run_id for run in ledger.open_runs(PIPELINE)] == [make_run().id]


def opened_and_ended(ledger: TableLedger) -> tuple[OpenRun, Entry[Run]]:
    """Return a run's index row from before its end, and the run after it."""
    entry, _ = ledger.insert_run(make_run())
    (seen,) = ledger.open_runs()
    entry = ledger.update_run(entry, failed(entry.value))
    return seen, ledger.update_run(entry, mark_published(entry.value, NOON))


def test_an_index_row_says_after_which_version_of_a_run_its_story_goes_on(ledger: TableLedger) -> None:
    first, ended = opened_and_ended(ledger)
    ledger.update_run(ended, begin_next_attempt(ended.value, NOON, after=1, reason="again"))

    (reopened,) = ledger.open_runs()

    assert (first.reopens, reopened.reopens) == ("", ended.version)


def test_an_index_row_that_was_reopened_is_not_forgotten(ledger: TableLedger) -> None:
    seen, entry = opened_and_ended(ledger)
    ledger.update_run(entry, begin_next_attempt(entry.value, NOON, after=1, reason="again"))

    ledger.forget_open(seen)

    assert [run.run_id for run in ledger.open_runs()] == [make_run().id]
