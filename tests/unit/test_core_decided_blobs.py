"""Holds decisions about blobs to their rules: pure, total, always with a reason."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.decided import (
    Hold,
    Skip,
)
from functions.core.decisions import COMMITTING_APIS, decide, is_newer
from functions.core.explain import explain
from functions.core.model import (
    BlobCreated,
    BlobVersion,
    OtherBlobEvent,
    RunRequested,
    SlotDue,
)
from functions.core.reasons import SkipReason
from functions.core.routing import find_route
from tests.strategies import blob_events, blob_versions, run_requests, slots
from tests.support.decisions import HERE, PIPELINES, SCORE, T0, make_blob, make_created, make_pipelines, reason_of


def test_one_byte_is_content() -> None:
    """R03: a file with nothing in it is none, one with a byte is for the run to judge."""
    anything = replace(PIPELINES.get(SCORE).routes[0], min_size_bytes=0, content_types=frozenset())
    pipelines = replace(PIPELINES, pipelines=(replace(PIPELINES.get(SCORE), routes=(anything,)),))

    one, none = (decide(make_created("new/a.csv", size_bytes=size), pipelines, HERE) for size in (1, 0))

    assert isinstance(one, Hold)
    assert reason_of(none) is SkipReason.ZERO_BYTES


def test_wanted_blob_is_held_for_its_pipeline() -> None:
    decision = decide(make_created(), PIPELINES, HERE)

    assert isinstance(decision, Hold)
    assert (decision.pipeline, decision.route, decision.wait_s) == (SCORE, "parquet", 0)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (make_created(account="other"), SkipReason.FOREIGN_ACCOUNT),
        (make_created("manifests/score/x.json", container="tidegate"), SkipReason.CONTROL_CONTAINER),
        (make_created("poison/x.json", container="deadletter"), SkipReason.CONTROL_CONTAINER),
        (make_created("score/batch=1/part-0.parquet", container="scores"), SkipReason.OWN_OUTPUT),
        (make_created(api="CreateFile", size_bytes=0), SkipReason.UNCOMMITTED_API),
        (make_created(api="SetBlobProperties"), SkipReason.UNCOMMITTED_API),
        (make_created(size_bytes=0), SkipReason.ZERO_BYTES),
        (make_created(container="elsewhere"), SkipReason.UNKNOWN_CONTAINER),
        (make_created("somebody", container="scores"), SkipReason.UNKNOWN_CONTAINER),
        (make_created("history/2013-01.parquet"), SkipReason.TRAINING_DATA),
        (make_created("newer/a.parquet"), SkipReason.NO_ROUTE),
        (make_created("new/deep/a.txt"), SkipReason.NO_ROUTE),
        (make_created("new/../new/a.txt"), SkipReason.NO_ROUTE),
    ],
    ids=lambda value: value.value if isinstance(value, SkipReason) else value.blob.path,
)
def test_unwanted_blob_is_skipped_with_the_reason(event: BlobCreated, reason: SkipReason) -> None:
    """R03, R20: nothing is ignored in silence."""
    assert reason_of(decide(event, PIPELINES, HERE)) is reason


def test_deletion_is_recorded_and_starts_nothing() -> None:
    event = OtherBlobEvent(
        event_id="e", event_time=T0, event_type="Microsoft.Storage.BlobDeleted", api="DeleteBlob", blob=make_blob()
    )

    decision = decide(event, PIPELINES, HERE)

    assert str(decision) == "only created blobs start runs: Microsoft.Storage.BlobDeleted"


@pytest.mark.parametrize("api", sorted(COMMITTING_APIS))
def test_every_committing_call_counts(api: str) -> None:
    assert isinstance(decide(make_created(api=api), PIPELINES, HERE), Hold)


@given(event=blob_events(), account=st.booleans())
def test_own_outputs_and_own_data_never_trigger(event: BlobCreated, account: bool) -> None:
    """I8, whatever the name, the call and the size."""
    for container, prefix in (("scores", "score/"), ("tidegate", ""), ("deadletter", "")):
        blob = replace(event.blob, account="acct", container=container, path=prefix + event.blob.path)

        assert isinstance(decide(replace(event, blob=blob), PIPELINES, HERE), Skip)


@given(event=blob_events(blob=blob_versions(account=st.sampled_from(["acct", "other"]), container=st.sampled_from(
    ["input", "scores", "tidegate", "elsewhere"]))) | slots | run_requests)  # fmt: skip
def test_any_event_has_a_decision_and_always_the_same(event: BlobCreated | SlotDue | RunRequested) -> None:
    """R15: pure and total."""
    first = decide(event, PIPELINES, HERE)

    assert first == decide(event, PIPELINES, HERE)
    assert json.dumps(explain(event, first, HERE)) == json.dumps(explain(event, first, HERE))
    if isinstance(first, Skip | Hold):
        assert first.reason.sentence


@given(path=st.text(max_size=30))
def test_route_in_never_matches_inbox(path: str) -> None:
    routing = find_route(make_blob("newx/" + path), "", PIPELINES)

    assert routing.route is None


@pytest.mark.parametrize(
    ("blob", "content_type", "why"),
    [
        (make_blob(container="other"), "", "container 'other' is not 'input'"),
        (make_blob("old/a.csv"), "", "the path does not begin with 'new/'"),
        (make_blob("new/a/b.csv"), "", "'a/b.csv' does not match '*.csv'"),
        (make_blob("new/a.csv", size_bytes=9), "", "9 bytes are less than 10"),
        (make_blob("new/a.csv", size_bytes=1001), "", "1001 bytes are more than 1000"),
        (make_blob("new/a.csv"), "image/png", "content type 'image/png' is not one of text/csv"),
        (make_blob("new/a.csv"), "Text/CSV; charset=utf-8", "matches input/new/*.csv"),
    ],
)
def test_route_says_why(blob: BlobVersion, content_type: str, why: str) -> None:
    """R04."""
    tried = find_route(blob, content_type, PIPELINES).tried

    assert (tried[0].pipeline, tried[0].route, tried[0].why) == (SCORE, "csv", why)
    assert tried[0].is_match == why.startswith("matches")


def test_suffix_that_does_not_match_is_named() -> None:
    tried = find_route(make_blob("new/a.txt"), "", PIPELINES).tried

    assert tried[1].why == "the path does not end with '.parquet'"


def test_first_route_that_matches_wins() -> None:
    overlapping = make_pipelines("""
[pipelines.late]
kind = "scoring"
job = "scoring"
model = "main.tidegate.m"
[[pipelines.late.routes]]
name = "all"
container = "input"
prefix = "new/"
[pipelines.late.output]
container = "late"
""")

    assert find_route(make_blob("new/a.parquet"), "", overlapping).tried[-1].pipeline == SCORE
    assert find_route(make_blob("new/a.txt"), "", overlapping).tried[-1].pipeline == "late"


@pytest.mark.parametrize(
    ("one", "other", "is_later"),
    [
        ({"sequencer": "0a", "etag": "2"}, {"sequencer": "9", "etag": "1"}, True),
        ({"sequencer": "9", "etag": "2"}, {"sequencer": "0a", "etag": "1"}, False),
        ({"sequencer": None, "etag": "2"}, {"sequencer": "1", "etag": "1"}, False),
        ({"sequencer": "2", "etag": "2"}, {"sequencer": None, "etag": "1"}, False),
        ({"sequencer": "2", "etag": "1"}, {"sequencer": "1", "etag": "1"}, False),
        ({"sequencer": "2", "etag": "2", "container": "other"}, {"sequencer": "1", "etag": "1"}, False),
    ],
)
def test_sequencers_order_versions_of_one_path(one: dict[str, Any], other: dict[str, Any], is_later: bool) -> None:
    """R12: opaque texts of any width, and only where both are known."""
    assert is_newer(make_blob(**one), make_blob(**other)) == is_later


def test_version_that_was_overtaken_is_not_scored() -> None:
    """R12: an older version whose event comes late starts nothing."""
    known = make_blob(sequencer="00ff", etag="newer")
    situation = replace(HERE, known_versions=(known,))

    assert reason_of(decide(make_created(sequencer="00fe"), PIPELINES, situation)) is SkipReason.OLDER_VERSION
    assert isinstance(decide(make_created(sequencer="0100"), PIPELINES, situation), Hold)
