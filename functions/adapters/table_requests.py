"""Reads and writes rows in Table Storage's own requests: one row, or many writes of one partition in a transaction.

The SDK makes and reads a transaction with five threads and an e-mail parser, and looks at every value of a row some
times; both cost more than the request itself. The bytes are the same; a test compares them. Signing in, connections
and repeats are azure-core's.

Source: "Query Entities", "Insert Entity", "Update Entity", "Insert Or Replace Entity", "Delete Entity" and "Performing
entity group transactions", Table service REST API, version 2019-02-02.
"""

import json
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from functions.adapters.table_port import StoredRow, Write, WriteKind

if TYPE_CHECKING:
    from azure.core import PipelineClient
    from azure.core.rest import HttpRequest

__all__ = ["CONDITIONS", "Refused", "body_of", "read_row", "request_of", "versions_in", "write_row", "write_rows"]

_VERSION: Final = "2019-02-02"
_ANSWERS_IN_JSON: Final = {"DataServiceVersion": "3.0", "Accept": "application/json;odata=minimalmetadata"}
_KEYS: Final = frozenset({"PartitionKey", "RowKey", "Timestamp"})
_OK: Final = 200
_DONE: Final = frozenset({200, 201, 204})
_ACCEPTED: Final = 202
_NOT_FOUND: Final = 404
CONDITIONS: Final = frozenset({404, 409, 412})  # no row or table, a taken key, another version
_PART: Final = re.compile(r"HTTP/1\.1 (\d{3})")
_ETAG: Final = re.compile(r"\r?\nETag: ?([^\r\n]*)", re.IGNORECASE)
_INDEX: Final = re.compile(r'"value":"(\d+):')
_VERBS: Final = {
    WriteKind.INSERT: "POST",
    WriteKind.PUT: "PUT",
    WriteKind.REPLACE: "PUT",
    WriteKind.DELETE: "DELETE",
}


class Refused(Exception):  # noqa: N818 - an answer among others, which never leaves the adapter
    """A write was refused, and with it the others of its transaction."""

    def __init__(self, status: int, index: int, text: str) -> None:
        super().__init__(status, index, text)
        self.status = status
        self.index = index
        self.text = text


def read_row(client: "PipelineClient[Any, Any]", url: str, table: str, partition: str, key: str) -> StoredRow | None:
    """Return a row, or None if there is no such row or table.

    Raises:
        HttpResponseError: The service refused the request.
    """
    from azure.core.exceptions import HttpResponseError
    from azure.core.rest import HttpRequest

    place = _place(url, table, partition, key)
    response = client.send_request(HttpRequest("GET", place, headers={**_dated(), **_ANSWERS_IN_JSON}))
    response.read()
    if response.status_code == _NOT_FOUND:
        return None
    if response.status_code != _OK:
        raise HttpResponseError(response=response)
    return _row_in(response.json())


def write_row(client: "PipelineClient[Any, Any]", url: str, table: str, partition: str, row: Write) -> str:
    """Do one write; return the row's new version, "" of a delete.

    Raises:
        Refused: Its condition does not hold, its key is taken, or there is no such row or table.
        HttpResponseError: The service refused the request.
    """
    from azure.core.exceptions import HttpResponseError

    response = client.send_request(request_of(url, table, partition, row))
    response.read()
    if response.status_code in CONDITIONS:
        raise Refused(response.status_code, 0, response.text()[-500:])
    if response.status_code not in _DONE:
        raise HttpResponseError(response=response)
    return str(response.headers.get("ETag", ""))


def write_rows(
    client: "PipelineClient[Any, Any]", url: str, table: str, partition: str, rows: Sequence[Write]
) -> list[str]:
    """Do all writes or none; return the new version of each, "" of a delete.

    Raises:
        Refused: The service refused one of them.
        HttpResponseError: It refused the whole request.
    """
    from azure.core.exceptions import HttpResponseError
    from azure.core.rest import HttpRequest

    boundary = f"batch_{uuid.uuid4()}"
    request = HttpRequest(
        "POST",
        f"{url}/$batch",
        headers={
            **_dated(),
            "DataServiceVersion": "3.0",
            "MaxDataServiceVersion": "3.0;NetFx",
            "Accept": "application/json",
            "Content-Type": f"multipart/mixed; boundary={boundary}",
        },
        content=body_of(url, table, partition, rows, boundary=boundary),
    )
    response = client.send_request(request)
    response.read()
    if response.status_code != _ACCEPTED:
        raise HttpResponseError(response=response)
    return versions_in(response.text())


def request_of(url: str, table: str, partition: str, row: Write) -> "HttpRequest":
    """Return the request that does one write."""
    from azure.core.rest import HttpRequest

    verb, place, headers, text = _pieces(url, table, partition, row)
    return HttpRequest(verb, place, headers={**_dated(), **headers}, content=text or None)


def _dated() -> dict[str, str]:
    return {"x-ms-version": _VERSION, "x-ms-date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")}


def body_of(url: str, table: str, partition: str, rows: Sequence[Write], *, boundary: str) -> bytes:
    """Return the body of the request that does many writes."""
    changes = f"changeset_{boundary.removeprefix('batch_')}"
    parts = [f"--{boundary}\r\nContent-Type: multipart/mixed; boundary={changes}\r\n\r\n"]
    for index, row in enumerate(rows):
        parts.append(
            f"--{changes}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
            f"Content-ID: {index}\r\n\r\n{_part(url, table, partition, row)}\r\n"
        )
    parts.append(f"--{changes}--\r\n\r\n--{boundary}--\r\n")
    return "".join(parts).encode()


def _part(url: str, table: str, partition: str, row: Write) -> str:
    verb, place, headers, text = _pieces(url, table, partition, row)
    lines = [f"{verb} {place} HTTP/1.1", f"x-ms-version: {_VERSION}", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join(lines) + f"\r\n\r\n{text}"


def _pieces(url: str, table: str, partition: str, row: Write) -> tuple[str, str, dict[str, str], str]:
    """Return verb, address, headers and body of one write."""
    place = f"{url}/{table}" if row.kind is WriteKind.INSERT else _place(url, table, partition, row.key)
    headers = dict(_ANSWERS_IN_JSON)
    if row.kind is WriteKind.INSERT:
        headers["Prefer"] = "return-no-content"
    if row.version is not None or row.kind is WriteKind.DELETE:
        headers["If-Match"] = row.version or "*"
    if row.kind is WriteKind.DELETE:
        return _VERBS[row.kind], place, headers, ""
    # ASCII only, so that its length in characters is that in bytes; text, whole numbers and booleans need no type.
    text = json.dumps({"PartitionKey": partition, "RowKey": row.key, **row.values})
    return (
        _VERBS[row.kind],
        place,
        {**headers, "Content-Type": "application/json", "Content-Length": f"{len(text)}"},
        text,
    )


def _place(url: str, table: str, partition: str, key: str) -> str:
    return f"{url}/{table}(PartitionKey='{_quoted(partition)}',RowKey='{_quoted(key)}')"


def _row_in(document: dict[str, Any]) -> StoredRow:
    values = {name: value for name, value in document.items() if name not in _KEYS and "odata." not in name}
    return StoredRow(document["PartitionKey"], document["RowKey"], values, str(document["odata.etag"]))


def _quoted(key: str) -> str:
    return quote(key.replace("'", "''"), safe="")


def versions_in(answer: str) -> list[str]:
    """Return the version that each part of an answer tells; raises Refused if a part is no success."""
    statuses = list(_PART.finditer(answer))
    versions: list[str] = []
    for found, following in zip(statuses, [*statuses[1:], None], strict=True):
        part = answer[found.end() : following.start() if following is not None else None]
        if not found[1].startswith("2"):
            index = _INDEX.search(part.replace('": "', '":"'))
            raise Refused(int(found[1]), int(index[1]) if index is not None else 0, part[-500:])
        etag = _ETAG.search(part)
        versions.append(etag[1].strip() if etag is not None else "")
    return versions
