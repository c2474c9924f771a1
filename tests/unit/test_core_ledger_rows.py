"""Tests how arrivals and runs are written as rows, and what people are shown of them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.errors import InvalidDocumentError
from functions.core.ledger import (
    Arrival,
    Run,
)
from functions.core.ledger_rows import (
    arrival_from_row,
    arrival_to_public_json,
    arrival_to_row,
    run_from_row,
    run_to_public_json,
    run_to_row,
)
from functions.core.lineage import ModelRef
from functions.core.model import (
    Outcome,
    RunKind,
)
from functions.core.rows import pack_row, unpack_row
from functions.core.run_transitions import (
    begin_next_attempt,
    end_run,
    mark_published,
)
from functions.core.setback import Setback
from tests.strategies import arrivals, runs, texts
from tests.support.ledger_entries import (
    BASE,
    DATABRICKS_RUN,
    LATER,
    RUN_ID,
    TOKEN,
    ended,
    make_arrival,
    make_event,
    make_run,
    submitted,
)


@given(arrival=arrivals())
def test_arrival_survives_its_row(arrival: Arrival) -> None:
    row = arrival_to_row(arrival)

    assert arrival_from_row({**row, "PartitionKey": "p", "RowKey": "r"}) == arrival
    assert all(isinstance(value, str | int) for value in row.values())


@given(run=runs())
def test_run_survives_its_row(run: Run) -> None:
    row = run_to_row(run)

    assert run_from_row({**row, "PartitionKey": "p", "RowKey": "r"}) == run
    assert all(len(value) <= 16_000 for value in row.values() if isinstance(value, str))


@given(values=st.dictionaries(st.from_regex(r"[a-z]{1,6}", fullmatch=True), texts | st.integers(-5, 5) | st.booleans()))
def test_any_values_survive_packing(values: dict[str, str | int | bool]) -> None:
    assert unpack_row(pack_row({**values, "absent": None})) == values


def test_long_text_is_cut_into_properties_and_joined_again() -> None:
    """Table Storage takes 32,768 UTF-16 units a property; a completion event may be longer."""
    text = "\U0001f30a" * 40_001

    row = pack_row({"a": text, "b": ""})

    assert [len(str(row[name])) for name in ("a", "a__1", "a__2")] == [16_000, 16_000, 8_001]
    assert unpack_row(row) == {"a": text, "b": ""}


def test_row_with_a_lost_beginning_is_refused() -> None:
    with pytest.raises(InvalidDocumentError, match="a chunk without its beginning"):
        unpack_row({"a__1": "x"})


def test_large_number_never_reaches_a_row() -> None:
    with pytest.raises(ValueError, match="must fit 32 bits"):
        pack_row({"a": 2**31})


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 3},
        {"state": "lost"},
        {"size_bytes": "many"},
        {"recorded_at": "yesterday"},
        {"history": "{"},
        {"history": "[[1]]"},
        {"state": "scored"},
    ],
    ids=str,
)
def test_wrong_arrival_row_is_refused(changes: dict[str, object]) -> None:
    """A row of a later schema, or one that someone edited, is told rather than misread."""
    with pytest.raises(InvalidDocumentError):
        arrival_from_row(arrival_to_row(make_arrival()) | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"stages": '{"flying":true}'},
        {"stages": "[]}"},
        {"manifest_url": "elsewhere"},
        {"completion": "{}"},
        {"attempts": "[3]"},
        {"state": "ended"},
        {"databricks_run_id": "x"},
    ],
    ids=str,
)
def test_wrong_run_row_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidDocumentError):
        run_from_row(run_to_row(make_run()) | changes)


def test_a_hint_that_cannot_be_read_costs_no_run() -> None:
    """A release before writes a run's row without its setback, a later one may write it in another form."""
    run = replace(make_run(), setback=Setback(kind="ThrottledError", error="slow", at=LATER, tries=3, wait_s=8))
    row = run_to_row(run)

    assert run_from_row(row) == run
    assert run_from_row({name: value for name, value in row.items() if name != "setback"}).setback is None
    for text in ("{}", "[", "3", '{"kind":"x","error":"y","at":"z","tries":0,"wait_s":1e400}'):
        assert run_from_row(row | {"setback": text}).setback is None


def test_people_see_a_run_with_these_keys() -> None:
    """What `tidegate runs --json` promises."""
    shown = run_to_public_json(ended(Outcome.COMPLETED))

    promised = {
        "id": RUN_ID,
        "pipeline": "scoring",
        "kind": "scoring",
        "state": "ended",
        "outcome": "completed",
        "attempt": 1,
        "token": TOKEN,
        "databricks_run_id": DATABRICKS_RUN,
        "model_version": "3",
        "arrivals": [],
        "scores_url": f"{BASE}/scores/x",
        "completion_event_id": f"{RUN_ID}.1.completed",
        "created_at": "2026-01-01T00:00:00.000000Z",
        "finished_at": "2026-01-01T00:01:00.000000Z",
    }
    assert {key: shown[key] for key in promised} == promised


def test_people_see_nothing_that_is_not_there_yet() -> None:
    shown = run_to_public_json(make_run(manifest=None))

    absent = ("outcome", "token", "databricks_run_id", "scores_url", "completion_event_id", "finished_at")
    assert [shown[key] for key in (*absent, "manifest_url", "run_page_url")] == [None] * 8
    assert run_to_public_json(ended())["scores_url"] is None  # it has failed: whatever is there is not proven


def test_people_see_the_version_that_a_training_run_made() -> None:
    run = submitted(kind=RunKind.TRAINING)
    model = ModelRef(name="main.tidegate.model", version="4")

    run = end_run(run, make_event(run, outputs=None, model=model), LATER)

    assert run_to_public_json(run)["model_version"] == "4"
    assert run_to_public_json(make_run(kind=RunKind.TRAINING))["model_version"] is None


def test_people_see_where_an_arrival_stands() -> None:
    shown = arrival_to_public_json(make_arrival().assign(RUN_ID, LATER))

    assert (shown["state"], shown["run_id"], shown["url"]) == ("assigned", RUN_ID, f"{BASE}/input/in/a.parquet")
    assert shown["history"] == [{"state": "assigned", "at": "2026-01-01T00:01:00.000000Z", "note": RUN_ID}]


def test_people_see_what_became_of_earlier_attempts() -> None:
    run = mark_published(ended(), LATER)

    again = begin_next_attempt(run, LATER, after=1, reason="asked for")

    assert run_to_public_json(again)["attempts"] == [
        {
            "number": 1,
            "token": TOKEN,
            "databricks_run_id": DATABRICKS_RUN,
            "outcome": "failed",
            "reason": run.reason,
            "ended_at": "2026-01-01T00:01:00.000000Z",
        }
    ]
