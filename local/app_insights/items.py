"""Reads telemetry envelopes as the exporters send them, and names their fields as Azure's tables do."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from local.event_grid.wire import Json, JsonObject, as_object, parse_json

__all__ = ["ITEM_TYPES", "InvalidItemError", "Item", "envelopes_in", "item_type_named", "parse_item"]

# The exporter's base types, and what Azure's tables call the items.
ITEM_TYPES: Final = {
    "RequestData": "request",
    "RemoteDependencyData": "dependency",
    "MessageData": "trace",
    "ExceptionData": "exception",
    "EventData": "customEvent",
    "MetricData": "customMetric",
    "AvailabilityData": "availabilityResult",
    "PageViewData": "pageView",
    "PageViewPerfData": "browserTiming",
}
_DURATION: Final = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2})(?:\.(\d+))?")


class InvalidItemError(ValueError):
    """A telemetry item cannot be read; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One telemetry item."""

    item_type: str
    timestamp: datetime
    operation_id: str
    parent_id: str
    id: str
    name: str
    role: str
    duration_ms: float | None
    is_success: bool | None
    result_code: str
    message: str
    severity: int | None
    dimensions: JsonObject
    envelope: JsonObject = field(repr=False)

    def document(self) -> JsonObject:
        """Return the item with the column names of Azure's tables, and the envelope as it came."""
        return {
            "timestamp": self.timestamp.isoformat(),
            "itemType": self.item_type,
            "operation_Id": self.operation_id,
            "operation_ParentId": self.parent_id,
            "operation_Name": _tag(self.envelope, "ai.operation.name"),
            "cloud_RoleName": self.role,
            "id": self.id,
            "name": self.name,
            "duration": self.duration_ms,
            "success": self.is_success,
            "resultCode": self.result_code,
            "message": self.message,
            "severityLevel": self.severity,
            "customDimensions": self.dimensions,
            "envelope": self.envelope,
        }


def envelopes_in(body: bytes) -> list[Json]:
    """Return the envelopes of a request: a JSON array, one object, or one object a line.

    Raises:
        InvalidItemError: It is none of these.
    """
    if not body.strip():
        raise InvalidItemError("the body is empty")
    try:
        document = parse_json(body)
    except ValueError:
        try:
            return [parse_json(line) for line in body.splitlines() if line.strip()]
        except ValueError as error:
            raise InvalidItemError(f"the body is not JSON: {error}") from error
    return list(document) if isinstance(document, list) else [document]


def parse_item(envelope: Json) -> Item:
    """Return the item in an envelope.

    Raises:
        InvalidItemError: The envelope lacks its time or its data, or one of them is not what it should be.
    """
    if not isinstance(envelope, dict):
        raise InvalidItemError(f"an item must be an object, got {type(envelope).__name__}")
    data = as_object(envelope.get("data"))
    base, base_type = as_object(data.get("baseData")), data.get("baseType")
    if not isinstance(base_type, str) or not base:
        raise InvalidItemError("an item needs data.baseType and data.baseData")
    details, exception = as_object(base.get("properties")), _first(base.get("exceptions"))
    metric = _first(base.get("metrics"))
    success, severity = base.get("success"), base.get("severityLevel")
    return Item(
        item_type=ITEM_TYPES.get(base_type, base_type),
        timestamp=_instant(envelope.get("time")),
        operation_id=_tag(envelope, "ai.operation.id"),
        parent_id=_tag(envelope, "ai.operation.parentId"),
        id=_text(base.get("id")),
        name=_text(base.get("name") or exception.get("typeName") or metric.get("name")),
        role=_tag(envelope, "ai.cloud.role"),
        duration_ms=_milliseconds(base.get("duration")),
        is_success=success if isinstance(success, bool) else None,
        result_code=_text(base.get("resultCode") or base.get("responseCode")),
        message=_text(base.get("message") or exception.get("message")),
        severity=severity if isinstance(severity, int) else None,
        dimensions=details,
        envelope=envelope,
    )


def item_type_named(name: str) -> str:
    """Return the item type that a reader asked for by its table, its base type or itself.

    >>> item_type_named("requests"), item_type_named("RequestData"), item_type_named("dependencies")
    ('request', 'request', 'dependency')
    """
    if name in ITEM_TYPES:
        return ITEM_TYPES[name]
    if name == "dependencies":
        return "dependency"
    singular = name.removesuffix("s")
    return singular if singular in ITEM_TYPES.values() else name


def frames_of(item: Item) -> Iterator[str]:
    """Yield the stack traces of an exception item."""
    base = as_object(as_object(item.envelope.get("data")).get("baseData"))
    exceptions = base.get("exceptions")
    for exception in exceptions if isinstance(exceptions, list) else ():
        stack = as_object(exception).get("stack")
        if isinstance(stack, str):
            yield stack


def encoded(envelope: JsonObject) -> bytes:
    """Return an envelope as one line."""
    return json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def _first(value: Json) -> JsonObject:
    return as_object(value[0]) if isinstance(value, list) and value else {}


def _text(value: Json) -> str:
    return "" if value is None else str(value)


def _tag(envelope: JsonObject, name: str) -> str:
    return _text(as_object(envelope.get("tags")).get(name))


def _instant(value: Json) -> datetime:
    try:
        parsed = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise InvalidItemError(f"an item needs a time in ISO 8601, got {value!r}") from error
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def _milliseconds(value: Json) -> float | None:
    """Return a duration such as 0.00:01:02.345 in milliseconds."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups()[:4])
    fraction = float(f"0.{found[5] or 0}")
    return (((days * 24 + hours) * 60 + minutes) * 60 + seconds + fraction) * 1000
