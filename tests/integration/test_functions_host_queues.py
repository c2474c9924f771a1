"""Queue functions on the local Functions host, through a real Azurite."""

import base64
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.queue import QueueClient

from tests.support.azurite import Azurite, azurite_running
from tests.support.functions_host import FunctionsHost, functions_host_running, until
from tests.support.functions_host_records import LISTENERS_APP, Records, listener_settings

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    with azurite_running() as running:
        yield running


@pytest.fixture(scope="module")
def queue_name() -> str:
    return f"work-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return Records(tmp_path_factory.mktemp("records") / "records.jsonl")


@pytest.fixture(scope="module")
def host(azurite: Azurite, records: Records, queue_name: str) -> Iterator[FunctionsHost]:
    """A running host; messages are given up after three attempts."""
    settings = listener_settings(azurite, records, queue_name)
    with functions_host_running(LISTENERS_APP, settings) as running:
        yield running


@pytest.fixture
def queue(azurite: Azurite, queue_name: str, host: FunctionsHost) -> Iterator[QueueClient]:
    """The queue that `work` listens to."""
    with closing(_client(azurite, queue_name)) as client:
        yield client


@pytest.fixture
def poison(azurite: Azurite, queue_name: str) -> Iterator[QueueClient]:
    with closing(_client(azurite, f"{queue_name}-poison")) as client:
        yield client


def _client(azurite: Azurite, name: str) -> QueueClient:
    client = QueueClient.from_connection_string(azurite.connection_string, name)
    with suppress(ResourceExistsError):
        client.create_queue()
    return client


def _send(queue: QueueClient, text: str) -> str:
    return str(queue.send_message(base64.b64encode(text.encode()).decode()).id)


def _peek(queue: QueueClient) -> list[str]:
    return [str(message.content) for message in queue.peek_messages(max_messages=32)]


def test_a_message_is_handled_once_and_deleted(queue: QueueClient, records: Records) -> None:
    message_id = _send(queue, "größe once")

    until(lambda: records.all("work", text="größe once", done=True), what="the handled message")
    until(lambda: queue.get_queue_properties().approximate_message_count == 0, what="the deleted message")
    (entry,) = records.all("work", id=message_id)
    assert entry["attempt"] == 1
    assert entry["inserted"] is True
    assert len(entry["traceparent"]) == 55


def test_each_message_has_a_trace_of_its_own(queue: QueueClient, records: Records) -> None:
    for number in range(2):
        _send(queue, f"trace {number}")

    until(lambda: len([e for e in records.all("work") if e["text"].startswith("trace") and "id" in e]) == 2)
    traces = {e["traceparent"][3:35] for e in records.all("work") if e["text"].startswith("trace") and "id" in e}
    assert len(traces) == 2


def test_a_failed_message_comes_again_until_it_succeeds(queue: QueueClient, records: Records) -> None:
    _send(queue, "fail 1")

    until(lambda: records.all("work", text="fail 1", done=True), what="the second attempt's success")
    assert [e["attempt"] for e in records.all("work", text="fail 1") if "id" in e] == [1, 2]


def test_a_message_that_keeps_failing_ends_in_the_poison_queue_unchanged(
    queue: QueueClient, poison: QueueClient, records: Records
) -> None:
    _send(queue, "fail 99")

    sent = base64.b64encode(b"fail 99").decode()
    until(lambda: sent in _peek(poison), what="the poisoned message")
    assert [e["attempt"] for e in records.all("work", text="fail 99")] == [1, 2, 3]


def test_an_undecodable_message_is_poisoned_without_being_seen(
    queue: QueueClient, poison: QueueClient, records: Records
) -> None:
    queue.send_message("this is no base64!")

    until(lambda: "this is no base64!" in _peek(poison), what="the poisoned message")
    assert not [entry for entry in records.all("work") if "base64" in entry["text"]]


def test_many_messages_are_handled_at_the_same_time(queue: QueueClient, records: Records) -> None:
    """Four half-second messages: one after the other they would take two seconds."""
    for number in range(4):
        _send(queue, f"sleep 0.5{number}")

    until(lambda: len([e for e in records.all("work", done=True) if e["text"].startswith("sleep 0.5")]) == 4)
    spans = [e["at"] for e in records.all("work") if e["text"].startswith("sleep 0.5")]
    assert max(spans) - min(spans) < 4 * 0.5


def test_an_output_binding_feeds_the_queue(host: FunctionsHost, queue: QueueClient, records: Records) -> None:
    reply = host.request("POST", "/api/enqueue", key=host.default_key, body=b"from http")

    assert reply.status == 202
    until(lambda: records.all("work", text="from http", done=True), what="the handled message")


def test_an_array_is_one_message_per_element_also_as_return_value(
    azurite: Azurite, queue: QueueClient, queue_name: str, records: Records
) -> None:
    with closing(_client(azurite, f"{queue_name}-binary")) as binary:
        binary.send_message(base64.b64encode(b"\xff\xfe\x00").decode())

        until(lambda: records.all("work", text="length 3") and records.all("work", text="second"))


def test_a_message_can_be_tried_by_hand(host: FunctionsHost, queue: QueueClient, records: Records) -> None:
    reply = host.request("POST", "/admin/functions/work", key=host.master_key, body=b'{"input": "by hand"}')

    assert reply.status == 202
    until(lambda: records.all("work", text="by hand", done=True), what="the run by hand")
    assert records.all("work", text="by hand")[0]["attempt"] == 0


def test_a_long_running_message_stays_hidden(azurite: Azurite, tmp_path: Path) -> None:
    """The lease is renewed while the function runs, here for longer than the lease."""
    mine = Records(tmp_path / "records.jsonl")
    settings = listener_settings(azurite, mine, f"renewed-{uuid.uuid4().hex[:8]}")
    with (
        closing(_client(azurite, settings["WORK_QUEUE"])) as queue,
        functions_host_running(LISTENERS_APP, settings, host_options={"QueueLease": "00:00:01"}),
    ):
        _send(queue, "sleep 2.5")

        until(lambda: mine.all("work", text="sleep 2.5", done=True), what="the long run's end")
        until(lambda: queue.get_queue_properties().approximate_message_count == 0, what="the deleted message")
        assert len(mine.all("work", text="sleep 2.5", attempt=1)) == 2
        assert not mine.all("work", text="sleep 2.5", attempt=2)


def test_a_queue_that_appears_later_is_found(azurite: Azurite, tmp_path: Path) -> None:
    mine = Records(tmp_path / "records.jsonl")
    settings = listener_settings(azurite, mine, f"later-{uuid.uuid4().hex[:8]}")
    with functions_host_running(LISTENERS_APP, settings) as host:
        until(lambda: mine.all("at_start", retry=2), what="a host that listens")

        with closing(_client(azurite, settings["WORK_QUEUE"])) as queue:
            _send(queue, "hello")
            until(lambda: mine.all("work", text="hello", done=True), what="the handled message")
        assert host.status()["state"] == "Running"
