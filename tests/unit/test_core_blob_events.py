"""Holds the reader of storage events to both schemas, odd names and refusing everything else precisely."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.core.blob_events import parse_blob_event
from functions.core.errors import InvalidEventError
from functions.core.model import BlobCreated, BlobRenamed, BlobVersion, OtherBlobEvent
from tests.strategies import paths

TOPIC = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/tidegate-local"
    "/providers/Microsoft.Storage/storageAccounts/tidegatelocal"
)
TRACEPARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"

# One recorded fixture per `data.api` that commits content (event schema of Azure Blob Storage as a source).
FIXTURES: dict[str, dict[str, Any]] = {
    "PutBlob": {"blobType": "BlockBlob", "contentLength": 524288, "contentType": "text/plain"},
    "PutBlockList": {"blobType": "BlockBlob", "contentLength": 10_000_000, "contentType": "application/octet-stream"},
    "CopyBlob": {"blobType": "BlockBlob", "contentLength": 7, "contentType": "application/octet-stream"},
    "FlushWithClose": {
        "blobType": "BlockBlob",
        "contentLength": 15,
        "contentOffset": 0,
        "contentType": "application/octet-stream",
        "identity": "$superuser",
    },
    "CreateFile": {"blobType": "BlockBlob", "contentLength": 0, "contentOffset": 0, "contentType": "text/plain"},
}


def make_event(
    api: str = "PutBlob", *, path: str = "flights/new/2013-07.parquet", url: str | None = None, **data: Any
) -> dict[str, Any]:
    host = (
        "tidegatelocal.dfs.core.windows.net"
        if "contentOffset" in FIXTURES[api]
        else "tidegatelocal.blob.core.windows.net"
    )
    return {
        "topic": TOPIC,
        "subject": f"/blobServices/default/containers/input/blobs/{path}",
        "eventType": "Microsoft.Storage.BlobCreated",
        "id": "93902694-901e-008f-6f95-7153a806873c",
        "eventTime": "2020-08-13T17:18:13.1647262Z",
        "dataVersion": "",
        "metadataVersion": "1",
        "data": {
            "api": api,
            "clientRequestId": "799304a4-bbc5-45b6-9849-ec2c66be800a",
            "requestId": "93902694-901e-008f-6f95-7153a8000000",
            "eTag": "0x8D83FACDC0C3402",
            "url": url or f"https://{host}/input/{quote(path)}",
            "sequencer": "00000000000000000000000000015508000000000005101c",
            "storageDiagnostics": {"batchId": "cfb32f79-3006-0010-0095-711faa000000"},
            **FIXTURES[api],
            **data,
        },
    }


def as_cloud_event(event: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "source": event["topic"],
        "type": event["eventType"],
        "time": event["eventTime"],
        "id": event["id"],
        "subject": event["subject"],
        "data": event["data"],
    }


def created(message: Any) -> BlobCreated:
    event = parse_blob_event(message if isinstance(message, str | bytes) else json.dumps(message))
    assert isinstance(event, BlobCreated)
    return event


def mistakes_of(message: Any) -> list[str]:
    with pytest.raises(InvalidEventError) as refused:
        parse_blob_event(message if isinstance(message, str | bytes) else json.dumps(message))
    return [str(problem) for problem in refused.value.problems]


@pytest.mark.parametrize("schema", [dict, as_cloud_event], ids=["event_grid", "cloud_events"])
@pytest.mark.parametrize("api", FIXTURES)
def test_each_api_is_read_in_both_schemas(api: str, schema: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """R12."""
    event = created(schema(make_event(api)))

    assert event == BlobCreated(
        event_id="93902694-901e-008f-6f95-7153a806873c",
        event_time=datetime(2020, 8, 13, 17, 18, 13, 164726, tzinfo=UTC),
        api=api,
        blob=BlobVersion(
            account="tidegatelocal",
            container="input",
            path="flights/new/2013-07.parquet",
            etag="0x8D83FACDC0C3402",
            size_bytes=FIXTURES[api]["contentLength"],
            sequencer="00000000000000000000000000015508000000000005101c",
        ),
        content_type=FIXTURES[api]["contentType"],
        traceparent=None,
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: text,
        str.encode,
        lambda text: f"[{text}]",
        lambda text: f"\n  {text}\n",
        lambda text: "\ufeff" + text,
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.b64encode(f"[{text}]".encode()),
        lambda text: base64.b64encode(("\ufeff" + text).encode()).decode() + "\n",
    ],
    ids=["plain", "bytes", "list", "spaces", "mark", "base64", "base64 list", "base64 mark"],
)
def test_message_comes_in_any_wrapping(wrap: Callable[[str], str | bytes]) -> None:
    """The encoding of a queue message differs between hosts and is not documented for Event Grid."""
    assert created(wrap(json.dumps(make_event()))) == created(make_event())


@given(path=paths)
@example(path="a b#c%d?e&f=g+h;i'j\"k<l>m\\n")
@example(path="%2e%2e/%41")
@example(path="//double//slashes//")
@example(path="naïve/日本語/🌊.parquet")
@example(path="..")
@example(path="blobs/containers/x/blobs/y")
@example(path="line\nbreak\u2028")
def test_any_legal_name_is_read_as_it_is(path: str) -> None:
    """The subject is plain and the URL encoded: neither is decoded twice."""
    assert created(make_event(path=path)).blob.path == path
    assert (
        created(
            make_event(path=path, url=f"https://tidegatelocal.blob.core.windows.net/input/{quote(path, safe='')}")
        ).blob.path
        == path
    )


def test_name_of_1024_characters_is_read_and_a_longer_one_refused() -> None:
    assert len(created(make_event(path="x" * 1024)).blob.path) == 1024
    assert "at most 1024 characters" in mistakes_of(make_event(path="x" * 1025))[0]


def test_url_may_leave_legal_characters_unencoded() -> None:
    event = created(make_event(path="a+b(c)é", url="https://tidegatelocal.blob.core.windows.net/input/a+b(c)é"))

    assert event.blob.path == "a+b(c)é"


@pytest.mark.parametrize("etag", ['"0x8D"', 'W/"0x8D"', "0x8D"])
def test_etag_is_the_same_with_and_without_quotes(etag: str) -> None:
    assert created(make_event(eTag=etag)).blob.etag == "0x8D"


def test_optional_facts_may_be_missing() -> None:
    event = make_event()
    del event["data"]["sequencer"], event["data"]["contentType"]

    assert created(event).blob.sequencer is None
    assert created(event).content_type == ""
    assert created(make_event(contentType=None, sequencer=None)).content_type == ""


def test_trace_context_of_a_cloud_event_goes_on() -> None:
    event = as_cloud_event(make_event())

    assert created(event | {"traceparent": TRACEPARENT}).traceparent == TRACEPARENT
    assert created(event | {"traceparent": "nonsense"}).traceparent is None


@pytest.mark.parametrize("kind", ["BlobDeleted", "DirectoryRenamed", "DirectoryCreated", "BlobTierChanged"])
def test_other_storage_events_are_recorded_not_refused(kind: str) -> None:
    event = make_event() | {"eventType": f"Microsoft.Storage.{kind}"}
    del event["data"]["eTag"], event["data"]["contentLength"], event["data"]["url"]

    other = parse_blob_event(json.dumps(event))

    assert isinstance(other, OtherBlobEvent)
    assert other.event_type == f"Microsoft.Storage.{kind}"
    assert other.blob.etag == "event:93902694-901e-008f-6f95-7153a806873c"
    assert other.blob.size_bytes == 0


def test_deletion_that_names_its_etag_keeps_it() -> None:
    other = parse_blob_event(json.dumps(make_event(eTag='"0x8D"') | {"eventType": "Microsoft.Storage.BlobDeleted"}))

    assert isinstance(other, OtherBlobEvent)
    assert other.blob.etag == "0x8D"


RENAME = {
    "topic": TOPIC,
    "subject": "/blobServices/default/containers/input/blobs/flights/new/a b.parquet",
    "eventType": "Microsoft.Storage.BlobRenamed",
    "id": "831e1650-001e-001b-66ab-eeb76e069631",
    "eventTime": "2022-04-25T19:13:00.1522383Z",
    "dataVersion": "1",
    "metadataVersion": "1",
    "data": {
        "api": "RenameFile",
        "destinationUrl": "https://tidegatelocal.dfs.core.windows.net/input/flights/new/a%20b.parquet",
        "sourceUrl": "https://tidegatelocal.dfs.core.windows.net/input/staging/a%20b.parquet",
        "sequencer": "00000000000004420000000000028963",
    },
}


def test_rename_names_the_new_path_and_no_content() -> None:
    """R12: neither ETag nor size is in the event, so neither may be made up."""
    assert parse_blob_event(json.dumps([RENAME])) == BlobRenamed(
        event_id="831e1650-001e-001b-66ab-eeb76e069631",
        event_time=datetime(2022, 4, 25, 19, 13, 0, 152238, tzinfo=UTC),
        api="RenameFile",
        account="tidegatelocal",
        container="input",
        path="flights/new/a b.parquet",
        sequencer="00000000000004420000000000028963",
    )


@pytest.mark.parametrize("url", [..., "https://tidegatelocal.dfs.core.windows.net/input/staging/a%20b.parquet"])
def test_rename_whose_destination_is_not_its_subject_is_refused(url: Any) -> None:
    data = {key: value for key, value in (RENAME["data"] | {"destinationUrl": url}).items() if value is not ...}  # type: ignore[operator] # a dict, above

    assert any(mistake.startswith("event.data.destinationUrl: ") for mistake in mistakes_of(RENAME | {"data": data}))


def changed(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in (make_event() | changes).items() if value is not ...}


BLOB = "https://tidegatelocal.blob.core.windows.net"


@pytest.mark.parametrize(
    ("message", "mistake"),
    [
        ("", "message: got 0 characters, expected an event as JSON, plain or in base64"),
        ("hello", "message: got 5 characters, expected an event as JSON, plain or in base64"),
        (b"\xff\xfe", "message: got 2 characters, expected an event as JSON, plain or in base64"),
        ("[" * 50_000, "message: got 50000 characters, expected an event as JSON, plain or in base64"),
        (" " * 300_000, "message: got 300000 characters, expected at most 262144"),
        ([], "message: got a list of 0, expected one event"),
        ([make_event(), make_event()], "message: got a list of 2, expected one event"),
        ([3], "event: got 3, expected an object"),
        (changed(id=...), "event.id: got nothing, expected text"),
        (
            changed(eventType="Contoso.Items"),
            "event.eventType: got 'Contoso.Items', expected an event type of Microsoft.Storage",
        ),
        (
            changed(topic="/subscriptions/x"),
            "event.topic: got '/subscriptions/x', expected the resource id of a storage account",
        ),
        (changed(topic=3), "event.topic: got 3, expected the resource id of a storage account"),
        (changed(eventTime="today"), "event.eventTime: got 'today', expected an ISO 8601 time with its zone"),
        (
            changed(subject="/x"),
            "event.subject: got '/x', expected /blobServices/default/containers/<container>/blobs/<path>",
        ),
        (changed(subject=3), "event.subject: got 3, expected the subject of a blob"),
        (make_event(eTag=""), "event.data.eTag: got '', expected an ETag of 1 to 256 characters"),
        (
            make_event(contentLength=-1),
            "event.data.contentLength: got -1, expected a whole number from 0 to 9223372036854775807",
        ),
        (
            make_event(contentLength="9"),
            "event.data.contentLength: got '9', expected a whole number from 0 to 9223372036854775807",
        ),
        (make_event(url="ftp://x"), "event.data.url: got 'ftp://x', expected the URL of the blob, without a query"),
        (
            make_event(url=f"{BLOB}/input/flights/new/2013-07.parquet?sig=x"),
            f"event.data.url: got '{BLOB}/input/flights/new/2013-07.pa",
        ),
        (
            make_event(url="https://evil.example.com/input/flights/new/2013-07.parquet"),
            "event.data.url: got 'https://evil.example.com/input/flights/new/2013-07.parquet'",
        ),
        (
            make_event(url="https://tidegatelocal.example.com/input/flights/new/2013-07.parquet"),
            "event.data.url: got 'https://tidegatelocal.example.com/input/flights/new/2013-07.parquet'",
        ),
        (
            make_event(url=f"{BLOB}/input/other"),
            f"event.data.url: got '{BLOB}/input/other', expected the URL of 'input",
        ),
        (as_cloud_event(make_event()) | {"specversion": "0.3"}, "event.specversion: got '0.3', expected '1.0'"),
    ],
)
def test_what_is_no_blob_event_is_refused_precisely(message: Any, mistake: str) -> None:
    """The poison queue keeps the message with a reason that a person can act on."""
    found = mistakes_of(message)

    assert any(item.startswith(mistake) for item in found), found


def test_every_mistake_of_an_event_is_listed() -> None:
    event = make_event(eTag=3, contentLength=None) | {"id": "", "topic": "x", "eventTime": ""}

    assert {mistake.split(":")[0] for mistake in mistakes_of(event)} == {
        "event.id",
        "event.topic",
        "event.eventTime",
        "event.data.eTag",
        "event.data.contentLength",
        "event.data.url",
    }


@given(message=st.text(max_size=200) | st.binary(max_size=200))
def test_any_message_is_an_event_or_refused(message: str | bytes) -> None:
    """Fuzz: no crash, whatever stands in the queue."""
    with pytest.raises(InvalidEventError):
        parse_blob_event(message)


@given(
    key=st.sampled_from(["topic", "subject", "eventType", "id", "eventTime", "data", "specversion"]),
    value=st.none() | st.integers() | st.text(max_size=20) | st.lists(st.integers(), max_size=2) | st.just({"url": {}}),
)
def test_any_value_anywhere_is_read_or_refused(key: str, value: object) -> None:
    try:
        parse_blob_event(json.dumps(make_event() | {key: value}))
    except InvalidEventError as error:
        assert error.problems != ()  # noqa: PT017 - both endings are right
