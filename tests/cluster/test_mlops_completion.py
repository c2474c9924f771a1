"""Tests that a completion event reaches the control plane whatever it has to say: names, reasons, numbers, size."""

import json
from typing import Any

import pytest
from typed_parameters import as_scoring
from worlds import NOW

from tidegate_mlops.completion import RunFacts, completion_event
from tidegate_mlops.errors import RefusedFile, RunError, SupersededError, reason_of
from tidegate_mlops.plan import Stage, StageOutcome, StageResult

INPUT = "https://tidegatelocal.blob.core.windows.net/input/flights/new/1/june.parquet"


def refused_in_event(scoring: dict[str, str], files: list[RefusedFile]) -> Any:
    facts = RunFacts(databricks_run_id=1, model=None, inputs=None, outputs=None, stages=[], metrics={}, refused=files)
    event: Any = completion_event(
        as_scoring(scoring), facts, outcome="failed", reason="input_refused: bad", traceparent="", now=NOW
    )
    return event["data"]["refused"]


def test_a_refused_file_whose_name_is_too_long_for_an_event_has_its_digest_there(scoring: dict[str, str]) -> None:
    """What cannot be read would be quarantined, and nobody would learn of the other refused files either."""
    long = "https://acc.blob.core.windows.net/input/" + "%E2%82%AC" * 500

    refused = refused_in_event(scoring, [RefusedFile(url=url, etag="0x1", reason="bad") for url in (long, INPUT)])

    # The control plane's tests have the same digest.
    assert refused == {
        "file_count": 2,
        "files": [{"url": INPUT, "etag": "0x1", "reason": "bad"}],
        "others": ["0b2bb4c46990"],
    }


def test_refused_files_beyond_what_an_event_can_name_have_their_digests_there(scoring: dict[str, str]) -> None:
    files = [RefusedFile(url=f"{INPUT}{index}", etag="0x1", reason="bad") for index in range(600)]

    refused = refused_in_event(scoring, files)

    assert refused["file_count"] == 600
    assert [file["url"] for file in refused["files"]] == [file.url for file in files[:20]]
    assert len(set(refused["others"])) == 200


def test_a_metric_that_is_no_number_does_not_cost_the_event(scoring: dict[str, str]) -> None:
    """JSON has no NaN: the topic refuses it, or the control plane does."""
    facts = RunFacts(
        databricks_run_id=1,
        model=None,
        inputs=None,
        outputs=None,
        stages=[],
        metrics={"gate_loss": float("nan"), "gate_champion_loss": float("inf"), "rows_in": 2.0},
    )

    event = completion_event(as_scoring(scoring), facts, outcome="completed", reason=None, traceparent="", now=NOW)

    data: Any = json.loads(json.dumps(event, allow_nan=False))["data"]
    assert data["metrics"] == {"rows_in": 2.0}


@pytest.mark.parametrize("character", ["x", '"', "\x00", "ü", "€", "😀"])
def test_the_largest_event_stays_under_64_kb(scoring: dict[str, str], character: str) -> None:
    """Every part as long as it may be, as it is sent: an event that is too large reaches nobody."""
    bad = [RefusedFile(url=f"{INPUT}{index}", etag="0x1", reason=character * 500) for index in range(500)]
    reason = reason_of(RunError(character * 5000))
    facts = RunFacts(
        databricks_run_id=1,
        model=None,
        inputs={"files": [{"url": "x" * 600, "etag": "0x1"}] * 20},
        outputs=None,
        stages=[StageResult(name=stage, outcome=StageOutcome.FAILED, duration_s=1e6, reason=reason) for stage in Stage],
        metrics={},
        consignment="input/" + character * 1024,
        replaces="p-20130701T030000Z-000000000001",
        refused=bad,
    )

    event = completion_event(as_scoring(scoring), facts, outcome="failed", reason=reason, traceparent="", now=NOW)

    data: Any = event["data"]
    assert len(json.dumps(event)) < 64 * 1024
    assert data["reason"][:14] == reason[:14]
    assert data["refused"]["file_count"] == 500
    assert data["refused"]["files"]
    assert len(data["refused"]["others"]) == 200


def test_reasons_start_with_a_code_and_are_cut() -> None:
    """Subscribers match on the code; the schema limits the length."""
    assert reason_of(SupersededError("u", "1", None)) == "superseded: u is gone, the batch was made of ETag '1'"
    assert reason_of(OSError("disk full")) == "unexpected_error: OSError: disk full"
    assert len(reason_of(RunError("x" * 5000))) == 2000
