"""Holds explanations to what would really happen."""

import json
from pathlib import Path

from functions.core.decisions import decide
from functions.core.explain import explain, explanation_lines
from functions.core.freezing import parameters_of, token_of
from functions.core.model import (
    OtherBlobEvent,
)
from functions.core.reasons import HoldReason, SkipReason
from tests.support.decisions import (
    HERE,
    PIPELINES,
    T0,
    close,
    frozen,
    make_arrival,
    make_blob,
    make_created,
    make_pipelines,
    make_request,
    make_slot,
    started,
)

ROOT = Path(__file__).parents[2]


def test_skip_is_explained_with_every_route_that_was_tried() -> None:
    """R19."""
    event = make_created("new/a.txt", size_bytes=5)

    document = explain(event, decide(event, PIPELINES, HERE), HERE)

    assert json.loads(json.dumps(document))["decision"]["reason"] == "no_route"
    assert explanation_lines(document) == [
        "event:",
        "  kind: blob created",
        "  url: https://acct.blob.core.windows.net/input/new/a.txt",
        "  etag: 0x8D",
        "  size_bytes: 5",
        "  api: PutBlob",
        "  time: 2026-01-01T03:00:00.000000Z",
        "environment: local",
        "decision:",
        "  action: skip",
        "  reason: no_route",
        (
            "  why: no route matches the blob: score.csv: 'a.txt' does not match '*.csv'; score.parquet: the path does "
            "not end with '.parquet'"
        ),
        "routes_tried:",
        "  - pipeline score, route csv, matches no, why 'a.txt' does not match '*.csv'",
        "  - pipeline score, route parquet, matches no, why the path does not end with '.parquet'",
    ]


def test_held_arrival_is_explained_up_to_the_token_and_the_parameters() -> None:
    """R19: the token shown is the token that will be sent."""
    event = make_created()
    start = started(close([make_arrival()]))
    result = frozen(start)

    document = explain(event, decide(event, PIPELINES, HERE), HERE, then=start, frozen=result)

    shown = json.loads(json.dumps(document))
    assert shown["decision"]["action"] == "hold"
    assert shown["then"]["stages"] == {
        "validation": True, "feature_engineering": True, "batch_scoring": True, "publish": True
    }  # fmt: skip
    assert (shown["run"]["token"], shown["run"]["job"]) == (token_of(result.run), "scoring")
    assert shown["run"]["parameters"] == parameters_of(result.run)
    lines = explanation_lines(document)
    assert f"  token: {token_of(result.run)}" in lines
    assert "  files:" in lines
    assert "    - https://acct.blob.core.windows.net/input/new/a.parquet" in lines
    assert "    validation: yes" in lines


def test_a_file_that_waits_for_others_is_explained_with_what_it_waits_for() -> None:
    """R19: at once is wrong where a folder has to be complete first."""
    pipelines = make_pipelines('[pipelines.score.readiness]\nkind = "count"\ncount = 2\n')
    event = make_created("new/a.parquet")

    lines = explanation_lines(explain(event, decide(event, pipelines, HERE), HERE))

    assert f"  why: {HoldReason.NOT_READY.sentence}" in lines
    assert "  consignment: input/new/" in lines


def test_slots_requests_and_deletions_are_explained_too() -> None:
    deletion = OtherBlobEvent(event_id="e", event_time=T0, event_type="x.Deleted", api="", blob=make_blob())
    request = make_request(files=(("input", "history/a"),))

    kinds = []
    for event in (deletion, make_slot(), request):
        document = explain(event, decide(event, PIPELINES, HERE), HERE)
        kinds.append(document["event"])
        assert "routes_tried: none" in explanation_lines(document)

    assert [kind["kind"] for kind in kinds if isinstance(kind, dict)] == ["x.Deleted", "schedule", "request"]


def test_every_reason_is_documented() -> None:
    """A code that someone finds in the ledger is explained in docs/pipelines.md, in the same words."""
    text = (ROOT / "docs/pipelines.md").read_text()
    rows = [f"| `{reason.value}` | {reason.sentence} |" for reason in (*SkipReason, *HoldReason)]

    assert len(rows) > 15
    assert [row for row in rows if row not in text] == []
