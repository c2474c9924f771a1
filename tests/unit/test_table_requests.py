"""What is sent is what the SDK would send, and every answer is read as what it says."""

import base64
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.core import MatchConditions
from azure.core.pipeline.transport import RequestsTransport
from azure.data.tables import TableClient, UpdateMode

from functions.adapters.table_connection import Answer, TableConnection, TableRequest
from functions.adapters.table_port import Write
from functions.adapters.table_requests import Refused, body_of, read_rows, request_of, versions_in

URL = "http://127.0.0.1:1/account"
KEY = "a key with 'quotes', ü, / and %"
VALUES: dict[str, str | int | bool] = {"text": 'Zürich "x" 🛫', "n": -5, "flag": True, "empty": ""}


class _Sent(Exception):  # noqa: N818 - carries what would have been sent
    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


class _Catching(RequestsTransport):  # type: ignore[misc] # untyped in azure-core
    def send(self, request: Any, **_: Any) -> Any:
        raise _Sent(request)


def sdk_client() -> TableClient:
    """Return a client of the SDK's whose every request is raised instead of sent."""
    key = base64.b64encode(b"k" * 64).decode()
    return TableClient.from_connection_string(
        f"DefaultEndpointsProtocol=http;AccountName=account;AccountKey={key};TableEndpoint={URL};",
        "rows",
        transport=_Catching(),
    )


def essence_of(request: Any) -> tuple[str, str, dict[str, str], object]:
    """Return verb, address, the headers that say what is to be done, and the row without types that are the default.

    Only we prefer that an insert is not answered with what it inserted.
    """
    meaning = {"if-match", "dataserviceversion", "x-ms-version", "accept", "content-type"}
    headers = {name.lower(): value for name, value in request.headers.items() if name.lower() in meaning}
    body = request.body
    row = json.loads(body) if body else None
    if row is not None:
        headers.pop("content-type")  # the same, but for what the SDK adds: that there is no metadata
        headers.pop("accept")
        row = {name: value for name, value in row.items() if not name.endswith("@odata.type")}
    verb = request.verb if isinstance(request, TableRequest) else request.method
    return verb, request.url, headers, row


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Write.insert(KEY, VALUES), lambda client, entity, _: client.create_entity(entity)),
        (
            Write.put(KEY, VALUES),
            lambda client, entity, _: client.upsert_entity(entity, mode=UpdateMode.REPLACE),
        ),
        (
            Write.replace(KEY, VALUES, 'W/"x"'),
            lambda client, entity, version: client.update_entity(entity, mode=UpdateMode.REPLACE, **version),
        ),
        (Write.delete(KEY, 'W/"x"'), lambda client, _, version: client.delete_entity("p", KEY, **version)),
        (Write.delete(KEY), lambda client, *_: client.delete_entity("p", KEY)),
    ],
    ids=["insert", "put", "replace", "delete a version", "delete"],
)
def test_a_single_write_is_what_the_sdk_would_send(ours: Write, theirs: Any) -> None:
    entity = {"PartitionKey": "p", "RowKey": KEY, **VALUES}
    version = {"etag": 'W/"x"', "match_condition": MatchConditions.IfNotModified}
    with pytest.raises(_Sent) as sent:
        theirs(sdk_client(), entity, version)

    assert essence_of(request_of(URL, "rows", "p", ours)) == essence_of(sent.value.request)


@pytest.mark.parametrize("high", [None, "k/'ü"])
def test_a_query_is_what_the_sdk_would_send(high: str | None) -> None:
    condition = "PartitionKey eq @partition and RowKey ge @low" + (" and RowKey lt @high" if high else "")
    parameters = {"partition": "p'1", "low": KEY, "high": high}
    with pytest.raises(_Sent) as sent:
        next(iter(sdk_client().query_entities(condition, parameters=parameters, results_per_page=7)))
    theirs = urlsplit(sent.value.request.url)

    class Connection(TableConnection):
        def __init__(self) -> None:
            self.url = URL

        def send(self, request: TableRequest) -> Answer:
            raise _Sent(request)

    with pytest.raises(_Sent) as sent:
        next(iter(read_rows(Connection(), "rows", "p'1", low=KEY, high=high, limit=7)))
    ours = urlsplit(sent.value.request.url)

    assert (ours.netloc, ours.path) == (theirs.netloc, theirs.path)
    assert parse_qs(ours.query) == parse_qs(theirs.query)


def parts_of(body: bytes) -> list[tuple[str, str | None, object]]:
    """Return request line, condition and values of each part, without what only names a type that is the default."""
    found: list[tuple[str, str | None, object]] = []
    for part in body.decode().split("Content-Transfer-Encoding: binary\r\n")[1:]:
        request = re.search(r"(POST|PUT|DELETE) (\S+) HTTP/1\.1", part)
        condition = re.search(r"If-Match: ([^\r]*)", part)
        document = re.search(r"^\{.*\}$", part, re.MULTILINE)
        assert request is not None
        values = json.loads(document[0]) if document is not None else None
        if values is not None:
            assert {kind for name, kind in values.items() if name.endswith("@odata.type")} <= {"Edm.String"}
            values = {name: value for name, value in values.items() if not name.endswith("@odata.type")}
        found.append((request[0], condition[1] if condition is not None else None, values))
    return found


def test_a_transaction_is_what_the_sdk_would_send() -> None:
    """Only its way of making it is not the SDK's: five threads and an e-mail parser a request."""
    entity = {"PartitionKey": "p", "RowKey": KEY, **VALUES}
    place = {"PartitionKey": "p", "RowKey": KEY}
    at_version = {"etag": 'W/"x"', "match_condition": MatchConditions.IfNotModified}
    with pytest.raises(_Sent) as sent:
        sdk_client().submit_transaction(
            [
                ("create", entity),
                ("upsert", entity, {"mode": UpdateMode.REPLACE}),
                ("update", entity, {"mode": UpdateMode.REPLACE, **at_version}),
                ("delete", place, at_version),
                ("delete", place),
            ]
        )

    ours = body_of(
        URL,
        "rows",
        "p",
        [
            Write.insert(KEY, VALUES),
            Write.put(KEY, VALUES),
            Write.replace(KEY, VALUES, 'W/"x"'),
            Write.delete(KEY, 'W/"x"'),
            Write.delete(KEY),
        ],
        boundary="batch_1",
    )

    assert len(parts_of(ours)) == 5
    assert parts_of(ours) == parts_of(sent.value.request.body)


def test_the_answer_tells_each_rows_version() -> None:
    answer = (
        "--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n"
        "--changesetresponse_1\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 204 No Content\r\n"
        "Preference-Applied: return-no-content\r\nETag: W/\"datetime'1'\"\r\n\r\n\r\n"
        "--changesetresponse_1\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 204 No Content\r\n"
        "Cache-Control: no-cache\r\n\r\n\r\n--changesetresponse_1--\r\n--batchresponse_1--\r\n"
    )

    assert versions_in(answer) == ["W/\"datetime'1'\"", ""]


@pytest.mark.parametrize(
    ("text", "index"), [('"value":"7:The specified', 7), ('"value": "12:The', 12), ("no index", 0)]
)
def test_a_refusal_names_its_write(text: str, index: int) -> None:
    """Which one it was is believed only as far as that it is tried by itself."""
    answer = f'--x\r\n\r\nHTTP/1.1 409 Conflict\r\n\r\n{{"odata.error":{{"message":{{"lang":"en-US",{text} ..."}}}}}}'

    with pytest.raises(Refused) as refused:
        versions_in(answer)

    assert (refused.value.status, refused.value.index) == (409, index)
