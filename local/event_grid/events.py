"""Reads published events in both schemas, and writes them for a subscription."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

from local.event_grid.errors import BadRequestError
from local.event_grid.wire import Json, JsonObject, as_object, compact, parse_json

__all__ = ["EventSchema", "NewEvent", "parse_published", "rendered"]


class EventSchema(StrEnum):
    """How events are written, on the way in and on the way out."""

    EVENT_GRID = "EventGridSchema"
    CLOUD_EVENTS = "CloudEventSchemaV1_0"


_SCHEMA_WORD: Final = {EventSchema.EVENT_GRID: "EventGridEvent", EventSchema.CLOUD_EVENTS: "CloudEventV10"}
_EXTENSION_NAME: Final = re.compile(r"[a-z0-9]+")
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """One accepted event, before it has a place in the store."""

    source: str  # the topic's name, or "storage"
    schema: EventSchema
    body: JsonObject  # complete, with the topic and the metadata version

    @property
    def id(self) -> str:
        """The publisher's id."""
        return str(self.body["id"])

    @property
    def type(self) -> str:
        """The event's type."""
        return str(self.body["eventType" if self.schema is EventSchema.EVENT_GRID else "type"])

    @property
    def subject(self) -> str:
        """The event's subject, empty if it has none."""
        return str(self.body.get("subject") or "")


def parse_published(
    body: bytes, *, headers: Mapping[str, str], schema: EventSchema, topic: str, topic_id: str
) -> list[NewEvent]:
    """Return the events in a publisher's request.

    Args:
        body: The request's.
        headers: The request's; the content type tells a batch from one CloudEvent, `ce-` headers make binary mode.
        schema: What the topic takes.
        topic: Its name.
        topic_id: Its resource id, which Event Grid events get.

    Raises:
        BadRequestError: In the service's words; nothing of the request is accepted.
    """
    content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if schema is EventSchema.CLOUD_EVENTS and "ce-specversion" in headers:
        items: Sequence[Json] = [_from_binary_mode(body, headers, content_type)]
    else:
        try:
            document = parse_json(body)
            compact(document)  # an escaped half of a surrogate pair parses, but can never be delivered
        except ValueError as error:
            raise _refused(f"{_not_conforming(schema)} {error}") from error
        items = _items_in(document, schema, content_type)
    check = _checked_event_grid if schema is EventSchema.EVENT_GRID else _checked_cloud_event
    return [NewEvent(source=topic, schema=schema, body=check(item, topic_id)) for item in items]


def rendered(event: NewEvent, schema: EventSchema) -> JsonObject:
    """Return the event as a subscription with this schema gets it."""
    if schema is event.schema:
        return event.body
    if schema is EventSchema.EVENT_GRID:
        raise ValueError("a CloudEvent cannot be delivered in the Event Grid schema")
    source = event.body
    return {
        "id": source["id"],
        "source": source["topic"],
        "specversion": "1.0",
        "type": source["eventType"],
        "subject": source["subject"],
        "time": source["eventTime"],
        "data": source.get("data"),
    }


def _refused(message: str) -> BadRequestError:
    return BadRequestError(message, detail_code="InputJsonInvalid")


def _not_conforming(schema: EventSchema) -> str:
    return (
        f"This resource is configured to receive event in '{_SCHEMA_WORD[schema]}' schema. "
        "The JSON received does not conform to the expected schema."
    )


def _missing(name: str, schema: EventSchema) -> BadRequestError:
    word = _SCHEMA_WORD[schema]
    return _refused(f"This resource is configured for '{word}' schema and requires '{name}' property to be set.")


def _items_in(document: Json, schema: EventSchema, content_type: str) -> Sequence[Json]:
    is_batch = schema is EventSchema.EVENT_GRID or content_type == "application/cloudevents-batch+json"
    if is_batch and not isinstance(document, list):
        raise _refused(f"{_not_conforming(schema)} Token Expected: StartArray, Actual Token Received: StartObject.")
    if not is_batch and not isinstance(document, dict):
        raise _refused(f"{_not_conforming(schema)} Token Expected: StartObject, Actual Token Received: StartArray.")
    if not isinstance(document, list):
        return [document]
    if not document:
        raise _refused(_not_conforming(schema))
    return document


def _require(event: JsonObject, names: Sequence[str], schema: EventSchema) -> None:
    for name in names:
        value = event.get(name)
        if not isinstance(value, str) or not value.strip():
            raise _missing(name, schema)


def _require_time(event: JsonObject, name: str, schema: EventSchema) -> None:
    text = str(event[name])
    try:
        datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError as error:
        raise _refused(f"{_not_conforming(schema)} '{name}' is not a date and time: {text!r}.") from error
    if not _RFC3339.fullmatch(text):
        raise _refused(f"{_not_conforming(schema)} '{name}' is not a date and time: {text!r}.")


def _checked_event_grid(item: Json, topic_id: str) -> JsonObject:
    schema = EventSchema.EVENT_GRID
    if not isinstance(item, dict):
        raise _refused(_not_conforming(schema))
    if "specversion" in item and "eventType" not in item:
        raise _refused(_not_conforming(schema))
    _require(item, ("id", "subject", "eventType", "eventTime"), schema)
    _require_time(item, "eventTime", schema)
    for name in ("data", "dataVersion"):
        if name not in item:
            raise _missing(name, schema)
    if item.get("topic") not in (None, "", topic_id):
        raise _refused(f"{_not_conforming(schema)} 'topic' must be absent or {topic_id!r}, got {item['topic']!r}.")
    if item.get("metadataVersion") not in (None, "", "1"):
        raise _refused(f"{_not_conforming(schema)} 'metadataVersion' must be absent or '1'.")
    return {**item, "topic": topic_id, "metadataVersion": "1"}


def _checked_cloud_event(item: Json, topic_id: str) -> JsonObject:
    del topic_id  # a CloudEvent's source is the publisher's own
    schema = EventSchema.CLOUD_EVENTS
    if not isinstance(item, dict):
        raise _refused(_not_conforming(schema))
    if "eventType" in item and "specversion" not in item:
        raise _refused(_not_conforming(schema))
    _require(item, ("id", "source", "specversion", "type"), schema)
    if item["specversion"] != "1.0":
        raise _refused(f"{_not_conforming(schema)} 'specversion' must be '1.0', got {item['specversion']!r}.")
    if item.get("time") is not None:
        _require_time(item, "time", schema)
    if "data" in item and "data_base64" in item:
        raise _refused(f"{_not_conforming(schema)} 'data' and 'data_base64' exclude each other.")
    for name in item:
        if not _EXTENSION_NAME.fullmatch(name) and name != "data_base64":
            raise _refused(
                f"{_not_conforming(schema)} An attribute's name has lower-case letters and digits only: {name!r}."
            )
    return {name: value for name, value in item.items() if value is not None or name == "data"}


def _from_binary_mode(body: bytes, headers: Mapping[str, str], content_type: str) -> JsonObject:
    event: JsonObject = {
        name.lower().removeprefix("ce-"): unquote(value)
        for name, value in headers.items()
        if name.lower().startswith("ce-")
    }
    event["datacontenttype"] = content_type or "application/octet-stream"
    if not body:
        return event
    if content_type.endswith(("/json", "+json")):
        try:
            event["data"] = parse_json(body)
        except ValueError as error:
            raise _refused(f"{_not_conforming(EventSchema.CLOUD_EVENTS)} {error}") from error
    else:
        event["data_base64"] = base64.b64encode(body).decode()
    return as_object(event)
