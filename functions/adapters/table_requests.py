"""Reads and writes rows in Table Storage's own requests: one row, or many writes of one partition in a transaction.

The SDK makes and reads a transaction with five threads and an e-mail parser, and looks at every value of a row some
times; both cost more than the request itself. The bytes are the same; a test compares them. Signing in, connections
and repeats are `table_connection`'s.

Source: "Query Entities", "Insert Entity", "Update Entity", "Insert Or Replace Entity", "Delete Entity" and "Performing
entity group transactions", Table service REST API, version 2019-02-02.
"""

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import quote, urlencode

from functions.adapters.table_connection import TableConnection, TableRequest
from functions.adapters.table_port import StoredRow, Write, WriteKind

__all__ = [
    "CONDITIONS",
    "Refused",
    "body_of",
    "read_row",
    "read_rows",
    "request_of",
    "versions_in",
    "write_row",
    "write_rows",
]

_VERSION: Final = "2019-02-02"
_ANSWERS_IN_JSON: Final = {"DataServiceVersion": "3.0", "Accept": "application/json;odata=minimalmetadata"}
_KEYS: Final = frozenset({"PartitionKey", "RowKey", "Timestamp"})
_OK: Final = 200
_DONE: Final = frozenset({200, 201, 204})
_ACCEPTED: Final = 202
_NOT_FOUND: Final = 404
CONDITIONS: Final = frozenset({404, 409, 412})  # no row or table, a taken key, another version
_PAGE_ROWS: Final = 1000  # the service's limit for one page of an answer
_CONTINUATIONS: Final = {
    "NextPartitionKey": "x-ms-continuation-nextpartitionkey",
    "NextRowKey": "x-ms-continuation-nextrowkey",
}
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


def read_row(connection: TableConnection, table: str, partition: str, key: str) -> StoredRow | None:
    """Return a row, or None if there is no such row or table.

    Raises:
        HttpResponseError: The service refused the request.
        DecodeError: Its answer is no row.
    """
    place = _place(connection.url, table, partition, key)
    answer = connection.send(TableRequest("GET", place, {**_dated(), **_ANSWERS_IN_JSON}))
    if answer.status == _NOT_FOUND:
        return None
    if answer.status != _OK:
        raise answer.error()
    return _row_in(answer.document())


def read_rows(
    connection: TableConnection, table: str, partition: str, *, low: str, high: str | None, limit: int
) -> Iterator[StoredRow]:
    """Yield rows of a partition with low <= key < high in the order of their keys; none if there is no such table.

    Raises:
        HttpResponseError: The service refused a request.
    """
    continuation: dict[str, str] = {}
    while limit > 0:
        place = _query(connection.url, table, partition, low, high, min(limit, _PAGE_ROWS), continuation)
        answer = connection.send(TableRequest("GET", place, {**_dated(), **_ANSWERS_IN_JSON}))
        if answer.status == _NOT_FOUND:
            return
        if answer.status != _OK:
            raise answer.error()
        rows = _rows_in(answer.document())
        yield from rows
        limit -= len(rows)
        continuation = {
            name: answer.headers[header] for name, header in _CONTINUATIONS.items() if header in answer.headers
        }
        if not continuation:
            return


def write_row(connection: TableConnection, table: str, partition: str, row: Write) -> str:
    """Do one write; return the row's new version, "" of a delete.

    Raises:
        Refused: Its condition does not hold, its key is taken, or there is no such row or table.
        HttpResponseError: The service refused the request.
    """
    answer = connection.send(request_of(connection.url, table, partition, row))
    if answer.status in CONDITIONS:
        raise Refused(answer.status, 0, answer.text[-500:])
    if answer.status not in _DONE:
        raise answer.error()
    return answer.headers.get("etag", "")


def write_rows(connection: TableConnection, table: str, partition: str, rows: Sequence[Write]) -> list[str]:
    """Do all writes or none; return the new version of each, "" of a delete.

    Raises:
        Refused: The service refused one of them.
        HttpResponseError: It refused the whole request.
    """
    boundary = f"batch_{uuid.uuid4()}"
    headers = {
        **_dated(),
        "DataServiceVersion": "3.0",
        "MaxDataServiceVersion": "3.0;NetFx",
        "Accept": "application/json",
        "Content-Type": f"multipart/mixed; boundary={boundary}",
    }
    body = body_of(connection.url, table, partition, rows, boundary=boundary)
    answer = connection.send(TableRequest("POST", f"{connection.url}/$batch", headers, body))
    if answer.status != _ACCEPTED:
        raise answer.error()
    versions = versions_in(answer.text)
    if len(versions) != len(rows):
        raise _mangled()
    return versions


def request_of(url: str, table: str, partition: str, row: Write) -> TableRequest:
    """Return the request that does one write."""
    verb, place, headers, text = _pieces(url, table, partition, row)
    return TableRequest(verb, place, {**_dated(), **headers}, text.encode())


def _dated() -> dict[str, str]:
    return {"x-ms-version": _VERSION, "x-ms-date": formatdate(usegmt=True)}


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


def _query(
    url: str, table: str, partition: str, low: str, high: str | None, rows: int, continuation: Mapping[str, str]
) -> str:
    condition = f"PartitionKey eq '{_doubled(partition)}' and RowKey ge '{_doubled(low)}'"
    if high is not None:
        condition += f" and RowKey lt '{_doubled(high)}'"
    return f"{url}/{table}()?{urlencode({'$filter': condition, '$top': rows, **continuation}, quote_via=quote)}"


def _rows_in(document: dict[str, Any]) -> list[StoredRow]:
    try:
        return [_row_in(row) for row in document["value"]]
    except (KeyError, TypeError) as error:
        raise _mangled() from error


def _row_in(document: dict[str, Any]) -> StoredRow:
    try:
        partition, key, version = document["PartitionKey"], document["RowKey"], str(document["odata.etag"])
    except (KeyError, TypeError) as error:
        raise _mangled() from error
    values = {name: value for name, value in document.items() if name not in _KEYS and "odata." not in name}
    return StoredRow(partition, key, values, version)


def _mangled() -> Exception:
    from azure.core.exceptions import DecodeError

    return DecodeError("the answer is not what was asked for")


def _quoted(key: str) -> str:
    return quote(_doubled(key), safe="")


def _doubled(text: str) -> str:
    return text.replace("'", "''")


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
