"""Publishing to topics and subscribing queues to them, through the vendor's clients."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.credentials import AccessToken, AzureKeyCredential, AzureSasCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.core.messaging import CloudEvent
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.eventgrid import EventGridEvent, EventGridPublisherClient, generate_sas
from azure.mgmt.eventgrid import EventGridManagementClient
from azure.mgmt.eventgrid.models import (
    EventSubscription,
    EventSubscriptionFilter,
    RetryPolicy,
    StorageQueueEventSubscriptionDestination,
    StringInAdvancedFilter,
)
from azure.storage.queue import QueueServiceClient

from tests.support.azurite import Azurite, azurite_running
from tests.support.event_grid import TOPIC_KEY, EventGrid, eventually, make_config, running_event_grid

pytestmark = pytest.mark.integration

RESOURCE_GROUP = "subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/tidegate-local"
CONFIG: dict[str, Any] = {
    "time_scale": 0.001,
    "topics": [
        {"name": "classic", "key": TOPIC_KEY, "input_schema": "EventGridSchema"},
        {"name": "cloud", "key": TOPIC_KEY, "input_schema": "CloudEventSchemaV1_0"},
    ],
    "subscriptions": [
        {"name": "classic-all", "source": "classic", "destination": {"type": "StorageQueue", "queue": "classic-all"}},
        {
            "name": "classic-as-cloud",
            "source": "classic",
            "destination": {"type": "StorageQueue", "queue": "classic-as-cloud"},
            "event_schema": "CloudEventSchemaV1_0",
        },
        {
            "name": "cloud-completed",
            "source": "cloud",
            "destination": {"type": "StorageQueue", "queue": "cloud-completed"},
            "filter": {"includedEventTypes": ["tidegate.scoring.completed"]},
        },
    ],
}


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    with azurite_running() as running:
        yield running


@pytest.fixture(scope="module")
def grid(azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventGrid]:
    with running_event_grid(make_config(azurite, **CONFIG), tmp_path_factory.mktemp("grid")) as running:
        yield running


@pytest.fixture
def messages(azurite: Azurite, grid: EventGrid) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """Return a function that takes the events out of a queue, as the vendor's client reads them."""
    with QueueServiceClient.from_connection_string(azurite.connection_string) as service:

        def take(name: str) -> list[dict[str, Any]]:
            with service.get_queue_client(name) as client:
                found = []
                for message in client.receive_messages(messages_per_page=32):
                    found.append(json.loads(base64.b64decode(message.content)))
                    client.delete_message(message)
                return found

        yield take
        # The next test starts with nothing on its way and nothing in the queues.
        eventually(lambda: "pending" not in requests.get(f"{grid.url}/_deliveries", timeout=5).text)
        for queue in service.list_queues():
            with service.get_queue_client(queue) as client:
                client.clear_messages()


def collected(count: int, take: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return `count` events, however many readings they take."""
    found: list[dict[str, Any]] = []

    def are_enough() -> bool:
        found.extend(take())
        return len(found) >= count

    eventually(are_enough)
    return found


@pytest.fixture
def publisher(grid: EventGrid) -> Iterator[Callable[[str], EventGridPublisherClient]]:
    with ExitStack() as stack:
        yield lambda topic: stack.enter_context(
            EventGridPublisherClient(grid.topic_endpoint(topic), AzureKeyCredential(TOPIC_KEY))
        )


def test_event_grid_events_arrive_in_both_schemas(
    publisher: Callable[[str], EventGridPublisherClient], messages: Callable[[str], list[dict[str, Any]]]
) -> None:
    """A queue gets one event a message: as it was published, or as a CloudEvent."""
    event = EventGridEvent(subject="flights/é", event_type="Landed", data={"rows": 3}, data_version="1.0")

    publisher("classic").send([event])

    (classic,) = eventually(lambda: messages("classic-all"))
    (cloud,) = eventually(lambda: messages("classic-as-cloud"))
    topic_id = f"/{RESOURCE_GROUP}/providers/Microsoft.EventGrid/topics/classic"
    assert EventGridEvent.from_dict(classic).data == {"rows": 3}
    assert (classic["id"], classic["subject"], classic["topic"]) == (str(event.id), "flights/é", topic_id)
    assert classic["metadataVersion"] == "1"
    assert CloudEvent.from_dict(cloud).type == "Landed"
    assert (cloud["id"], cloud["source"], cloud["data"]) == (str(event.id), topic_id, {"rows": 3})


def test_cloud_events_keep_their_extensions_and_are_filtered(
    publisher: Callable[[str], EventGridPublisherClient], messages: Callable[[str], list[dict[str, Any]]]
) -> None:
    def made(kind: str, number: int) -> CloudEvent[dict[str, int]]:
        extensions = {"traceparent": "00-aa-bb-01"}
        return CloudEvent(
            source="/tidegate/local", type=kind, data={"n": number}, id=f"r.{number}", extensions=extensions
        )

    publisher("cloud").send([made("tidegate.scoring.failed", 1), made("tidegate.scoring.completed", 2)])

    (event,) = eventually(lambda: messages("cloud-completed"))
    assert (event["id"], event["traceparent"], event["data"]) == ("r.2", "00-aa-bb-01", {"n": 2})
    assert messages("cloud-completed") == []


def test_a_binary_cloud_event_arrives_as_base64(
    publisher: Callable[[str], EventGridPublisherClient], messages: Callable[[str], list[dict[str, Any]]]
) -> None:
    publisher("cloud").send(CloudEvent(source="/s", type="tidegate.scoring.completed", data=b"\x00\xff"))

    (event,) = eventually(lambda: messages("cloud-completed"))

    assert CloudEvent.from_dict(event).data == b"\x00\xff"


def test_a_signature_of_the_topics_key_may_publish(
    grid: EventGrid, messages: Callable[[str], list[dict[str, Any]]]
) -> None:
    endpoint = grid.topic_endpoint("cloud")
    signature = generate_sas(endpoint, TOPIC_KEY, datetime.now(UTC) + timedelta(minutes=5))

    with EventGridPublisherClient(endpoint, AzureSasCredential(signature)) as client:
        client.send(CloudEvent(source="/s", type="tidegate.scoring.completed", data=1))

    assert eventually(lambda: messages("cloud-completed"))


def test_a_wrong_key_is_refused_in_the_services_words(grid: EventGrid) -> None:
    with (
        EventGridPublisherClient(grid.topic_endpoint("cloud"), AzureKeyCredential("d3Jvbmc=")) as client,
        pytest.raises(ClientAuthenticationError, match="The request authorization key is not authorized"),
    ):
        client.send(CloudEvent(source="/s", type="t", data=1))


def test_events_of_the_other_schema_are_refused(publisher: Callable[[str], EventGridPublisherClient]) -> None:
    with pytest.raises(HttpResponseError, match="configured to receive event in 'CloudEventV10' schema") as caught:
        publisher("cloud").send(EventGridEvent(subject="s", event_type="t", data=1, data_version="1"))

    assert caught.value.status_code == 400
    assert caught.value.response is not None
    assert json.loads(caught.value.response.text())["error"]["details"][0]["code"] == "InputJsonInvalid"


def test_more_than_a_megabyte_is_refused(publisher: Callable[[str], EventGridPublisherClient]) -> None:
    with pytest.raises(HttpResponseError) as caught:
        publisher("cloud").send(CloudEvent(source="/s", type="t", data="x" * 1024 * 1024))

    assert caught.value.status_code == 413


def test_an_unknown_topic_is_not_found(grid: EventGrid) -> None:
    with (
        EventGridPublisherClient(grid.topic_endpoint("nowhere"), AzureKeyCredential(TOPIC_KEY)) as client,
        pytest.raises(ResourceNotFoundError),
    ):
        client.send(CloudEvent(source="/s", type="t", data=1))


class _NoCredential:
    """Stands where the client wants a credential; no token is ever asked for, because the policy below replaces it."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        raise AssertionError("no token is needed over loopback http")


@pytest.fixture
def management(grid: EventGrid) -> Iterator[EventGridManagementClient]:
    """The vendor's management client; over http it refuses to send tokens, so it gets a policy that adds none."""
    with EventGridManagementClient(
        _NoCredential(),
        "00000000-0000-0000-0000-000000000000",
        base_url=grid.url,
        authentication_policy=SansIOHTTPPolicy(),
        polling_interval=0,
    ) as client:
        yield client


def make_subscription(queue: str, **changes: Any) -> EventSubscription:
    account = f"/{RESOURCE_GROUP}/providers/Microsoft.Storage/storageAccounts/tidegatelocal"
    destination = StorageQueueEventSubscriptionDestination(resource_id=account, queue_name=queue)
    return EventSubscription(destination=destination, **changes)


def test_a_subscription_made_at_run_time_gets_events_until_it_is_deleted(
    azurite: Azurite,
    management: EventGridManagementClient,
    publisher: Callable[[str], EventGridPublisherClient],
    messages: Callable[[str], list[dict[str, Any]]],
) -> None:
    with QueueServiceClient.from_connection_string(azurite.connection_string) as service:
        service.create_queue("run-time")
    scope = f"{RESOURCE_GROUP}/providers/Microsoft.EventGrid/topics/cloud"
    wanted = EventSubscriptionFilter(advanced_filters=[StringInAdvancedFilter(key="data.colour", values=["red"])])
    retry = RetryPolicy(max_delivery_attempts=3, event_time_to_live_in_minutes=10)
    asked = make_subscription("run-time", filter=wanted, retry_policy=retry)

    made = management.event_subscriptions.begin_create_or_update(scope, "run-time", asked).result()
    for colour in ("blue", "red"):
        publisher("cloud").send(CloudEvent(source="/s", type="t", data={"colour": colour}))

    assert made.as_dict()["provisioning_state"] == "Succeeded"
    (event,) = eventually(lambda: messages("run-time"))
    assert event["data"] == {"colour": "red"}
    shown = management.event_subscriptions.get(scope, "run-time").as_dict()
    assert shown["retry_policy"]["max_delivery_attempts"] == 3
    assert shown["event_delivery_schema"] == "CloudEventSchemaV1_0"
    listed = management.topic_event_subscriptions.list("tidegate-local", "cloud")
    assert {item.name for item in listed} == {"cloud-completed", "run-time"}

    management.topic_event_subscriptions.begin_delete("tidegate-local", "cloud", "run-time").result()

    with pytest.raises(ResourceNotFoundError):
        management.event_subscriptions.get(scope, "run-time")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"event_delivery_schema": "EventGridSchema"}, "cannot be delivered as EventGridSchema"),
        ({"retry_policy": RetryPolicy(max_delivery_attempts=31)}, "maxDeliveryAttempts"),
        (
            {"filter": EventSubscriptionFilter(advanced_filters=[StringInAdvancedFilter(key="a", values=[])])},
            "non-empty",
        ),
    ],
)
def test_a_wrong_subscription_is_refused(management: EventGridManagementClient, changes: Any, words: str) -> None:
    scope = f"{RESOURCE_GROUP}/providers/Microsoft.EventGrid/topics/cloud"

    with pytest.raises(HttpResponseError, match=words):
        management.event_subscriptions.begin_create_or_update(
            scope, "wrong", make_subscription("q", **changes)
        ).result()


def test_topics_are_shown_with_their_keys(management: EventGridManagementClient, grid: EventGrid) -> None:
    topic = management.topics.get("tidegate-local", "cloud")
    keys = management.topics.list_shared_access_keys("tidegate-local", "cloud")

    assert topic.as_dict()["endpoint"] == grid.topic_endpoint("cloud")
    assert topic.input_schema == "CloudEventSchemaV1_0"
    assert keys.key1 == TOPIC_KEY


def test_what_is_not_implemented_says_so_by_name(management: EventGridManagementClient, grid: EventGrid) -> None:
    with pytest.raises(HttpResponseError) as caught:
        management.domains.get("tidegate-local", "d")

    assert caught.value.status_code == 501
    assert "domains" in str(caught.value)
    assert requests.get(f"{grid.url}/nothing", timeout=5).status_code == 501


def test_an_event_can_be_delivered_again(
    grid: EventGrid,
    publisher: Callable[[str], EventGridPublisherClient],
    messages: Callable[[str], list[dict[str, Any]]],
) -> None:
    publisher("cloud").send(CloudEvent(source="/s", type="tidegate.scoring.completed", data=1, id="again"))
    assert [event["id"] for event in eventually(lambda: messages("cloud-completed"))] == ["again"]

    answer = requests.post(f"{grid.url}/_redeliver", json={"event_id": "again", "times": 2}, timeout=5)

    assert (answer.status_code, answer.json()) == (202, {"event_id": "again", "deliveries": 2})
    found = collected(2, lambda: messages("cloud-completed"))
    assert [event["id"] for event in found] == ["again", "again"]
    unknown = requests.post(f"{grid.url}/_redeliver", json={"event_id": "never"}, timeout=5)
    assert unknown.status_code == 404


@pytest.fixture
def script(grid: EventGrid) -> Iterator[Callable[..., None]]:
    """Return a function that scripts a fault; all of them are forgotten afterwards."""

    def add(**fault: Any) -> None:
        requests.post(f"{grid.url}/_faults", json=fault, timeout=5).raise_for_status()

    yield add
    requests.delete(f"{grid.url}/_faults", timeout=5).raise_for_status()


def deliveries_of(grid: EventGrid, event_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = requests.get(
        f"{grid.url}/_deliveries", params={"event_id": event_id}, timeout=5
    ).json()["deliveries"]
    return found


def test_a_dropped_delivery_is_made_later(
    grid: EventGrid,
    script: Callable[..., None],
    publisher: Callable[[str], EventGridPublisherClient],
    messages: Callable[[str], list[dict[str, Any]]],
) -> None:
    script(kind="drop_delivery", subscription="cloud-completed")

    publisher("cloud").send(CloudEvent(source="/s", type="tidegate.scoring.completed", data=1, id="dropped"))

    assert eventually(lambda: messages("cloud-completed"))[0]["id"] == "dropped"
    (delivery,) = eventually(lambda: [item for item in deliveries_of(grid, "dropped") if item["state"] == "delivered"])
    assert delivery["attempts"] == 2


def test_a_duplicated_delivery_arrives_once_more_for_each_copy(
    script: Callable[..., None],
    publisher: Callable[[str], EventGridPublisherClient],
    messages: Callable[[str], list[dict[str, Any]]],
) -> None:
    script(kind="duplicate_delivery", copies=2, event_type="tidegate.scoring.completed")

    publisher("cloud").send(CloudEvent(source="/s", type="tidegate.scoring.completed", data=1, id="twin"))

    found = collected(3, lambda: messages("cloud-completed"))
    assert [event["id"] for event in found] == ["twin"] * 3


def test_a_delayed_delivery_waits(
    script: Callable[..., None],
    publisher: Callable[[str], EventGridPublisherClient],
    messages: Callable[[str], list[dict[str, Any]]],
) -> None:
    script(kind="delay_delivery", delay_s=0.5)
    began = time.monotonic()

    publisher("cloud").send(CloudEvent(source="/s", type="tidegate.scoring.completed", data=1))

    assert eventually(lambda: messages("cloud-completed"))
    assert time.monotonic() - began >= 0.5


def test_a_lost_event_never_arrives(
    grid: EventGrid,
    script: Callable[..., None],
    publisher: Callable[[str], EventGridPublisherClient],
    messages: Callable[[str], list[dict[str, Any]]],
) -> None:
    script(kind="lose_event")

    publisher("cloud").send(CloudEvent(source="/s", type="tidegate.scoring.completed", data=1, id="lost"))

    (delivery,) = eventually(lambda: [item for item in deliveries_of(grid, "lost") if item["state"] != "pending"])
    assert (delivery["state"], delivery["attempts"]) == ("lost", 0)
    assert messages("cloud-completed") == []


@pytest.mark.parametrize(("kind", "arrives"), [("refuse_publish", False), ("lose_publish_answer", True)])
def test_publishers_can_be_answered_with_an_error(
    kind: str,
    arrives: bool,
    grid: EventGrid,
    script: Callable[..., None],
    messages: Callable[[str], list[dict[str, Any]]],
) -> None:
    """The one error means that nothing was accepted; after the other, a repetition publishes twice."""
    script(kind=kind, status=503, source="cloud")
    credential = AzureKeyCredential(TOPIC_KEY)

    with (
        EventGridPublisherClient(grid.topic_endpoint("cloud"), credential) as client,
        pytest.raises(HttpResponseError) as caught,
    ):
        client.send(CloudEvent(source="/s", type="tidegate.scoring.completed", data=1, id=kind), retry_total=0)

    assert caught.value.status_code == 503
    assert bool(deliveries_of(grid, kind)) is arrives
    if arrives:
        assert eventually(lambda: messages("cloud-completed"))


def test_a_wrong_fault_is_refused(grid: EventGrid) -> None:
    answer = requests.post(f"{grid.url}/_faults", json={"kind": "explode", "delay_s": -1, "x": 1}, timeout=5)

    assert answer.status_code == 400
    assert all(word in answer.text for word in ("explode", "delay_s", "'x'"))


def test_a_wrong_configuration_stops_the_start(azurite: Azurite, tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="source must be one of"),
        running_event_grid(make_config(azurite, subscriptions=[{"name": "a", "source": "x"}]), tmp_path),
    ):
        pass
