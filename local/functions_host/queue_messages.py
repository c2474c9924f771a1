"""Converts between queue message texts and what functions get and give."""

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Protocol

from local.functions_host.messages import Data, DataKind

__all__ = ["ReceivedMessage", "decode_body", "encode_body", "messages_from_output", "trigger_metadata"]


class ReceivedMessage(Protocol):
    """What the host reads from a received message; the SDK's QueueMessage has all of it."""

    id: str
    content: str
    dequeue_count: int | None
    inserted_on: datetime | None
    expires_on: datetime | None
    next_visible_on: datetime | None
    pop_receipt: str | None


def decode_body(text: str, *, is_base64: bool) -> bytes | None:
    """Return the message's body, or None if the text is no base64.

    >>> decode_body("aGk=", is_base64=True), decode_body("hi!", is_base64=True), decode_body("hi!", is_base64=False)
    (b'hi', None, b'hi!')
    """
    if not is_base64:
        return text.encode()
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def encode_body(body: bytes, *, is_base64: bool) -> str:
    """Return the text that carries the body."""
    return base64.b64encode(body).decode() if is_base64 else body.decode("utf-8", "replace")


def trigger_metadata(message: ReceivedMessage, body: str) -> dict[str, Data]:
    """Return what Azure's host tells a function about its message.

    Texts go as strings, everything else as JSON (GrpcMessageConversionExtensions.ToRpc).
    """
    return {
        "QueueTrigger": Data(DataKind.STRING, body),
        "Id": Data(DataKind.STRING, message.id),
        "PopReceipt": Data(DataKind.STRING, message.pop_receipt or ""),
        "DequeueCount": Data(DataKind.JSON, str(message.dequeue_count or 0)),
        "ExpirationTime": Data(DataKind.JSON, _json_time(message.expires_on)),
        "InsertionTime": Data(DataKind.JSON, _json_time(message.inserted_on)),
        "NextVisibleTime": Data(DataKind.JSON, _json_time(message.next_visible_on)),
    }


def _json_time(moment: datetime | None) -> str:
    return "null" if moment is None else json.dumps(moment.astimezone(UTC).isoformat())


def messages_from_output(value: Data) -> list[bytes]:
    """Return the bodies of the messages that an output value means.

    A JSON array is one message per element, even when a function set it as text
    (FunctionBinding.ReadAsEnumerable); an object `{"id", "body"}` is a QueueMessage and means its body.

    >>> messages_from_output(Data(DataKind.STRING, '["a", {"b": 1}]'))
    [b'a', b'{"b": 1}']
    """
    if isinstance(value.value, bytes):
        return [value.value]
    text = str(value.value)
    try:
        parsed = json.loads(text)
    except ValueError:
        return [text.encode()]
    if isinstance(parsed, list):
        return [_element(element) for element in parsed if element is not None]
    if value.kind is DataKind.JSON:
        return [] if parsed is None else [_element(parsed, text)]
    return [text.encode()]


def _element(element: object, text: str | None = None) -> bytes:
    if isinstance(element, str):
        return element.encode()
    if isinstance(element, dict) and element.keys() == {"id", "body"}:
        return str(element["body"]).encode()
    return (text or json.dumps(element)).encode()
