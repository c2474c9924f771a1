"""Drives both sample subscribers by the Event Grid emulator: handshakes, duplicates, deliveries that come again."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.credentials import AzureKeyCredential
from azure.core.messaging import CloudEvent
from azure.data.tables import TableServiceClient
from azure.eventgrid import EventGridEvent, EventGridPublisherClient

from tests.support.azurite import Azurite, azurite_running
from tests.support.event_contracts import event_examples
from tests.support.event_grid import TOPIC_KEY, EventGrid, eventually, make_config, running_event_grid
from tests.support.functions_host import free_port, functions_host_running

pytestmark = pytest.mark.integration

SAMPLE = Path(__file__).parents[2] / "samples" / "subscriber"
SCOPE = "/subscriptions/0/resourceGroups/g/providers/Microsoft.EventGrid/topics"
KEY = "a key & more"
TOPICS = {"cloud": "CloudEventSchemaV1_0", "classic": "EventGridSchema"}
COMPLETED = event_examples()["tidegate.scoring.completed"]
FAILED: dict[str, Any] = json.loads(json.dumps(event_examples()["tidegate.scoring.failed"]))
FAILED["data"]["announced_by"] = "control_plane"  # it corrects a notebook's


@dataclass(frozen=True)
class Subscriber:
    """A running sample: where Event Grid delivers, and what it has kept, as (run, attempt, announcer, outcome)."""

    endpoint: str
    ends: Callable[[], list[tuple[str, int, str, str]]]


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    with azurite_running() as running:
        yield running


@pytest.fixture(scope="module")
def grid(azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventGrid]:
    topics = [{"name": name, "key": TOPIC_KEY, "input_schema": schema} for name, schema in TOPICS.items()]
    config = make_config(azurite, topics=topics, time_scale=0.01, delivery_timeout_s=20)
    with running_event_grid(config, tmp_path_factory.mktemp("grid")) as running:
        yield running


@contextmanager
def running_web_service(port: int, database: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Yield the web service's process, answering."""
    process = subprocess.Popen(
        [sys.executable, str(SAMPLE / "web_service.py"), "--port", str(port), "--database", str(database)],
        env={**os.environ, "SUBSCRIBER_KEY": KEY},
    )
    try:
        eventually(lambda: _answers(f"http://127.0.0.1:{port}/ends"))
        yield process
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(url, timeout=5).status_code == 401
    return False


def ends_of_web_service(port: int) -> list[tuple[str, int, str, str]]:
    found = requests.get(f"http://127.0.0.1:{port}/ends", params={"key": KEY}, timeout=10).json()
    assert all(end["changes"] == 1 for end in found), "an event was handled twice"
    return [(end["run_id"], end["attempt"], end["announced_by"], end["outcome"]) for end in found]


@pytest.fixture(scope="module")
def web_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subscriber]:
    port = free_port()
    with running_web_service(port, tmp_path_factory.mktemp("web") / "ends.db"):
        endpoint = f"http://127.0.0.1:{port}/events?key=a%20key%20%26%20more"
        yield Subscriber(endpoint, lambda: ends_of_web_service(port))


@pytest.fixture(scope="module")
def function(azurite: Azurite) -> Iterator[Subscriber]:
    settings = {
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "AzureWebJobsStorage": azurite.connection_string,
        "SUBSCRIBER_STORAGE": azurite.connection_string,
    }

    def ends() -> list[tuple[str, int, str, str]]:
        with TableServiceClient.from_connection_string(azurite.connection_string) as service:
            rows = list(service.create_table_if_not_exists("ends").list_entities())
        parts = [(*str(row["RowKey"]).rsplit(".", 2), str(row["outcome"])) for row in rows]
        return [(run_id, int(attempt), announced_by, outcome) for run_id, attempt, announced_by, outcome in parts]

    with functions_host_running(SAMPLE, settings) as host:
        yield Subscriber(f"{host.url}/api/events?code={host.default_key}", ends)


@pytest.fixture(params=["web_service", "function"])
def subscriber(request: pytest.FixtureRequest) -> Subscriber:
    found: Subscriber = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=TOPICS)
def subscribed(request: pytest.FixtureRequest, grid: EventGrid, subscriber: Subscriber) -> Iterator[str]:
    """Subscribe the sample to a topic, in its schema, and return the topic; the emulator has shaken hands by then."""
    topic = str(request.param)
    with subscription(grid, topic, subscriber.endpoint):
        yield topic


@contextmanager
def subscription(grid: EventGrid, topic: str, endpoint: str) -> Iterator[None]:
    url = f"{grid.url}{SCOPE}/{topic}/providers/Microsoft.EventGrid/eventSubscriptions/sample"
    destination = {"endpointType": "WebHook", "properties": {"endpointUrl": endpoint}}
    properties = {"destination": destination, "eventDeliverySchema": TOPICS[topic]}
    made = requests.put(url, json={"properties": properties}, timeout=30)
    assert made.status_code in {200, 201}, made.text
    eventually(lambda: requests.get(url, timeout=5).json()["properties"]["provisioningState"] == "Succeeded")
    yield
    requests.delete(url, timeout=5)


def publish(grid: EventGrid, topic: str, *documents: dict[str, Any]) -> None:
    events: list[Any] = [
        EventGridEvent(
            id=item["id"], subject=item["subject"], event_type=item["type"], data=item["data"], data_version="1"
        )
        if topic == "classic"
        else CloudEvent(id=item["id"], source=item["source"], type=item["type"], data=item["data"])
        for item in documents
    ]
    with EventGridPublisherClient(grid.topic_endpoint(topic), AzureKeyCredential(TOPIC_KEY)) as client:
        client.send(events)


def make_end(document: dict[str, Any], run: str) -> dict[str, Any]:
    """Return a completion event of another run."""
    renamed: dict[str, Any] = json.loads(json.dumps(document).replace("0123456789ab", f"{run:0>12}"))
    return renamed


def fault(grid: EventGrid, **what: object) -> None:
    requests.post(f"{grid.url}/_faults", json=what, timeout=5).raise_for_status()


def ends_of(subscriber: Subscriber, run: str) -> list[tuple[int, str, str]]:
    return [end[1:] for end in subscriber.ends() if end[0].endswith(f"{run:0>12}")]


def test_what_comes_many_times_is_handled_once(
    request: pytest.FixtureRequest, grid: EventGrid, subscriber: Subscriber, subscribed: str
) -> None:
    """R55, R56: published twice, each delivered four times at once, after a handshake in either schema."""
    run = f"{abs(hash(request.node.name)) % 16**8:x}"
    fault(grid, kind="duplicate_delivery", times=2, copies=3)
    event = make_end(COMPLETED, run)

    publish(grid, subscribed, event, event)
    publish(grid, subscribed, make_end(COMPLETED, f"{run}ff"))

    eventually(lambda: ends_of(subscriber, f"{run}ff"))
    eventually(lambda: ends_of(subscriber, run))
    assert ends_of(subscriber, run) == [(1, "notebook", "completed")]


def test_a_delivery_that_was_lost_comes_again_and_the_last_word_is_the_control_planes(
    request: pytest.FixtureRequest, grid: EventGrid, subscriber: Subscriber, subscribed: str
) -> None:
    """The correction overtakes the claim, which is delivered again later: what counts is who says it."""
    run = f"{abs(hash(request.node.name)) % 16**8:x}"
    fault(grid, kind="drop_delivery", times=1, event_type="tidegate.scoring.completed")

    publish(grid, subscribed, make_end(COMPLETED, run), make_end(FAILED, run))

    def outcomes() -> dict[str, str]:
        return {announced_by: outcome for _, announced_by, outcome in ends_of(subscriber, run)}

    assert eventually(lambda: outcomes().get("control_plane") == "failed")


def test_without_its_key_nobody_is_answered(subscriber: Subscriber) -> None:
    bare = subscriber.endpoint.split("?", maxsplit=1)[0]

    for method in ("POST", "OPTIONS"):
        headers = {"WebHook-Request-Origin": "eventgrid.azure.net"}
        reply = requests.request(method, bare, data=b"[]", headers=headers, timeout=10)
        assert (reply.status_code, "WebHook-Allowed-Origin" in reply.headers) == (401, False)


def test_a_web_service_that_was_killed_gets_what_it_missed(grid: EventGrid, tmp_path: Path) -> None:
    """Event Grid tries again until it is back, and what it had handled before it died stays handled."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}/events?key=a%20key%20%26%20more"
    with running_web_service(port, tmp_path / "ends.db") as process, subscription(grid, "cloud", endpoint):
        publish(grid, "cloud", make_end(COMPLETED, "aa1"))
        eventually(lambda: ends_of_web_service(port))
        process.send_signal(signal.SIGKILL)
        process.wait()
        publish(grid, "cloud", make_end(COMPLETED, "aa1"), make_end(FAILED, "aa2"))

        with running_web_service(port, tmp_path / "ends.db"):
            eventually(lambda: len(ends_of_web_service(port)) == 2, within_s=40)

            assert [end[2:] for end in ends_of_web_service(port)] == [
                ("notebook", "completed"),
                ("control_plane", "failed"),
            ]
