"""Reads what Event Grid put into the arrivals queue: a blob's event in either schema, plain or base64."""

import base64
import binascii
import json
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from functions.core.errors import InvalidEventError, Problem
from functions.core.model import BlobCreated, BlobRenamed, BlobVersion, OtherBlobEvent
from functions.core.reading import Reader

__all__ = ["RENAMED", "BlobEvent", "parse_blob_event"]

BlobEvent = BlobCreated | BlobRenamed | OtherBlobEvent
RENAMED: Final = "Microsoft.Storage.BlobRenamed"

_CREATED: Final = "Microsoft.Storage.BlobCreated"
_SUBJECT: Final = re.compile(r"/blobServices/default/containers/([^/]+)/blobs/(.+)", re.DOTALL)
_SOURCE: Final = re.compile(r".*/providers/Microsoft\.Storage/storageAccounts/([a-z0-9]{3,24})", re.IGNORECASE)
_URL: Final = re.compile("https?://([^/?#]+)/([^?#\ud800-\udfff]*)", re.DOTALL)  # a lone surrogate is no character
_TRACEPARENT: Final = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_MAX_CHARACTERS: Final = 256 * 1024
_MAX_PATH: Final = 1024
_CONTAINER: Final = r"\$?[a-z0-9](-?[a-z0-9]){1,62}"


def parse_blob_event(message: str | bytes) -> BlobEvent:
    """Return the event in a queue message.

    Container and path come from the subject, where they are plain text, and are cross-checked with the URL, where
    they are percent-encoded. A message may be one event or a list of one, as plain JSON or in base64.

    Raises:
        InvalidEventError: It is no blob event; lists every mistake.
    """
    document = _parse_document(message)
    if isinstance(document, list):
        if len(document) != 1:
            raise InvalidEventError([Problem("message", f"a list of {len(document)}", "one event")])
        document = document[0]
    problems: list[Problem] = []
    root = Reader(document, "event", problems)
    if not root.mapping(optional=None):
        raise InvalidEventError(problems)
    is_cloud_event = not root.child("specversion").is_absent
    if is_cloud_event:
        root.child("specversion").constant("1.0")
    event_type = root.child("type" if is_cloud_event else "eventType")
    kind = event_type.text(pattern=r"Microsoft\.Storage\.\w{1,60}", expected="an event type of Microsoft.Storage")
    event = _read_event(
        root,
        kind,
        account=_read_account(root.child("source" if is_cloud_event else "topic")),
        time=root.child("time" if is_cloud_event else "eventTime"),
    )
    if problems:
        raise InvalidEventError(problems)
    return event


def _parse_document(message: str | bytes) -> object:
    if len(message) > _MAX_CHARACTERS:
        raise InvalidEventError([Problem("message", f"{len(message)} characters", f"at most {_MAX_CHARACTERS}")])
    try:
        text = message.decode() if isinstance(message, bytes) else message
        text = text.lstrip("\ufeff").strip()
        if not text.startswith(("{", "[")):
            text = base64.b64decode(text, validate=True).decode().lstrip("\ufeff").strip()
        document: object = json.loads(text)
    except (ValueError, binascii.Error, RecursionError):
        raise InvalidEventError(
            [Problem("message", f"{len(message)} characters", "an event as JSON, plain or in base64")]
        ) from None
    return document


def _read_event(root: Reader, kind: str, *, account: str, time: Reader) -> BlobEvent:
    event_id = root.child("id").text(min_length=1, max_length=256)
    container, path = _read_subject(root.child("subject"))
    data = root.child("data")
    data.mapping(optional=None)
    api = data.child("api").text(max_length=128, default="")
    traceparent = root.child("traceparent").value
    traceparent = traceparent if isinstance(traceparent, str) and _TRACEPARENT.fullmatch(traceparent) else None
    sequencer_reader = data.child("sequencer")
    sequencer = None if sequencer_reader.is_absent else sequencer_reader.nullable_text(max_length=256)
    when = time.instant()
    if kind == RENAMED:
        _cross_check(data.child("destinationUrl"), account, container, path)
        return BlobRenamed(
            event_id=event_id,
            event_time=when,
            api=api,
            account=account,
            container=container,
            path=path,
            sequencer=sequencer,
            traceparent=traceparent,
        )
    etag = data.child("eTag")
    is_created = kind == _CREATED
    if is_created:
        _cross_check(data.child("url"), account, container, path)
    blob = BlobVersion(
        account=account,
        container=container,
        path=path,
        etag=_read_etag(etag) if is_created or not etag.is_absent else f"event:{event_id}",
        size_bytes=data.child("contentLength").integer(minimum=0, default=None if is_created else 0),
        sequencer=sequencer,
    )
    if not is_created:
        return OtherBlobEvent(
            event_id=event_id, event_time=when, event_type=kind, api=api, blob=blob, traceparent=traceparent
        )
    content_type = data.child("contentType")
    return BlobCreated(
        event_id=event_id,
        event_time=when,
        api=api,
        blob=blob,
        content_type="" if content_type.value is None else content_type.text(max_length=1024, default=""),
        traceparent=traceparent,
    )


def _read_account(source: Reader) -> str:
    match = _SOURCE.fullmatch(source.value) if isinstance(source.value, str) else None
    if match is None:
        source.refuse("the resource id of a storage account")
        return ""
    return match[1].lower()


def _read_subject(subject: Reader) -> tuple[str, str]:
    text = subject.text(expected="the subject of a blob")
    match = _SUBJECT.fullmatch(text)
    if match is None or not re.fullmatch(_CONTAINER, match[1]):
        if text:
            subject.refuse("/blobServices/default/containers/<container>/blobs/<path>")
        return "", ""
    if len(match[2]) > _MAX_PATH or "\0" in match[2]:
        subject.refuse(f"a path of at most {_MAX_PATH} characters without NUL")
    return match[1], match[2]


def _read_etag(reader: Reader) -> str:
    """Return the ETag bare: documents show it with and without quotes, and both are the same version."""
    text = reader.text(min_length=1, max_length=256, expected="an ETag")
    return text.removeprefix("W/").strip('"')


def _cross_check(url: Reader, account: str, container: str, path: str) -> None:
    """Note a problem unless the URL names the subject's blob.

    A name may contain "%41" literally, so the subject is not decoded: only the URL is, and once.
    """
    match = _URL.fullmatch(url.value) if isinstance(url.value, str) else None
    if match is None:
        url.refuse("the URL of the blob, without a query")
        return
    host, encoded = match[1].lower(), match[2]
    if host.split(".")[0] != account or (".blob." not in host and ".dfs." not in host):
        url.refuse(f"a URL of the account {account!r}")
        return
    wanted = f"{container}/{path}"
    # Azure writes some legal characters as they are; what is not ASCII there stands for itself.
    if encoded != wanted and unquote_to_bytes(encoded) != wanted.encode():
        url.refuse(f"the URL of {wanted[:200]!r}, which the subject names")
