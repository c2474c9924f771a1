"""Tells which blob requests commit or delete content, and writes the events that a storage account sends for them."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, unquote

from local.event_grid.config import STORAGE_SOURCE
from local.event_grid.events import EventSchema, NewEvent
from local.event_grid.storage_client import quoted
from local.event_grid.wire import JsonObject, utc_text

__all__ = ["BlobAddress", "BlobFacts", "Change", "ChangeType", "address_of", "change_asked_for", "storage_event"]

_SILENT_CONTAINERS: Final = frozenset({"$logs", "$blobchangefeed"})
DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"
SEQUENCER_DIGITS: Final = 48


class ChangeType(StrEnum):
    """The event types that are sent here."""

    CREATED = "Microsoft.Storage.BlobCreated"
    DELETED = "Microsoft.Storage.BlobDeleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobAddress:
    """One blob of the account; the path is decoded."""

    container: str
    path: str

    @property
    def subject(self) -> str:
        """The subject of the blob's events."""
        return f"/blobServices/default/containers/{self.container}/blobs/{self.path}"

    def path_style(self, account: str) -> str:
        """Return the request path with the account in front, percent-encoded."""
        return f"/{account}/{quoted(self.container)}/{quoted(self.path)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobFacts:
    """What an event says about a blob's content."""

    content_length: int
    content_type: str
    blob_type: str
    etag: str = ""  # of content that is gone after the change; otherwise the answer to the change says it


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a request will change if it succeeds."""

    type: ChangeType
    api: str
    address: BlobAddress
    success: frozenset[int]
    facts: BlobFacts | None  # None: only the service knows them


def address_of(raw_path: str, *, host: str, account: str) -> BlobAddress | None:
    """Return the blob that a request is about, or None if it is about none of this account.

    Args:
        raw_path: As sent, without the query; path-style (/account/container/blob) or host-style.
        host: The Host header; host-style requests have the account as its first label.
        account: The only account.
    """
    parts = raw_path.lstrip("/").split("/")
    if not host.lower().startswith(f"{account.lower()}."):
        if unquote(parts[0]) != account:
            return None
        parts = parts[1:]
    if parts and len(parts) == 1 and parts[0]:
        return BlobAddress(container="$root", path=unquote(parts[0]))
    if len(parts) < 2 or not parts[0] or not any(parts[1:]):  # noqa: PLR2004 - container and blob
        return None
    address = BlobAddress(container=unquote(parts[0]), path=unquote("/".join(parts[1:])))
    return None if address.container in _SILENT_CONTAINERS else address


def change_asked_for(method: str, target: str, headers: Mapping[str, str], *, account: str) -> Change | None:
    """Return what a request will change, or None if no event can come of it.

    Args:
        method: In upper case.
        target: Path and query as sent.
        headers: Case-insensitive.
        account: The only account.
    """
    raw_path, _, raw_query = target.partition("?")
    query = {name.lower(): value for name, value in parse_qsl(raw_query, keep_blank_values=True)}
    if method not in {"PUT", "DELETE"} or "restype" in query:
        return None
    address = address_of(raw_path, host=headers.get("Host", ""), account=account)
    if address is None:
        return None
    if method == "DELETE":
        is_whole_blob = not query.keys() & {"snapshot", "versionid", "comp"}
        if not is_whole_blob or headers.get("x-ms-delete-snapshots", "").lower() == "only":
            return None
        return Change(type=ChangeType.DELETED, api="DeleteBlob", address=address, success=frozenset({202}), facts=None)
    api = _committing_api(query.get("comp"), headers)
    if api is None:
        return None
    facts = _facts_in(headers) if api == "PutBlob" else None
    success = frozenset({201, 202}) if api == "CopyBlob" else frozenset({201})
    return Change(type=ChangeType.CREATED, api=api, address=address, success=success, facts=facts)


def _committing_api(comp: str | None, headers: Mapping[str, str]) -> str | None:
    if comp == "blocklist":
        return "PutBlockList"
    if comp is not None:
        return None
    if "x-ms-blob-type" in headers:
        return "PutBlob"
    return "CopyBlob" if "x-ms-copy-source" in headers else None


def _facts_in(headers: Mapping[str, str]) -> BlobFacts | None:
    """Return what a Put Blob request itself says, or None if the content comes from elsewhere or in chunks."""
    blob_type = headers["x-ms-blob-type"]
    length = (
        headers.get("x-ms-blob-content-length", "0") if blob_type == "PageBlob" else headers.get("Content-Length", "")
    )
    if "x-ms-copy-source" in headers or not length.isdigit():
        return None
    content_type = headers.get("x-ms-blob-content-type") or headers.get("Content-Type") or DEFAULT_CONTENT_TYPE
    return BlobFacts(content_length=int(length), content_type=content_type, blob_type=blob_type)


def storage_event(  # noqa: PLR0913 - the facts of one event
    change: Change,
    facts: BlobFacts,
    *,
    account: str,
    topic_id: str,
    etag: str,
    request_id: str,
    client_request_id: str | None,
    sequence: int,
    now: float,
) -> NewEvent:
    """Return the event of a change that succeeded.

    Source: Microsoft Learn, "Azure Blob Storage as an Event Grid source", event schema.
    """
    address = change.address
    data: JsonObject = {"api": change.api}
    if client_request_id:
        data["clientRequestId"] = client_request_id
    data |= {"requestId": request_id, "eTag": etag.strip('"'), "contentType": facts.content_type}
    if change.type is ChangeType.CREATED:
        data["contentLength"] = facts.content_length
    data |= {
        "blobType": facts.blob_type,
        "url": f"https://{account}.blob.core.windows.net/{address.container}/{quoted(address.path)}",
        "sequencer": f"{sequence:0{SEQUENCER_DIGITS}x}",
        "storageDiagnostics": {"batchId": str(uuid.uuid4())},
    }
    body: JsonObject = {
        "topic": topic_id,
        "subject": address.subject,
        "eventType": change.type.value,
        "id": str(uuid.uuid4()),
        "data": data,
        "dataVersion": "",
        "metadataVersion": "1",
        "eventTime": utc_text(now),
    }
    return NewEvent(source=STORAGE_SOURCE, schema=EventSchema.EVENT_GRID, body=body)
