"""The blob endpoint that publishes events: nothing changes for clients, and every committed content is announced."""

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import requests
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError
from azure.core.pipeline.transport import RequestsTransport
from azure.eventgrid import EventGridEvent
from azure.storage.blob import (
    BlobBlock,
    BlobClient,
    BlobSasPermissions,
    BlobServiceClient,
    ContentSettings,
    StandardBlobTier,
    generate_blob_sas,
)
from azure.storage.queue import QueueClient

from tests.support.azurite import Azurite, azurite_running
from tests.support.event_grid import EventGrid, eventually, make_config, running_event_grid

pytestmark = pytest.mark.integration

Read = Callable[..., list[dict[str, Any]]]
SUBSCRIPTIONS: list[dict[str, Any]] = [
    {
        "name": "changes",
        "source": "storage",
        "destination": {"type": "StorageQueue", "queue": "changes"},
        "filter": {"subjectBeginsWith": "/blobServices/default/containers/inputs/"},
    }
]
ODD_NAMES = [
    "plain.txt",
    "with space and (brackets).txt",
    "hash#and%percent%20.txt",
    "plus+and&and=and?.txt",
    "tilde~quote'semi;comma,at@dollar$bang!star*.txt",
    "ünïcödé/日本語/🛩️.parquet",
    "deep/er/path/.hidden",
    "x" * 1024,
]


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    """Azurite with the two containers that the tests write to."""
    with azurite_running() as running:
        with BlobServiceClient.from_connection_string(running.connection_string) as client:
            client.create_container("inputs")
            client.create_container("other")
        yield running


@pytest.fixture(scope="module")
def grid(azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventGrid]:
    config = make_config(azurite, time_scale=0.001, subscriptions=SUBSCRIPTIONS)
    with running_event_grid(config, tmp_path_factory.mktemp("grid")) as running:
        yield running


@pytest.fixture(scope="module")
def service(azurite: Azurite, grid: EventGrid) -> Iterator[BlobServiceClient]:
    """The vendor's client at the proxy, with blocks small enough that tests upload several."""
    connection = azurite.connection_string_with(blob_endpoint=grid.blob_endpoint)
    with BlobServiceClient.from_connection_string(
        connection, max_single_put_size=1024 * 1024, max_block_size=1024 * 1024, retry_total=0
    ) as client:
        yield client


@pytest.fixture
def events(azurite: Azurite, grid: EventGrid) -> Iterator[Read]:
    """Return a function that waits for `count` events and returns them, in the order of their sequencers."""
    with QueueClient.from_connection_string(azurite.connection_string, "changes") as queue:

        def read(count: int = 1) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []

            def are_there() -> bool:
                for message in queue.receive_messages(messages_per_page=32, visibility_timeout=300):
                    found.append(json.loads(base64.b64decode(message.content)))
                    queue.delete_message(message)
                return len(found) >= count

            eventually(are_there)
            return sorted(found, key=lambda event: str(event["data"]["sequencer"]))

        yield read
        eventually(lambda: '"pending"' not in requests.get(f"{grid.url}/_deliveries", timeout=5).text)
        queue.clear_messages()


def test_an_upload_is_announced_with_all_documented_fields(service: BlobServiceClient, events: Read) -> None:
    with service.get_blob_client("inputs", "2013/flights.csv") as blob:
        answer = blob.upload_blob(b"a,b\n", content_settings=ContentSettings(content_type="text/csv"))

    (event,) = events()
    assert EventGridEvent.from_dict(event).event_type == "Microsoft.Storage.BlobCreated"
    assert event["subject"] == "/blobServices/default/containers/inputs/blobs/2013/flights.csv"
    assert event["topic"].endswith("/providers/Microsoft.Storage/storageAccounts/tidegatelocal")
    assert (event["dataVersion"], event["metadataVersion"]) == ("", "1")
    data = event["data"]
    expected = {
        "api": "PutBlob",
        "eTag": answer["etag"].strip('"'),
        "contentType": "text/csv",
        "contentLength": 4,
        "blobType": "BlockBlob",
        "url": "https://tidegatelocal.blob.core.windows.net/inputs/2013/flights.csv",
        "requestId": answer["request_id"],
        "clientRequestId": answer["client_request_id"],
    }
    assert expected.items() <= data.items()
    assert len(data["sequencer"]) == 48


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_odd_names_pass_and_are_announced_as_they_are(name: str, service: BlobServiceClient, events: Read) -> None:
    with service.get_blob_client("inputs", name) as blob:
        blob.upload_blob(name.encode(), overwrite=True)
        content = blob.download_blob().readall()

    (event,) = events()
    assert content == name.encode()
    assert event["subject"] == f"/blobServices/default/containers/inputs/blobs/{name}"
    assert unquote(event["data"]["url"]).endswith(f"/inputs/{name}")


def test_an_upload_in_blocks_is_one_event_with_the_true_length(service: BlobServiceClient, events: Read) -> None:
    content = bytes(range(256)) * 14_000

    with service.get_blob_client("inputs", "large.bin") as blob:
        answer = blob.upload_blob(content, max_concurrency=2)
        assert blob.download_blob().readall() == content

    (event,) = events()
    data = event["data"]
    assert (data["api"], data["contentLength"], data["eTag"]) == ("PutBlockList", 3_584_000, answer["etag"].strip('"'))


def test_staged_blocks_alone_are_not_announced(service: BlobServiceClient, events: Read) -> None:
    with service.get_blob_client("inputs", "staged.bin") as blob:
        blob.stage_block("AAAA", b"12345")
        blob.stage_block("BBBB", b"678")
        with service.get_blob_client("inputs", "marker") as marker:
            marker.upload_blob(b"")
        (only,) = events()
        blob.commit_block_list([BlobBlock("BBBB"), BlobBlock("AAAA")])

    (committed,) = events()
    assert only["subject"].endswith("/marker")
    assert only["data"]["contentLength"] == 0
    assert (committed["data"]["api"], committed["data"]["contentLength"]) == ("PutBlockList", 8)


def test_a_copy_is_announced_with_the_length_of_its_source(
    service: BlobServiceClient, azurite: Azurite, events: Read
) -> None:
    with service.get_blob_client("other", "source.txt") as source:
        source.upload_blob(b"twelve bytes", content_settings=ContentSettings(content_type="text/plain"))
        token = generate_blob_sas(
            azurite.account,
            "other",
            "source.txt",
            account_key=azurite.key,
            permission=BlobSasPermissions(read=True),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        with service.get_blob_client("inputs", "copy.txt") as copy:
            answer = copy.start_copy_from_url(f"{source.url}?{token}")

    (event,) = events()
    data = event["data"]
    assert (data["api"], data["contentLength"], data["contentType"]) == ("CopyBlob", 12, "text/plain")
    assert data["eTag"] == str(answer["etag"]).strip('"')


def test_overwriting_is_a_new_etag_and_a_later_sequencer(service: BlobServiceClient, events: Read) -> None:
    with service.get_blob_client("inputs", "again.txt") as blob:
        etags = [blob.upload_blob(text, overwrite=True)["etag"].strip('"') for text in (b"1", b"2", b"3")]

    assert [event["data"]["eTag"] for event in events(3)] == etags


def test_sequencers_follow_the_order_of_commits_under_a_race(service: BlobServiceClient, events: Read) -> None:
    """Whoever overwrote last has the greatest sequencer, whatever the order of the answers."""

    def upload(number: int) -> None:
        with service.get_blob_client("inputs", "contended.txt") as blob:
            blob.upload_blob(f"{number}".encode(), overwrite=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(upload, range(40)))

    with service.get_blob_client("inputs", "contended.txt") as blob:
        winner = blob.get_blob_properties().etag.strip('"')
    assert events(40)[-1]["data"]["eTag"] == winner


def test_a_deletion_is_announced(service: BlobServiceClient, events: Read) -> None:
    with service.get_blob_client("inputs", "gone.txt") as blob:
        blob.upload_blob(b"1", content_settings=ContentSettings(content_type="text/plain"))
        blob.delete_blob()

    created, deleted = events(2)
    assert (created["eventType"], deleted["eventType"]) == (
        "Microsoft.Storage.BlobCreated",
        "Microsoft.Storage.BlobDeleted",
    )
    assert (deleted["data"]["api"], deleted["data"]["contentType"]) == ("DeleteBlob", "text/plain")
    assert deleted["data"]["eTag"] == created["data"]["eTag"]


def test_deletions_in_a_batch_are_announced_one_by_one(service: BlobServiceClient, events: Read) -> None:
    names = ["batch one.txt", "batch#two.txt", "batch/drei/ü.txt"]
    for name in names:
        with service.get_blob_client("inputs", name) as blob:
            blob.upload_blob(b"1")
    events(3)

    with service.get_container_client("inputs") as container:
        statuses = [part.status_code for part in container.delete_blobs(*names)]

    assert statuses == [202, 202, 202]
    deleted = events(3)
    assert {event["eventType"] for event in deleted} == {"Microsoft.Storage.BlobDeleted"}
    assert {event["subject"].partition("/blobs/")[2] for event in deleted} == set(names)


def test_append_blobs_are_announced_when_they_are_created(service: BlobServiceClient, events: Read) -> None:
    with service.get_blob_client("inputs", "log.txt") as blob:
        blob.create_append_blob()
        blob.append_block(b"line\n")
        assert blob.download_blob().readall() == b"line\n"

    (event,) = events()
    assert (event["data"]["api"], event["data"]["blobType"], event["data"]["contentLength"]) == (
        "PutBlob",
        "AppendBlob",
        0,
    )


def test_what_changes_no_content_and_what_fails_is_not_announced(service: BlobServiceClient, events: Read) -> None:
    with service.get_blob_client("inputs", "quiet.txt") as blob:
        blob.upload_blob(b"content")
        events(1)

        blob.set_blob_metadata({"owner": "me"})
        blob.set_http_headers(ContentSettings(content_type="text/plain"))
        blob.set_standard_blob_tier(StandardBlobTier.COOL)
        blob.create_snapshot()
        with pytest.raises(ResourceExistsError):
            blob.upload_blob(b"other")
        lease = blob.acquire_lease(15)
        with pytest.raises(HttpResponseError, match="LeaseIdMissing"):
            blob.upload_blob(b"other", overwrite=True)
        with pytest.raises(ResourceModifiedError):
            blob.delete_blob(lease=lease, etag="0x0", match_condition=_unmodified())
        lease.release()
        with service.get_blob_client("other", "unwanted.txt") as unwanted:
            unwanted.upload_blob(b"filtered out")
        blob.upload_blob(b"last", overwrite=True)

    (event,) = events(1)
    assert event["data"]["contentLength"] == 4


def _unmodified() -> Any:
    from azure.core import MatchConditions

    return MatchConditions.IfNotModified


def test_reads_are_passed_on_unchanged(service: BlobServiceClient, grid: EventGrid, azurite: Azurite) -> None:
    """Ranges, conditions, listings and properties: status, headers and body are Azurite's own."""
    content = bytes(range(256)) * 100
    with service.get_blob_client("other", "read me.bin") as blob:
        blob.upload_blob(content, metadata={"k": "v"})
        assert blob.download_blob(offset=100, length=50).readall() == content[100:150]
        assert blob.get_blob_properties().metadata == {"k": "v"}
    with service.get_container_client("other") as container:
        assert "read me.bin" in list(container.list_blob_names())
    token = generate_blob_sas(
        azurite.account,
        "other",
        "read me.bin",
        account_key=azurite.key,
        permission=BlobSasPermissions(read=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    path = f"/{azurite.account}/other/read%20me.bin?{token}"
    varying = {"date", "x-ms-request-id", "keep-alive", "connection"}

    for headers in ({}, {"Range": "bytes=5-9"}, {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}):
        for method in ("GET", "HEAD"):
            answers = []
            for port in (azurite.blob_port, grid.proxy_port):
                answer = requests.request(method, f"http://127.0.0.1:{port}{path}", headers=headers, timeout=5)
                kept = {name.lower(): value for name, value in answer.headers.items() if name.lower() not in varying}
                answers.append((answer.status_code, kept, answer.content))
            direct, proxied = answers
            assert proxied == direct


class _AtLoopback(RequestsTransport):  # type: ignore[misc]  # azure-core exports it lazily, so it is Any to mypy
    """Reaches account.blob.localhost where no resolver knows it: the Host header stays, the address is loopback's."""

    def send(self, request: Any, **options: Any) -> Any:
        host = request.url.split("/")[2]
        request.url = request.url.replace(host, f"127.0.0.1:{host.rpartition(':')[2]}", 1)
        request.headers["Host"] = host
        return super().send(request, **options)


def test_host_style_addresses_work_as_spark_uses_them(grid: EventGrid, azurite: Azurite, events: Read) -> None:
    url = f"http://{azurite.account}.blob.localhost:{grid.proxy_port}"
    credential = {"account_name": azurite.account, "account_key": azurite.key}
    with (
        BlobServiceClient(url, credential=credential, transport=_AtLoopback()) as service,
        service.get_blob_client("inputs", "host style/ä b.txt") as blob,
    ):
        blob.upload_blob(b"spark")
        assert blob.download_blob().readall() == b"spark"

    (event,) = events()
    assert event["data"]["url"] == "https://tidegatelocal.blob.core.windows.net/inputs/host%20style/%C3%A4%20b.txt"


def test_a_wrong_key_is_azurites_refusal(grid: EventGrid, azurite: Azurite) -> None:
    credential = {"account_name": azurite.account, "account_key": base64.b64encode(b"wrong").decode()}
    with (
        BlobClient(grid.blob_endpoint, "inputs", "x", credential=credential, retry_total=0) as blob,
        pytest.raises(HttpResponseError) as caught,
    ):
        blob.upload_blob(b"1")

    assert caught.value.status_code == 403


def test_expect_continue_is_answered(grid: EventGrid, azurite: Azurite) -> None:
    """Some clients ask before they send; curl and Java's do."""
    token = generate_blob_sas(
        azurite.account,
        "other",
        "asked.txt",
        account_key=azurite.key,
        permission=BlobSasPermissions(write=True, create=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    with socket.create_connection(("127.0.0.1", grid.proxy_port), timeout=5) as connection:
        head = f"PUT /{azurite.account}/other/asked.txt?{token} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
        connection.sendall(f"{head}x-ms-blob-type: BlockBlob\r\nExpect: 100-continue\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(b"hello")
        assert connection.recv(4096).startswith(b"HTTP/1.1 201")


def test_an_upload_that_breaks_off_is_neither_stored_nor_announced(
    grid: EventGrid, azurite: Azurite, service: BlobServiceClient, events: Read
) -> None:
    token = generate_blob_sas(
        azurite.account,
        "inputs",
        "half.txt",
        account_key=azurite.key,
        permission=BlobSasPermissions(write=True, create=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    with closing(HTTPConnection("127.0.0.1", grid.proxy_port, timeout=5)) as connection:
        connection.putrequest("PUT", f"/{azurite.account}/inputs/half.txt?{token}")
        for name, value in {"x-ms-blob-type": "BlockBlob", "Content-Length": "1000000"}.items():
            connection.putheader(name, value)
        connection.endheaders(b"only this")

    with service.get_blob_client("inputs", "whole.txt") as blob:
        blob.upload_blob(b"1")
    assert [event["subject"].rpartition("/")[2] for event in events(1)] == ["whole.txt"]
    with service.get_blob_client("inputs", "half.txt") as half:
        assert not half.exists()


def test_no_answered_upload_loses_its_event_in_a_crash(azurite: Azurite, tmp_path: Path) -> None:
    """Killed while uploads pour in: whatever upload got its answer is announced, before or after the restart."""
    own = [{**SUBSCRIPTIONS[0], "destination": {"type": "StorageQueue", "queue": "crashed"}}]
    config = make_config(azurite, time_scale=0.001, subscriptions=own)
    answered: set[str] = set()
    with running_event_grid(config, tmp_path) as grid:
        connection = azurite.connection_string_with(blob_endpoint=grid.blob_endpoint)
        with BlobServiceClient.from_connection_string(connection, retry_total=0) as client:
            threading.Timer(0.5, grid.kill).start()
            for number in range(10_000):
                with client.get_blob_client("inputs", f"crash/{number}") as blob:
                    try:
                        answered.add(blob.upload_blob(b"1")["etag"].strip('"'))
                    except Exception:  # noqa: BLE001 - the vendor's client has many words for a dead server
                        break

    announced: set[str] = set()
    sequencers: list[str] = []
    with (
        running_event_grid(config, tmp_path) as grid,
        QueueClient.from_connection_string(azurite.connection_string, "crashed") as queue,
    ):
        connection = azurite.connection_string_with(blob_endpoint=grid.blob_endpoint)
        with BlobClient.from_connection_string(connection, "inputs", "crash/after") as blob:
            last = blob.upload_blob(b"1")["etag"].strip('"')

        def all_are_announced() -> bool:
            for message in queue.receive_messages(messages_per_page=32, visibility_timeout=300):
                data = json.loads(base64.b64decode(message.content))["data"]
                announced.add(data["eTag"])
                sequencers.append(data["sequencer"])
                if data["eTag"] == last:
                    assert data["sequencer"] == max(sequencers)
            return answered | {last} <= announced

        assert eventually(all_are_announced, within_s=60)
    assert len(answered) > 5
