"""Tests what a redelivery adds to an arrival, and what of it is not believed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given

from functions.core.ledger import Arrival
from functions.core.model import ArrivalSource, ArrivalState, BlobVersion, PipelineKey
from functions.core.redeliveries import differences, note_differences
from functions.core.tokens import arrival_id_of
from tests.strategies import arrivals

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BLOB = BlobVersion(
    account="tidegatelocal", container="input", path="a.csv", etag="0x1", size_bytes=1000, sequencer="0007"
)


def make_arrival(event_id: str = "e1", *, content_type: str = "text/csv", **blob: Any) -> Arrival:
    version = replace(BLOB, **blob)
    return Arrival(
        id=arrival_id_of(version),
        blob=version,
        state=ArrivalState.HELD,
        event_id=event_id,
        event_time=NOON,
        api="PutBlob",
        content_type=content_type,
        recorded_at=NOON,
        updated_at=NOON,
        pipeline=PipelineKey("p"),
    )


@pytest.mark.parametrize(
    ("again", "note"),
    [
        (make_arrival("e2", size_bytes=999), "event 'e2' says size_bytes 999, recorded is 1000"),
        (make_arrival("e2", size_bytes=0), "event 'e2' says size_bytes 0, recorded is 1000"),
        (make_arrival("e2", sequencer="0008"), "event 'e2' says sequencer '0008', recorded is '0007'"),
        (
            make_arrival("e2", content_type="text/plain"),
            "event 'e2' says content_type 'text/plain', recorded is 'text/csv'",
        ),
    ],
)
def test_events_that_contradict_each_other_are_noted_and_the_first_is_believed(again: Arrival, note: str) -> None:
    """One ETag is one content, so the second event cannot be right as well; a person must see it."""
    first = make_arrival()

    noted = note_differences(first, again)

    assert noted == replace(first, contradictions=(note,))
    assert note_differences(noted, again).contradictions == (note,)


def test_every_difference_is_noted_up_to_ten() -> None:
    noted = make_arrival()

    for number in range(20):
        noted = note_differences(noted, make_arrival(f"e{number}", size_bytes=number + 1, sequencer=f"x{number}"))

    assert len(noted.contradictions) == 10


def test_what_is_written_differently_is_the_same() -> None:
    assert differences(make_arrival(), make_arrival("e2", content_type=" Text/CSV")) == ()


def test_what_the_first_left_open_is_added_by_the_next() -> None:
    """A sweep knows no sequencer; the event that comes late does, and later versions are ordered by it."""
    swept = replace(make_arrival(sequencer=None, content_type=""), source=ArrivalSource.SWEEP)

    told = note_differences(swept, make_arrival("e2"))

    assert (told.blob.sequencer, told.content_type, told.contradictions) == ("0007", "text/csv", ())
    assert told.source is ArrivalSource.SWEEP


def test_what_the_next_leaves_open_stays() -> None:
    first = make_arrival()

    again = note_differences(first, make_arrival("e2", sequencer=None, content_type=""))

    assert again == first


@pytest.mark.parametrize("state", [ArrivalState.HELD, ArrivalState.SEAL, ArrivalState.IGNORED])
def test_an_event_that_commits_what_an_earlier_one_only_created_counts(state: ArrivalState) -> None:
    """Creating and closing an empty file may have one ETag; the creation must not hide the file."""
    created = replace(make_arrival("e1"), state=ArrivalState.IGNORED, api="CreateFile", pipeline=None, deliveries=2)
    closed = replace(make_arrival("e2"), state=state, api="FlushWithClose", recorded_at=NOON + timedelta(minutes=1))

    noted = note_differences(created, closed)

    assert noted == replace(closed, recorded_at=NOON, deliveries=2)
    assert note_differences(noted, created) == noted


@given(arrival=arrivals())
def test_the_same_event_again_never_contradicts(arrival: Arrival) -> None:
    again = replace(arrival, recorded_at=arrival.recorded_at + timedelta(seconds=1))

    assert differences(arrival, again) == ()
    assert note_differences(arrival, again) == arrival
