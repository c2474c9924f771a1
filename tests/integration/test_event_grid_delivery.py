"""Delivery to webhooks and queues: handshakes, retries, dead letters, and survival of a crash."""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.credentials import AzureKeyCredential
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridEvent, EventGridPublisherClient
from azure.storage.blob import BlobServiceClient, ContainerClient
from azure.storage.queue import QueueClient, QueueServiceClient

from tests.support.azurite import Azurite, azurite_running
from tests.support.event_grid import TOPIC_KEY, EventGrid, eventually, make_config, running_event_grid
from tests.support.webhook import Answer, Received, consenting, running_webhook

pytestmark = pytest.mark.integration

CONFIG: dict[str, Any] = {
    "time_scale": 0.001,
    "delivery_timeout_s": 1,
    "topics": [
        {"name": "classic", "key": TOPIC_KEY, "input_schema": "EventGridSchema"},
        {"name": "cloud", "key": TOPIC_KEY, "input_schema": "CloudEventSchemaV1_0"},
    ],
}
SCOPE = "/subscriptions/0/resourceGroups/g/providers/Microsoft.EventGrid/topics"


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    with azurite_running() as running:
        with BlobServiceClient.from_connection_string(running.connection_string) as service:
            service.create_container("deadletter")
        yield running


@pytest.fixture(scope="module")
def grid(azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventGrid]:
    with running_event_grid(make_config(azurite, **CONFIG), tmp_path_factory.mktemp("grid")) as running:
        yield running


@pytest.fixture
def dead_letters(azurite: Azurite) -> Iterator[Callable[[str], list[tuple[str, list[dict[str, Any]]]]]]:
    """Return a function that reads a subscription's dead letters: name and document of each blob."""
    with ContainerClient.from_connection_string(azurite.connection_string, "deadletter") as container:

        def read(subscription: str) -> list[tuple[str, list[dict[str, Any]]]]:
            names = container.list_blob_names(name_starts_with=f"{subscription.upper()}/")
            return [(name, json.loads(container.download_blob(name).readall())) for name in names]

        yield read


@pytest.fixture
def subscribe(grid: EventGrid) -> Iterator[Callable[..., requests.Response]]:
    """Return a function that subscribes a webhook or a queue; the subscriptions are deleted afterwards.

    Raw HTTP in ARM's shape, because these tests look at the answers' bodies; test_event_grid_topics.py does the same
    through the vendor's management client.
    """
    made: list[str] = []

    def put(name: str, *, topic: str = "classic", **properties: Any) -> requests.Response:
        url = f"{grid.url}{SCOPE}/{topic}/providers/Microsoft.EventGrid/eventSubscriptions/{name}"
        made.append(url)
        return requests.put(url, json={"properties": properties}, timeout=10)

    yield put
    for url in made:
        requests.delete(url, timeout=5)


def to_webhook(url: str, **properties: Any) -> dict[str, Any]:
    return {"endpointType": "WebHook", "properties": {"endpointUrl": url, **properties}}


def to_queue(name: str) -> dict[str, Any]:
    return {"endpointType": "StorageQueue", "properties": {"queueName": name}}


DEAD_LETTERS = {"endpointType": "StorageBlob", "properties": {"blobContainerName": "deadletter"}}


def publish(grid: EventGrid, *subjects: str) -> None:
    events = [EventGridEvent(subject=subject, event_type="Landed", data={}, data_version="2.1") for subject in subjects]
    with EventGridPublisherClient(grid.topic_endpoint("classic"), AzureKeyCredential(TOPIC_KEY)) as client:
        client.send(events)


def publish_cloud(grid: EventGrid, *ids: str) -> None:
    events: list[CloudEvent[dict[str, int]]] = [CloudEvent(source="/s", type="Landed", data={}, id=key) for key in ids]
    with EventGridPublisherClient(grid.topic_endpoint("cloud"), AzureKeyCredential(TOPIC_KEY)) as client:
        client.send(events)


def refusing(*statuses: int) -> Callable[[Received], Answer]:
    """Consent to handshakes; answer deliveries with these statuses in turn, then take them."""
    left = list(statuses)

    def answer(request: Received) -> Answer:
        if request.headers.get("aeg-event-type") == "Notification" and left:
            return Answer(status=left.pop(0))
        return consenting(request)

    return answer


def test_a_webhook_gets_events_with_the_services_headers(
    grid: EventGrid, subscribe: Callable[..., requests.Response]
) -> None:
    mappings = [
        {"name": "x-static", "type": "Static", "properties": {"value": "fixed", "isSecret": False}},
        {"name": "x-subject", "type": "Dynamic", "properties": {"sourceField": "subject"}},
    ]
    with running_webhook() as hook:
        made = subscribe("hook-1", destination=to_webhook(f"{hook.url}?code=a%2Fb", deliveryAttributeMappings=mappings))
        publish(grid, "one")
        (delivery,) = eventually(lambda: hook.notifications)

    assert made.status_code == 201
    assert made.json()["properties"]["provisioningState"] == "Succeeded"
    assert "code=" not in made.text, "a key in the URL is not shown"
    assert delivery.path == "/hook?code=a%2Fb"
    assert [event["subject"] for event in delivery.document] == ["one"], "an array even for one event"
    expected = {
        "content-type": "application/json; charset=utf-8",
        "aeg-event-type": "Notification",
        "aeg-subscription-name": "HOOK-1",
        "aeg-delivery-count": "0",
        "aeg-data-version": "2.1",
        "aeg-metadata-version": "1",
        "x-static": "fixed",
        "x-subject": "one",
    }
    assert expected.items() <= delivery.headers.items()


def test_the_validation_event_is_the_documented_one(subscribe: Callable[..., requests.Response]) -> None:
    with running_webhook() as hook:
        subscribe("hook-validation", destination=to_webhook(hook.url))

    (handshake,) = hook.received
    (event,) = handshake.document
    assert handshake.headers["aeg-event-type"] == "SubscriptionValidation"
    assert event["eventType"] == "Microsoft.EventGrid.SubscriptionValidationEvent"
    assert set(event["data"]) == {"validationCode", "validationUrl"}


def test_a_cloud_events_webhook_consents_by_options(
    grid: EventGrid, subscribe: Callable[..., requests.Response]
) -> None:
    with running_webhook() as hook:
        subscribe("hook-cloud", topic="cloud", destination=to_webhook(hook.url))
        publish_cloud(grid, "c-1")
        (delivery,) = eventually(lambda: hook.notifications)

    assert hook.received[0].method == "OPTIONS"
    assert hook.received[0].headers["webhook-request-origin"] == "eventgrid.azure.net"
    assert delivery.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert delivery.document["id"] == "c-1"


@pytest.mark.parametrize("topic", ["classic", "cloud"])
def test_an_endpoint_that_refuses_the_handshake_gets_no_subscription(
    topic: str, grid: EventGrid, subscribe: Callable[..., requests.Response]
) -> None:
    with running_webhook(lambda request: Answer(status=404)) as hook:
        made = subscribe("hook-refused", topic=topic, destination=to_webhook(hook.url))

    assert made.status_code == 400
    assert made.json()["error"]["code"] == "Url validation"
    assert len(hook.received) == 2, "asked once more"
    shown = requests.get(f"{grid.url}{SCOPE}/{topic}/eventSubscriptions/hook-refused", timeout=5)
    assert shown.status_code == 404


def test_202_is_no_answer_to_a_validation_event(subscribe: Callable[..., requests.Response]) -> None:
    def answer(request: Received) -> Answer:
        return Answer(status=202, body=consenting(request).body)

    with running_webhook(answer) as hook:
        made = subscribe("hook-202", destination=to_webhook(hook.url))

    assert made.status_code == 400


def test_a_silent_endpoint_waits_until_somebody_opens_the_url(
    grid: EventGrid, subscribe: Callable[..., requests.Response]
) -> None:
    with running_webhook(lambda request: Answer()) as hook:
        made = subscribe("hook-manual", destination=to_webhook(hook.url))
        publish(grid, "too early")
        opened = requests.get(hook.received[0].document[0]["data"]["validationUrl"], timeout=5)
        publish(grid, "in time")
        eventually(lambda: hook.notifications)

    assert made.json()["properties"]["provisioningState"] == "AwaitingManualAction"
    assert opened.status_code == 200
    assert [item.document[0]["subject"] for item in hook.notifications] == ["in time"]


def test_a_failing_webhook_is_tried_again(grid: EventGrid, subscribe: Callable[..., requests.Response]) -> None:
    with running_webhook(refusing(500, 503, 302, 299)) as hook:
        subscribe("hook-retry", destination=to_webhook(hook.url))
        publish(grid, "again")
        eventually(lambda: len(hook.notifications) == 5)

    assert [item.headers["aeg-delivery-count"] for item in hook.notifications] == ["0", "1", "2", "3", "4"]
    assert len({item.document[0]["id"] for item in hook.notifications}) == 1


@pytest.mark.parametrize(
    ("status", "reason", "outcome"),
    [
        (400, "UndeliverableDueToHttpBadRequest", "BadRequest"),
        (401, "UndeliverableDueToHttpUnauthorized", "Unauthorized"),
        (403, "UndeliverableDueToHttpForbidden", "Forbidden"),
        (413, "UndeliverableDueToHttpRequestEntityTooLarge", "PayloadTooLarge"),
    ],
)
def test_a_final_refusal_is_dead_lettered_at_once(
    status: int,
    reason: str,
    outcome: str,
    grid: EventGrid,
    subscribe: Callable[..., requests.Response],
    dead_letters: Callable[[str], list[tuple[str, list[dict[str, Any]]]]],
) -> None:
    name = f"hook-final-{status}"
    with running_webhook(refusing(status)) as hook:
        subscribe(name, destination=to_webhook(hook.url), deadLetterDestination=DEAD_LETTERS)
        publish(grid, "refused")
        ((path, (letter,)),) = eventually(lambda: dead_letters(name))

    assert len(hook.notifications) == 1
    now = time.gmtime()
    assert path.startswith(f"{name.upper()}/{now.tm_year}/{now.tm_mon}/")
    assert path.endswith(".json")
    assert (letter["deadLetterReason"], letter["deliveryAttempts"], letter["lastDeliveryOutcome"]) == (
        reason,
        1,
        outcome,
    )
    assert {"publishTime", "lastDeliveryAttemptTime"} <= letter.keys()
    assert letter["subject"] == "refused"


def test_the_last_attempt_is_dead_lettered_in_lower_case_for_cloud_events(
    grid: EventGrid,
    subscribe: Callable[..., requests.Response],
    dead_letters: Callable[[str], list[tuple[str, list[dict[str, Any]]]]],
) -> None:
    with running_webhook(refusing(*[500] * 9)) as hook:
        subscribe(
            "hook-attempts",
            topic="cloud",
            destination=to_webhook(hook.url),
            retryPolicy={"maxDeliveryAttempts": 3},
            deadLetterDestination=DEAD_LETTERS,
        )
        publish_cloud(grid, "spent")
        ((_, (letter,)),) = eventually(lambda: dead_letters("hook-attempts"))

    assert len(hook.notifications) == 3
    assert (letter["deadletterreason"], letter["deliveryattempts"]) == ("MaxDeliveryAttemptsExceeded", 3)
    assert letter["specversion"] == "1.0"


def test_an_event_older_than_its_time_to_live_is_not_tried_again(
    grid: EventGrid,
    subscribe: Callable[..., requests.Response],
    dead_letters: Callable[[str], list[tuple[str, list[dict[str, Any]]]]],
) -> None:
    """One scaled minute is 60 ms: the third wait, 60 ms after 10 and 30 ms, ends beyond it."""
    with running_webhook(refusing(*[500] * 30)) as hook:
        subscribe(
            "hook-ttl",
            destination=to_webhook(hook.url),
            retryPolicy={"eventTimeToLiveInMinutes": 1},
            deadLetterDestination=DEAD_LETTERS,
        )
        publish(grid, "old")
        ((_, (letter,)),) = eventually(lambda: dead_letters("hook-ttl"))

    assert letter["deadLetterReason"] == "TimeToLiveExceeded"
    assert 1 <= len(hook.notifications) <= 3


def test_a_refused_event_without_dead_letter_destination_is_dropped(
    grid: EventGrid, subscribe: Callable[..., requests.Response]
) -> None:
    with running_webhook(refusing(401)) as hook:
        subscribe("hook-drop", destination=to_webhook(hook.url))
        publish(grid, "dropped")
        eventually(lambda: hook.notifications)

        def states() -> set[str]:
            found = requests.get(f"{grid.url}/_deliveries", params={"subject_contains": "dropped"}, timeout=5).json()
            return {item["state"] for item in found["deliveries"] if item["subscription"] == "hook-drop"}

        assert eventually(lambda: states() == {"dropped"})


def test_a_slow_webhook_times_out_and_holds_up_nobody(
    azurite: Azurite, grid: EventGrid, subscribe: Callable[..., requests.Response]
) -> None:
    release, answered = threading.Event(), threading.Event()

    def answer(request: Received) -> Answer:
        if request.headers.get("aeg-event-type") == "Notification":
            release.wait(60)
            answered.set()
        return consenting(request)

    with (
        running_webhook(answer) as hook,
        QueueClient.from_connection_string(azurite.connection_string, "beside") as queue,
    ):
        queue.create_queue()
        subscribe("hook-slow", destination=to_webhook(hook.url))
        subscribe("queue-beside", destination=to_queue("beside"))
        publish(grid, "slow")

        try:
            assert eventually(queue.receive_message)
            assert not answered.is_set()
            eventually(lambda: len(hook.notifications) >= 2)
        finally:
            release.set()


def test_an_unreachable_webhook_is_tried_until_it_is_there(
    grid: EventGrid, subscribe: Callable[..., requests.Response]
) -> None:
    def outcome() -> list[str]:
        found = requests.get(f"{grid.url}/_deliveries", params={"subject_contains": "unreachable"}, timeout=5).json()
        return [item["last_outcome"] for item in found["deliveries"] if item["subscription"] == "hook-gone"]

    with running_webhook() as hook:
        subscribe("hook-gone", destination=to_webhook(hook.url))
    publish(grid, "unreachable")

    assert eventually(lambda: outcome() == ["SocketError"])
    with running_webhook(port=int(hook.url.split(":")[2].split("/")[0])) as hook:
        assert eventually(lambda: hook.notifications)


def test_batches_hold_as_many_events_as_asked_for(grid: EventGrid, subscribe: Callable[..., requests.Response]) -> None:
    with running_webhook() as hook:
        subscribe("hook-batch", topic="cloud", destination=to_webhook(hook.url, maxEventsPerBatch=10))
        publish_cloud(grid, *(f"b-{number}" for number in range(25)))
        eventually(lambda: sum(len(item.document) for item in hook.notifications) == 25)

    assert {item.headers["content-type"] for item in hook.notifications} == {
        "application/cloudevents-batch+json; charset=utf-8"
    }
    assert max(len(item.document) for item in hook.notifications) == 10
    assert sorted(event["id"] for item in hook.notifications for event in item.document) == sorted(
        f"b-{number}" for number in range(25)
    )


def test_a_missing_queue_gets_its_events_once_it_is_made(
    azurite: Azurite, grid: EventGrid, subscribe: Callable[..., requests.Response]
) -> None:
    subscribe("queue-late", destination=to_queue("late"))
    publish(grid, "early bird")

    with QueueClient.from_connection_string(azurite.connection_string, "late") as queue:
        queue.create_queue()
        message = eventually(queue.receive_message)

    assert message is not None
    assert json.loads(base64.b64decode(message.content))["subject"] == "early bird"


def test_an_event_too_large_for_a_queue_message_is_dead_lettered(
    azurite: Azurite,
    grid: EventGrid,
    subscribe: Callable[..., requests.Response],
    dead_letters: Callable[[str], list[tuple[str, list[dict[str, Any]]]]],
) -> None:
    """A message has at most 64 KiB, of which base64 takes a quarter."""
    with QueueServiceClient.from_connection_string(azurite.connection_string) as service:
        service.create_queue("narrow")
    subscribe("queue-narrow", destination=to_queue("narrow"), deadLetterDestination=DEAD_LETTERS)

    publish(grid, "x" * 50_000)

    ((_, (letter,)),) = eventually(lambda: dead_letters("queue-narrow"))
    assert letter["lastDeliveryOutcome"] == "PayloadTooLarge"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def test_an_accepted_event_survives_a_crash_before_its_delivery(azurite: Azurite, tmp_path: Path) -> None:
    """The publisher got its 200, nothing was delivered yet, the emulator is killed: it delivers after the restart."""
    config = make_config(azurite, **CONFIG)
    with running_webhook() as hook:
        with running_event_grid(config, tmp_path) as grid:
            url = f"{grid.url}{SCOPE}/classic/eventSubscriptions/hook-crash"
            requests.put(url, json={"properties": {"destination": to_webhook(hook.url)}}, timeout=5).raise_for_status()
            fault = {"kind": "delay_delivery", "delay_s": 2, "times": None}
            requests.post(f"{grid.url}/_faults", json=fault, timeout=5).raise_for_status()
            publish(grid, *(f"survivor {number}" for number in range(20)))
            grid.kill()
            assert hook.notifications == []

        with running_event_grid(config, tmp_path):
            eventually(lambda: len(hook.notifications) == 20)

    assert {item.document[0]["subject"] for item in hook.notifications} == {f"survivor {n}" for n in range(20)}


def test_no_accepted_event_is_lost_however_often_it_crashes(azurite: Azurite, tmp_path: Path) -> None:
    """Killed while publishing and delivering at full speed; at-least-once holds for every answered event."""
    queue_config = {"name": "all", "source": "cloud", "destination": {"type": "StorageQueue", "queue": "crashes"}}
    config = make_config(azurite, **CONFIG, subscriptions=[queue_config])
    accepted: set[str] = set()
    for generation in range(3):
        with running_event_grid(config, tmp_path) as grid:
            threading.Timer(0.3, grid.kill).start()
            for number in range(10_000):
                event = {"specversion": "1.0", "id": f"{generation}-{number}", "source": "/s", "type": "t"}
                headers = {"aeg-sas-key": TOPIC_KEY, "Content-Type": "application/cloudevents+json"}
                try:
                    answer = requests.post(grid.topic_endpoint("cloud"), json=event, headers=headers, timeout=5)
                except requests.RequestException:
                    break
                assert answer.status_code == 200
                accepted.add(event["id"])

    delivered: set[str] = set()
    with (
        running_event_grid(config, tmp_path),
        QueueClient.from_connection_string(azurite.connection_string, "crashes") as queue,
    ):

        def all_arrived() -> bool:
            for message in queue.receive_messages(messages_per_page=32, visibility_timeout=60):
                delivered.add(json.loads(base64.b64decode(message.content))["id"])
            return accepted <= delivered

        assert eventually(all_arrived, within_s=60)
    assert len(accepted) > 10


def test_subscriptions_made_at_run_time_survive_a_restart(azurite: Azurite, tmp_path: Path) -> None:
    config = make_config(azurite, **CONFIG)
    with running_webhook() as hook:
        with running_event_grid(config, tmp_path) as grid:
            url = f"{grid.url}{SCOPE}/classic/eventSubscriptions/hook-kept"
            requests.put(url, json={"properties": {"destination": to_webhook(hook.url)}}, timeout=5).raise_for_status()
            assert grid.stop() == 0

        with running_event_grid(config, tmp_path) as grid:
            publish(grid, "after the restart")
            eventually(lambda: hook.notifications)


def test_a_webhook_of_the_configuration_file_may_start_later(azurite: Azurite, tmp_path: Path) -> None:
    port = free_port()
    webhook = {
        "name": "later",
        "source": "classic",
        "destination": {"type": "WebHook", "url": f"http://127.0.0.1:{port}/hook"},
    }
    config = make_config(azurite, **CONFIG, subscriptions=[webhook])

    def state(grid: EventGrid) -> str:
        shown = requests.get(f"{grid.url}{SCOPE}/classic/eventSubscriptions/later", timeout=5).json()
        return str(shown["properties"]["provisioningState"])

    with running_event_grid(config, tmp_path) as own:
        assert state(own) == "Creating"
        with running_webhook(port=port) as hook:
            assert eventually(lambda: state(own) == "Succeeded")
            publish(own, "now")
            eventually(lambda: hook.notifications)


def test_it_stops_cleanly(azurite: Azurite, tmp_path: Path) -> None:
    with running_event_grid(make_config(azurite, **CONFIG), tmp_path) as grid:
        assert grid.stop() == 0
