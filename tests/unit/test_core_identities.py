"""Holds every identity to being derived from what it identifies, and from nothing else."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.core.model import (
    ArrivalId,
    BlobCreated,
    BlobVersion,
    JobKey,
    OtherBlobEvent,
    PipelineKey,
    RunId,
    RunRequested,
    SlotDue,
    Stage,
)
from functions.core.tokens import (
    RUN_ID_PATTERN,
    arrival_id_of,
    batch_id_of,
    digest,
    partition_of_run,
    pipeline_of_run,
    run_id_of,
    run_id_of_batch,
    run_id_of_request,
    run_id_of_slot,
    token_for,
)
from tests.strategies import blob_versions, instants, pipeline_keys, run_requests, sha256s, slots, texts

T0 = datetime(2026, 1, 1, 3, tzinfo=UTC)
BLOB = BlobVersion(account="acct", container="input", path="a b#%é.parquet", etag="0x8D", size_bytes=1)
WANTED: dict[str, Any] = {
    "environment": "local",
    "run_id": RunId("p-20260101T030000Z-0123456789ab"),
    "attempt": 1,
    "job": JobKey("scoring"),
    "stages": {Stage.PUBLISH: True, Stage.VALIDATION: False},
    "parameters": {"seed": "1"},
    "model_version": "3",
    "manifest_sha256": "a" * 64,
}


@given(left=st.lists(texts, max_size=4), right=st.lists(texts, max_size=4))
@example(left=["ab", "c"], right=["a", "bc"])
@example(left=["a", ""], right=["a"])
def test_digest_tells_any_two_lists_apart(left: Sequence[str], right: Sequence[str]) -> None:
    assert (digest(*left) == digest(*right)) == (left == right)


@given(blob=blob_versions(), size=st.integers(0, 9), sequencer=st.none() | st.just("1"))
def test_arrival_is_account_container_path_and_etag(blob: BlobVersion, size: int, sequencer: str | None) -> None:
    """R02: a redelivery is the same whatever else it says; an overwrite is another."""
    identity = arrival_id_of(blob)

    assert re.fullmatch("[0-9a-f]{64}", identity)
    assert arrival_id_of(replace(blob, size_bytes=size, sequencer=sequencer)) == identity
    others = (
        replace(blob, account=blob.account + "x"),
        replace(blob, container=blob.container + "x"),
        replace(blob, path=blob.path + "x"),
        replace(blob, etag=blob.etag + "x"),
    )
    assert identity not in {arrival_id_of(other) for other in others}


def test_arrival_id_never_changes_between_releases() -> None:
    """Ids are keys of stored rows: a change of the formula would make every redelivery a new arrival."""
    assert arrival_id_of(BLOB) == "1ce1188f28868c46871976261bc1d1f5000624625fe0c38cd66e25e529d9d93e"


@given(ids=st.lists(sha256s.map(ArrivalId), max_size=6), data=st.data())
def test_batch_is_a_set_of_arrivals(ids: list[ArrivalId], data: st.DataObject) -> None:
    """Neither the order of arrival nor repetition makes another batch."""
    shuffled = data.draw(st.permutations(ids + ids[:2]))

    assert batch_id_of(shuffled) == batch_id_of(ids)
    assert re.fullmatch("[0-9a-f]{16}", batch_id_of(ids))
    assert batch_id_of([*ids, ArrivalId("new")]) != batch_id_of(ids)


@given(pipeline=pipeline_keys, at=instants, identity=st.lists(texts, max_size=3))
def test_run_id_names_pipeline_time_and_partition(pipeline: PipelineKey, at: datetime, identity: list[str]) -> None:
    run_id = run_id_of(pipeline, at, *identity)

    assert re.fullmatch(RUN_ID_PATTERN, run_id)
    assert pipeline_of_run(run_id) == pipeline
    partition, rest = partition_of_run(run_id)
    assert partition == f"{pipeline}.{at:%Y%m}"
    assert f"{pipeline}-{rest}" == run_id


def test_run_id_is_readable() -> None:
    run_id = run_id_of(PipelineKey("flight_delay_scoring"), T0, "x")

    assert run_id.startswith("flight_delay_scoring-20260101T030000Z-")


@pytest.mark.parametrize("text", ["", "p", "p-20260101T030000Z-XYZ", "../p-20260101T030000Z-0123456789ab", "x" * 200])
def test_what_is_no_run_id_is_refused(text: str) -> None:
    """A status URL's text reaches no table key unchecked."""
    for read in (pipeline_of_run, partition_of_run):
        with pytest.raises(ValueError, match="expected a run id"):
            read(RunId(text))


@given(slot=slots, is_past_due=st.booleans())
def test_slot_is_one_run_however_often_its_timer_fires(slot: SlotDue, is_past_due: bool) -> None:
    again = replace(slot, is_past_due=is_past_due, traceparent="00-1")

    assert run_id_of_slot(again) == run_id_of_slot(slot)
    assert run_id_of_slot(replace(slot, schedule=slot.schedule + "x")) != run_id_of_slot(slot)


@given(request=run_requests)
def test_request_is_one_run_per_idempotency_key(request: RunRequested) -> None:
    assert run_id_of_request(replace(request, parameters={"seed": "1"})) == run_id_of_request(request)
    assert run_id_of_request(replace(request, request_id=request.request_id + "x")) != run_id_of_request(request)


def test_causes_of_different_kinds_are_different_runs() -> None:
    pipeline = PipelineKey("p")
    slot = SlotDue(pipeline=pipeline, schedule="x", slot=T0, is_past_due=False)
    request = RunRequested(pipeline=pipeline, request_id="x", requested_at=T0)

    run_ids = {run_id_of_slot(slot), run_id_of_request(request), run_id_of_batch(pipeline, T0, [ArrivalId("x")])}

    assert len(run_ids) == 3


def test_token_is_the_same_for_the_same_wish() -> None:
    """R21: 64 hex characters, the Jobs API's limit, whatever the order of the facts."""
    reordered = WANTED | {"stages": {Stage.VALIDATION: False, Stage.PUBLISH: True}}

    assert re.fullmatch("[0-9a-f]{64}", token_for(**WANTED))
    assert token_for(**reordered) == token_for(**WANTED)


@pytest.mark.parametrize(
    "change",
    [
        {"environment": "dev"},
        {"run_id": RunId("p-20260101T030000Z-0123456789ac")},
        {"attempt": 2},
        {"job": JobKey("training")},
        {"stages": {Stage.PUBLISH: False, Stage.VALIDATION: False}},
        {"parameters": {"seed": "2"}},
        {"model_version": None},
        {"manifest_sha256": "b" * 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_token_changes_with_everything_that_is_wanted(change: dict[str, Any]) -> None:
    """R08: above all the attempt, or a failed run could never be retried."""
    assert token_for(**WANTED | change) != token_for(**WANTED)


def test_token_needs_an_attempt() -> None:
    with pytest.raises(ValueError, match="attempt must be at least 1"):
        token_for(**WANTED | {"attempt": 0})


def test_blob_url_is_percent_encoded() -> None:
    assert BLOB.url == "https://acct.blob.core.windows.net/input/a%20b%23%25%C3%A9.parquet"
    assert json.dumps(BLOB.url).isascii()


def test_events_without_a_zone_are_not_built() -> None:
    naive = T0.replace(tzinfo=None)

    for build in (
        lambda: BlobCreated(event_id="e", event_time=naive, api="PutBlob", blob=BLOB, content_type=""),
        lambda: OtherBlobEvent(event_id="e", event_time=naive, event_type="x", api="", blob=BLOB),
        lambda: SlotDue(pipeline=PipelineKey("p"), schedule="s", slot=naive, is_past_due=False),
        lambda: RunRequested(pipeline=PipelineKey("p"), request_id="r", requested_at=naive),
    ):
        with pytest.raises(ValueError, match="must be an aware UTC datetime"):
            build()
