"""Which events a subscription's filter lets through."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.event_grid.filters import FilterError, parse_filter
from local.event_grid.wire import JsonObject

BLOB_CREATED: JsonObject = {
    "id": "1",
    "topic": "/subscriptions/0/storageAccounts/lake",
    "subject": "/blobServices/default/containers/Inputs/blobs/2013/01.parquet",
    "eventType": "Microsoft.Storage.BlobCreated",
    "eventTime": "2026-01-01T00:00:00Z",
    "dataVersion": "2",
    "data": {
        "api": "PutBlockList",
        "contentLength": 524288,
        "ratio": 0.5,
        "isFinal": True,
        "nothing": None,
        "tags": ["Red", "green"],
        "sizes": [1, 20],
        "inner": {"deep": {"name": "Ada"}},
    },
}
COMPLETED: JsonObject = {
    "specversion": "1.0",
    "id": "r.1.completed",
    "source": "/tidegate/local",
    "type": "tidegate.scoring.completed",
    "subject": "pipelines/scoring/runs/r",
    "traceparent": "00-abc-def-01",
    "data": {"rows": 10},
}


def passes(condition: dict[str, Any], event: JsonObject = BLOB_CREATED, **filters: Any) -> bool:
    return parse_filter({"advancedFilters": [condition], **filters}).matches(event)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, True),
        ({"includedEventTypes": ["microsoft.storage.blobcreated"]}, True),
        ({"includedEventTypes": ["Microsoft.Storage.BlobDeleted"]}, False),
        ({"includedEventTypes": ["All"]}, True),
        ({"subjectBeginsWith": "/blobServices/default/containers/inputs/"}, True),
        ({"subjectBeginsWith": "/blobServices/default/containers/inputs/", "isSubjectCaseSensitive": True}, False),
        ({"subjectEndsWith": ".PARQUET"}, True),
        ({"subjectEndsWith": ".csv"}, False),
        ({"subjectBeginsWith": "/blobServices/", "subjectEndsWith": ".csv"}, False),
    ],
)
def test_type_and_subject_select(document: JsonObject, expected: bool) -> None:
    assert parse_filter(document).matches(BLOB_CREATED) is expected


@pytest.mark.parametrize(
    ("operator", "key", "argument", "expected"),
    [
        ("NumberIn", "data.contentLength", [1, 524288], True),
        ("NumberIn", "data.api", [524288], False),
        ("NumberIn", "data.isFinal", [1], False),
        ("NumberNotIn", "data.contentLength", [524288], False),
        ("NumberNotIn", "data.contentLength", [1], True),
        ("NumberNotIn", "data.absent", [1], True),
        ("NumberLessThan", "data.contentLength", 524288, False),
        ("NumberLessThan", "data.ratio", 0.6, True),
        ("NumberLessThan", "data.absent", 1, False),
        ("NumberGreaterThan", "data.contentLength", 0, True),
        ("NumberGreaterThan", "data.contentLength", 524288, False),
        ("NumberLessThanOrEquals", "data.contentLength", 524288, True),
        ("NumberGreaterThanOrEquals", "data.contentLength", 524289, False),
        ("NumberInRange", "data.contentLength", [[0, 1], [524288, 600000]], True),
        ("NumberInRange", "data.ratio", [[1, 2]], False),
        ("NumberNotInRange", "data.ratio", [[1, 2], [3, 4]], True),
        ("NumberNotInRange", "data.ratio", [[1, 2], [0, 1]], False),
        ("NumberNotInRange", "data.absent", [[1, 2]], False),
        ("BoolEquals", "data.isFinal", True, True),
        ("BoolEquals", "data.isFinal", False, False),
        ("BoolEquals", "data.contentLength", True, False),
        ("StringIn", "data.api", ["putblob", "PUTBLOCKLIST"], True),
        ("StringIn", "data.absent", ["x"], False),
        ("StringNotIn", "data.api", ["putblob"], True),
        ("StringNotIn", "data.api", ["PUTBLOCKLIST"], False),
        ("StringNotIn", "data.absent", ["x"], True),
        ("StringContains", "subject", ["/2013/", "/2014/"], True),
        ("StringNotContains", "Subject", ["/2013/"], False),
        ("StringNotContains", "data.absent", ["x"], False),
        ("StringBeginsWith", "EventType", ["microsoft.storage"], True),
        ("StringNotBeginsWith", "eventType", ["Microsoft.Storage", "x"], False),
        ("StringEndsWith", "Topic", ["/LAKE"], True),
        ("StringNotEndsWith", "Topic", ["/sea"], True),
        ("StringIn", "DataVersion", ["2"], True),
        ("StringIn", "Id", ["1"], True),
        ("StringIn", "data.inner.deep.name", ["ada"], True),
        ("StringIn", "data.inner.deep.name.more", ["ada"], False),
        ("IsNullOrUndefined", "data.nothing", None, True),
        ("IsNullOrUndefined", "data.absent", None, True),
        ("IsNullOrUndefined", "data.api", None, False),
        ("IsNotNull", "data.api", None, True),
        ("IsNotNull", "data.nothing", None, False),
        ("IsNotNull", "data.absent", None, False),
    ],
)
def test_advanced_operators_decide(operator: str, key: str, argument: Any, expected: bool) -> None:
    """A missing key meets NumberNotIn, StringNotIn and IsNullOrUndefined only."""
    field = "values" if isinstance(argument, list) else "value"

    assert passes({"operatorType": operator, "key": key, field: argument}) is expected


@pytest.mark.parametrize(
    ("key", "value"),
    [("type", "tidegate.scoring.completed"), ("source", "/tidegate/local"), ("traceparent", "00-abc-def-01")],
)
def test_cloud_events_are_filtered_by_their_own_attributes(key: str, value: str) -> None:
    assert passes({"operatorType": "StringIn", "key": key, "values": [value]}, COMPLETED)
    assert not passes({"operatorType": "StringIn", "key": key, "values": ["other"]}, COMPLETED)


def test_advanced_filters_must_all_hold() -> None:
    large: JsonObject = {"operatorType": "NumberGreaterThan", "key": "data.contentLength", "value": 0}
    other: JsonObject = {"operatorType": "StringIn", "key": "data.api", "values": ["CopyBlob"]}

    assert parse_filter({"advancedFilters": [large]}).matches(BLOB_CREATED)
    assert not parse_filter({"advancedFilters": [large, other]}).matches(BLOB_CREATED)


@pytest.mark.parametrize(
    ("operator", "key", "values", "expected"),
    [
        ("StringIn", "data.tags", ["GREEN"], True),
        ("StringNotIn", "data.tags", ["green"], False),
        ("StringNotIn", "data.tags", ["blue"], True),
        ("StringNotContains", "data.tags", ["e"], False),
        ("NumberInRange", "data.sizes", [[10, 30]], True),
        ("NumberNotInRange", "data.sizes", [[10, 30]], False),
    ],
)
def test_arrays_are_searched_only_if_the_filter_says_so(operator: str, key: str, values: Any, expected: bool) -> None:
    """One element is enough for an assertion; a negation must hold for every element."""
    condition = {"operatorType": operator, "key": key, "values": values}

    assert passes(condition, enableAdvancedFilteringOnArrays=True) is expected
    assert not passes(condition)


def test_every_mistake_is_named_at_once() -> None:
    document: JsonObject = {
        "subjectBeginsWith": 3,
        "includedEventTypes": "All",
        "colour": "red",
        "advancedFilters": [
            {"operatorType": "StringLike", "key": "a", "values": ["x"]},
            {"operatorType": "StringIn", "key": "", "values": []},
            {"operatorType": "NumberInRange", "key": "a", "values": [[1]]},
            {"operatorType": "BoolEquals", "key": "a", "value": "yes"},
            {"operatorType": "StringIn", "key": "a", "values": ["x" * 513]},
        ],
    }

    with pytest.raises(FilterError) as caught:
        parse_filter(document)

    assert len(caught.value.mistakes) == 9
    for word in (
        "subjectBeginsWith",
        "includedEventTypes",
        "colour",
        "StringLike",
        "[1].key",
        "[1].values",
        "pair",
        "true or false",
        "512",
    ):
        assert word in str(caught.value)


@pytest.mark.parametrize(("filters", "values"), [(26, 1), (2, 13)])
def test_more_than_twenty_five_filters_or_values_are_refused(filters: int, values: int) -> None:
    condition: JsonObject = {"operatorType": "StringIn", "key": "subject", "values": ["x"] * values}

    with pytest.raises(FilterError, match="at most 25"):
        parse_filter({"advancedFilters": [condition] * filters})


_SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "B", "ab"])
_NEGATIONS = {"StringNotIn": "StringIn", "NumberNotIn": "NumberIn"}


@given(value=_SCALARS, wanted=st.lists(st.sampled_from(["a", "b", "AB"]), min_size=1, max_size=5))
def test_in_and_not_in_disagree_on_every_scalar(value: Any, wanted: list[str]) -> None:
    event: JsonObject = {**BLOB_CREATED, "data": {"field": value}}

    is_in = passes({"operatorType": "StringIn", "key": "data.field", "values": wanted}, event)
    is_not_in = passes({"operatorType": "StringNotIn", "key": "data.field", "values": wanted}, event)

    assert is_in is not is_not_in
