"""Writes many rows of one partition in one request, in the form that Table Storage gives to a transaction.

The SDK makes and reads that form with five threads and an e-mail parser a request, which costs more than the request
itself. The bytes are the same; a test compares them. Signing in, connections and repeats are azure-core's.

Source: "Performing entity group transactions", Table service REST API, version 2019-02-02.
"""

import json
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from functions.adapters.table_port import Write, WriteKind

if TYPE_CHECKING:
    from azure.core import PipelineClient

__all__ = ["Refused", "body_of", "submit", "versions_in"]

_VERSION: Final = "2019-02-02"
_ACCEPTED: Final = 202
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
    """One write of a transaction was refused, so none was done."""

    def __init__(self, status: int, index: int, text: str) -> None:
        super().__init__(status, index, text)
        self.status = status
        self.index = index
        self.text = text


def submit(
    client: "PipelineClient[Any, Any]", url: str, table: str, partition: str, writes: Sequence[Write]
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
            "x-ms-version": _VERSION,
            "x-ms-date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"),
            "DataServiceVersion": "3.0",
            "MaxDataServiceVersion": "3.0;NetFx",
            "Accept": "application/json",
            "Content-Type": f"multipart/mixed; boundary={boundary}",
        },
        content=body_of(url, table, partition, writes, boundary=boundary),
    )
    response = client.send_request(request)
    response.read()
    if response.status_code != _ACCEPTED:
        raise HttpResponseError(response=response)
    return versions_in(response.text())


def body_of(url: str, table: str, partition: str, writes: Sequence[Write], *, boundary: str) -> bytes:
    """Return the body of the request."""
    changes = f"changeset_{boundary.removeprefix('batch_')}"
    parts = [f"--{boundary}\r\nContent-Type: multipart/mixed; boundary={changes}\r\n\r\n"]
    for index, write in enumerate(writes):
        parts.append(
            f"--{changes}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
            f"Content-ID: {index}\r\n\r\n{_part(url, table, partition, write)}\r\n"
        )
    parts.append(f"--{changes}--\r\n\r\n--{boundary}--\r\n")
    return "".join(parts).encode()


def _part(url: str, table: str, partition: str, write: Write) -> str:
    place = f"{url}/{table}"
    if write.kind is not WriteKind.INSERT:
        place += f"(PartitionKey='{_quoted(partition)}',RowKey='{_quoted(write.key)}')"
    lines = [
        f"{_VERBS[write.kind]} {place} HTTP/1.1",
        f"x-ms-version: {_VERSION}",
        "DataServiceVersion: 3.0",
        "Accept: application/json;odata=minimalmetadata",
    ]
    if write.kind is WriteKind.INSERT:
        lines.append("Prefer: return-no-content")
    if write.version is not None or write.kind is WriteKind.DELETE:
        lines.append(f"If-Match: {write.version or '*'}")
    text = ""
    if write.kind is not WriteKind.DELETE:
        # ASCII only, so that its length in characters is that in bytes; text, whole numbers and booleans need no type.
        text = json.dumps({"PartitionKey": partition, "RowKey": write.key, **write.values})
        lines += ["Content-Type: application/json", f"Content-Length: {len(text)}"]
    return "\r\n".join(lines) + f"\r\n\r\n{text}"


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
