"""When deliveries are repeated, who may publish, what may be published, and which blob requests change content."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.eventgrid import generate_sas
from multidict import CIMultiDict

from local.event_grid.auth import authorize
from local.event_grid.config import ConfigError, read_settings
from local.event_grid.errors import BadRequestError, UnauthorizedError
from local.event_grid.events import EventSchema, parse_published, rendered
from local.event_grid.schedule import (
    DeadLetterReason,
    DestinationKind,
    Failure,
    GiveUp,
    Retry,
    RetryPolicy,
    after_failure,
    has_expired,
)
from local.event_grid.storage_events import address_of, change_asked_for
from local.event_grid.store import DeliveryState, Store
from local.event_grid.wire import Json, JsonObject

KEY = "dGlkZWdhdGUtdG9waWMta2V5LW9mLXRoZS10ZXN0cw=="
TOPIC_URL = "http://127.0.0.1:4000/topics/completions/api/events"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def verdict(status: int | None, kind: DestinationKind, *, attempts: int = 1, jitter: float = 0.0) -> Retry | GiveUp:
    failure = Failure(status=status, outcome="GenericError")
    return after_failure(failure, kind=kind, policy=RetryPolicy(), attempts=attempts, jitter=jitter)


def test_waits_follow_the_documented_schedule() -> None:
    waits = [verdict(500, DestinationKind.WEBHOOK, attempts=attempts) for attempts in range(1, 13)]

    assert waits == [
        Retry(wait_s=wait) for wait in (10, 30, 60, 300, 600, 1800, 3600, 10800, 21600, 43200, 43200, 43200)
    ]


@pytest.mark.parametrize(
    ("status", "kind", "wait_s"),
    [
        (None, DestinationKind.WEBHOOK, 10),
        (404, DestinationKind.WEBHOOK, 10),
        (404, DestinationKind.AZURE_RESOURCE, 300),
        (401, DestinationKind.AZURE_RESOURCE, 300),
        (408, DestinationKind.WEBHOOK, 120),
        (503, DestinationKind.AZURE_RESOURCE, 30),
        (799, DestinationKind.WEBHOOK, 10),
    ],
)
def test_some_answers_ask_for_a_longer_wait(status: int | None, kind: DestinationKind, wait_s: float) -> None:
    assert verdict(status, kind) == Retry(wait_s=wait_s)


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, DestinationKind.WEBHOOK, DeadLetterReason.BAD_REQUEST),
        (413, DestinationKind.WEBHOOK, DeadLetterReason.TOO_LARGE),
        (403, DestinationKind.WEBHOOK, DeadLetterReason.FORBIDDEN),
        (401, DestinationKind.WEBHOOK, DeadLetterReason.UNAUTHORIZED),
        (400, DestinationKind.AZURE_RESOURCE, DeadLetterReason.BAD_REQUEST),
        (413, DestinationKind.AZURE_RESOURCE, DeadLetterReason.TOO_LARGE),
        (403, DestinationKind.AZURE_RESOURCE, DeadLetterReason.FORBIDDEN),
    ],
)
def test_refusals_that_cannot_change_are_final(status: int, kind: DestinationKind, reason: DeadLetterReason) -> None:
    assert verdict(status, kind) == GiveUp(reason=reason)


def test_the_last_attempt_is_final() -> None:
    assert verdict(500, DestinationKind.WEBHOOK, attempts=29) == Retry(wait_s=43200)
    assert verdict(500, DestinationKind.WEBHOOK, attempts=30) == GiveUp(reason=DeadLetterReason.MAX_ATTEMPTS)


def test_jitter_lengthens_a_wait_by_at_most_a_tenth() -> None:
    assert verdict(500, DestinationKind.WEBHOOK, jitter=0.5) == Retry(wait_s=10.5)


def test_time_to_live_counts_from_publishing() -> None:
    policy = RetryPolicy(event_ttl_minutes=1)

    assert not has_expired(published_at=0, now=60, policy=policy, time_scale=1)
    assert has_expired(published_at=0, now=60.1, policy=policy, time_scale=1)
    assert has_expired(published_at=0, now=0.7, policy=policy, time_scale=0.01)


def may_publish(**headers: str) -> None:
    authorize(headers=CIMultiDict(headers), query={}, url=TOPIC_URL, keys=("bm90IHRoaXM=", KEY), now=NOW)


def test_any_key_of_the_topic_authorizes() -> None:
    may_publish(**{"aeg-sas-key": KEY})
    authorize(headers={}, query={"aeg-sas-key": KEY}, url=TOPIC_URL, keys=(KEY,), now=NOW)


@pytest.mark.parametrize(
    "expiry", [NOW + timedelta(minutes=5), (NOW + timedelta(minutes=5)).strftime("%m/%d/%Y %I:%M:%S %p")]
)
def test_the_vendors_signatures_authorize(expiry: Any) -> None:
    token = generate_sas(TOPIC_URL, KEY, expiry)

    may_publish(**{"aeg-sas-token": token})
    may_publish(Authorization=f"SharedAccessSignature {token}")


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "Request must contain one of the following authorization signature: aeg-sas-token, aeg-sas-key."),
        ({"aeg-sas-key": "wrong"}, "The request authorization key is not authorized for 127.0.0.1:4000."),
        ({"aeg-sas-key": "ключ"}, "is not authorized"),
        ({"aeg-sas-token": generate_sas(TOPIC_URL, KEY, NOW - timedelta(seconds=1))}, "expired"),
        ({"aeg-sas-token": generate_sas(TOPIC_URL, "bm9uZQ==", NOW + timedelta(hours=1))}, "signature does not match"),
        (
            {"aeg-sas-token": generate_sas(TOPIC_URL.replace("completions", "x"), KEY, NOW + timedelta(hours=1))},
            "another",
        ),
        ({"aeg-sas-token": "r=1"}, "must have r, e and s"),
        ({"Authorization": "Bearer x"}, "authorization token is not authorized"),
    ],
)
def test_everything_else_is_unauthorized(headers: dict[str, str], words: str) -> None:
    with pytest.raises(UnauthorizedError, match=words):
        may_publish(**headers)


EVENT: JsonObject = {
    "id": "1",
    "subject": "s",
    "eventType": "t",
    "eventTime": "2026-01-01T00:00:00.1234567Z",
    "data": {"a": 1},
    "dataVersion": "1",
}
CLOUD_EVENT: JsonObject = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "subject": "s", "data": 1}


def published(document: Json, schema: EventSchema, content_type: str = "application/json") -> list[JsonObject]:
    found = parse_published(
        json.dumps(document).encode(),
        headers=CIMultiDict({"Content-Type": content_type}),
        schema=schema,
        topic="completions",
        topic_id="/topics/completions",
    )
    return [event.body for event in found]


def test_event_grid_events_get_topic_and_metadata_version() -> None:
    assert published([EVENT], EventSchema.EVENT_GRID) == [
        {**EVENT, "topic": "/topics/completions", "metadataVersion": "1"}
    ]


def test_cloud_events_come_alone_or_in_batches() -> None:
    kinds = ("application/cloudevents+json; charset=utf-8", "application/json")
    assert [published(CLOUD_EVENT, EventSchema.CLOUD_EVENTS, kind) for kind in kinds] == [[CLOUD_EVENT]] * 2
    batch = published([CLOUD_EVENT, CLOUD_EVENT], EventSchema.CLOUD_EVENTS, "application/cloudevents-batch+json")
    assert batch == [CLOUD_EVENT, CLOUD_EVENT]


def test_cloud_events_in_binary_mode_are_put_together() -> None:
    headers = CIMultiDict(
        {
            "ce-specversion": "1.0",
            "ce-id": "1",
            "ce-source": "/s",
            "ce-type": "t%20u",
            "Content-Type": "application/json",
        }
    )

    (event,) = parse_published(b'{"a":1}', headers=headers, schema=EventSchema.CLOUD_EVENTS, topic="c", topic_id="/c")

    assert event.body["type"] == "t u"
    assert event.body["data"] == {"a": 1}


@pytest.mark.parametrize(
    ("document", "schema", "kind", "words"),
    [
        ([], EventSchema.EVENT_GRID, "application/json", "does not conform"),
        (
            {},
            EventSchema.EVENT_GRID,
            "application/json",
            "Token Expected: StartArray, Actual Token Received: StartObject",
        ),
        ([3], EventSchema.EVENT_GRID, "application/json", "does not conform"),
        ([CLOUD_EVENT], EventSchema.EVENT_GRID, "application/json", "'EventGridEvent' schema"),
        ([EVENT | {"id": ""}], EventSchema.EVENT_GRID, "application/json", "requires 'id' property"),
        ([EVENT | {"eventTime": "soon"}], EventSchema.EVENT_GRID, "application/json", "'eventTime' is not"),
        ([EVENT | {"topic": "/other"}], EventSchema.EVENT_GRID, "application/json", "'topic' must be"),
        ([EVENT | {"metadataVersion": "2"}], EventSchema.EVENT_GRID, "application/json", "'metadataVersion'"),
        ([EVENT | {"data": "\ud800"}], EventSchema.EVENT_GRID, "application/json", "does not conform"),
        (
            [{name: EVENT[name] for name in EVENT if name != "data"}],
            EventSchema.EVENT_GRID,
            "application/json",
            "'data'",
        ),
        (
            [CLOUD_EVENT],
            EventSchema.CLOUD_EVENTS,
            "application/json",
            "Expected: StartObject, Actual Token Received: StartArray",
        ),
        (CLOUD_EVENT, EventSchema.CLOUD_EVENTS, "application/cloudevents-batch+json", "Token Expected: StartArray"),
        (CLOUD_EVENT | {"specversion": "0.3"}, EventSchema.CLOUD_EVENTS, "application/json", "must be '1.0'"),
        (CLOUD_EVENT | {"type": None}, EventSchema.CLOUD_EVENTS, "application/json", "requires 'type' property"),
        (CLOUD_EVENT | {"time": "noon"}, EventSchema.CLOUD_EVENTS, "application/json", "'time' is not"),
        (CLOUD_EVENT | {"trace_parent": "x"}, EventSchema.CLOUD_EVENTS, "application/json", "lower-case letters"),
        (CLOUD_EVENT | {"data_base64": "eA=="}, EventSchema.CLOUD_EVENTS, "application/json", "exclude each other"),
        (EVENT, EventSchema.CLOUD_EVENTS, "application/json", "'CloudEventV10' schema"),
    ],
)
def test_what_does_not_fit_the_topic_is_refused(document: Json, schema: EventSchema, kind: str, words: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        published(document, schema, kind)

    assert words in str(caught.value)
    assert caught.value.detail_code == "InputJsonInvalid"


def test_an_event_grid_event_can_be_delivered_as_a_cloud_event() -> None:
    (event,) = parse_published(
        json.dumps([EVENT]).encode(), headers={}, schema=EventSchema.EVENT_GRID, topic="c", topic_id="/topics/c"
    )

    assert rendered(event, EventSchema.CLOUD_EVENTS) == {
        "specversion": "1.0",
        "id": "1",
        "source": "/topics/c",
        "type": "t",
        "subject": "s",
        "time": "2026-01-01T00:00:00.1234567Z",
        "data": {"a": 1},
    }


@pytest.mark.parametrize(
    ("path", "host", "container", "name"),
    [
        ("/lake/in/a%20b%23%25.txt", "127.0.0.1:1", "in", "a b#%.txt"),
        ("/in/a/b.txt", "lake.blob.localhost:1", "in", "a/b.txt"),
        ("/lake/in/%C3%A9", "localhost", "in", "é"),
        ("/lake/top.txt", "127.0.0.1:1", "$root", "top.txt"),
    ],
)
def test_blobs_are_found_in_both_styles_of_address(path: str, host: str, container: str, name: str) -> None:
    address = address_of(path, host=host, account="lake")

    assert address is not None
    assert (address.container, address.path) == (container, name)


@pytest.mark.parametrize(
    "path", ["/", "/lake", "/lake/", "/lake/in/", "/other/in/a", "/lake/$logs/a", "/lake/$blobchangefeed/a"]
)
def test_other_requests_are_about_no_blob(path: str) -> None:
    assert address_of(path, host="127.0.0.1:1", account="lake") is None


@pytest.mark.parametrize(
    ("method", "target", "headers", "api"),
    [
        ("PUT", "/lake/in/a", {"x-ms-blob-type": "BlockBlob", "Content-Length": "3"}, "PutBlob"),
        ("PUT", "/lake/in/a?sv=1&sig=x", {"x-ms-blob-type": "AppendBlob", "Content-Length": "0"}, "PutBlob"),
        ("PUT", "/lake/in/a?comp=blocklist", {}, "PutBlockList"),
        ("PUT", "/lake/in/a?COMP=blocklist&timeout=3", {}, "PutBlockList"),
        ("PUT", "/lake/in/a", {"x-ms-copy-source": "http://x"}, "CopyBlob"),
        ("PUT", "/lake/in/a", {"x-ms-copy-source": "http://x", "x-ms-blob-type": "BlockBlob"}, "PutBlob"),
        ("DELETE", "/lake/in/a", {}, "DeleteBlob"),
        ("DELETE", "/lake/in/a", {"x-ms-delete-snapshots": "include"}, "DeleteBlob"),
        ("DELETE", "/lake/in/a", {"x-ms-delete-snapshots": "only"}, None),
        ("DELETE", "/lake/in/a?snapshot=2026", {}, None),
        ("DELETE", "/lake/in?restype=container", {}, None),
        ("PUT", "/lake/in?restype=container", {}, None),
        ("PUT", "/lake/in/a?comp=block&blockid=x", {}, None),
        ("PUT", "/lake/in/a?comp=block&blockid=x", {"x-ms-copy-source": "http://x"}, None),
        ("PUT", "/lake/in/a?comp=metadata", {}, None),
        ("PUT", "/lake/in/a?comp=lease", {}, None),
        ("PUT", "/lake/in/a?comp=appendblock", {}, None),
        ("GET", "/lake/in/a", {}, None),
    ],
)
def test_only_requests_that_commit_or_delete_change_content(
    method: str, target: str, headers: dict[str, str], api: str | None
) -> None:
    change = change_asked_for(method, target, CIMultiDict({"Host": "127.0.0.1", **headers}), account="lake")

    assert (None if change is None else change.api) == api


def test_the_configuration_names_every_mistake(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(
        json.dumps(
            {
                "account": "",
                "azurite_blob": "http://x",
                "queue_endpoint": 3,
                "colour": 1,
                "time_scale": 0,
                "topics": [{"name": "t", "input_schema": "Avro"}, {"name": "t", "key": KEY}],
                "subscriptions": [
                    {"name": "a", "source": "nowhere", "destination": {"type": "EventHub"}},
                    {
                        "name": "b",
                        "source": "storage",
                        "destination": {"type": "StorageQueue"},
                        "retry": {"attempts": 3},
                    },
                ],
            }
        )
    )

    with pytest.raises(ConfigError) as caught:
        read_settings(file)

    for word in (
        "account must", "account_key must", "queue_endpoint must", "'colour'", "time_scale must", "key must", "Avro",
        "'t' occurs twice", "nowhere", "EventHub", "queue must", "'attempts'",
    ):  # fmt: skip
        assert any(word in mistake for mistake in caught.value.mistakes), word


def test_an_accepted_event_is_there_after_the_process_is_gone(tmp_path: Path) -> None:
    (event,) = parse_published(
        json.dumps([EVENT]).encode(), headers={}, schema=EventSchema.EVENT_GRID, topic="c", topic_id="/topics/c"
    )
    before = Store(tmp_path)
    before.accept([(event, ["c/one", "c/two"])], now=5.0, counter=("sequencer", 7))

    store = Store(tmp_path)

    assert [item.event for item in store.due("c/one", now=5.0, limit=10)] == [event]
    assert store.due("c/one", now=4.9, limit=10) == []
    assert store.next_due("c/two", after=4.0) == 5.0
    assert store.counter("sequencer") == 7
    store.close()
    before.close()


def test_settled_events_are_forgotten_and_pending_ones_are_not(tmp_path: Path) -> None:
    events = [
        parse_published(
            json.dumps([EVENT | {"id": str(number)}]).encode(),
            headers={},
            schema=EventSchema.EVENT_GRID,
            topic="c",
            topic_id="/topics/c",
        )[0]
        for number in range(5)
    ]
    store = Store(tmp_path)
    store.accept([(event, ["c/one"]) for event in events], now=1.0)
    pending, *others = store.due("c/one", now=1.0, limit=10)
    store.settle([item.id for item in others], DeliveryState.DELIVERED)

    store.forget_settled(keep=1)

    kept = store.deliveries(event_id=None, subject_contains=None, limit=10)
    assert [item.event.id for item in kept] == ["4", "0"]
    assert pending.event.id == "0"
    store.close()
