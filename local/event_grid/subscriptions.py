"""Holds the subscriptions, and says which of them want an event."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from local.event_grid.errors import BadRequestError, NotImplementedHereError
from local.event_grid.events import EventSchema, NewEvent
from local.event_grid.filters import EventFilter, FilterError, parse_filter
from local.event_grid.schedule import DestinationKind, RetryPolicy
from local.event_grid.wire import Json, JsonObject, as_object

__all__ = ["DeliveryProperty", "ProvisioningState", "Subscription", "Subscriptions", "parse_subscription", "with_state"]

MAX_DELIVERY_PROPERTIES: Final = 10


class ProvisioningState(StrEnum):
    """Whether a subscription gets events yet."""

    CREATING = "Creating"
    AWAITING_MANUAL_ACTION = "AwaitingManualAction"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryProperty:
    """A header that deliveries to a webhook get."""

    name: str
    value: str | None  # None: taken from the event
    source_field: str | None
    is_secret: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Who wants which events of one source, and how they are handed over."""

    name: str
    source: str
    resource_id: str
    kind: DestinationKind
    target: str = field(repr=False)  # the queue's name or the webhook's URL, which may hold a key
    schema: EventSchema
    filter: EventFilter
    retry: RetryPolicy
    dead_letter_container: str | None
    queue_message_ttl_s: int | None = None
    max_events_per_batch: int = 1
    preferred_batch_bytes: int = 64 * 1024
    delivery_properties: tuple[DeliveryProperty, ...] = ()
    expires_at: float | None = None
    properties: JsonObject = field(repr=False)  # as it was asked for
    state: ProvisioningState = ProvisioningState.SUCCEEDED
    validation_code: str = ""
    state_since: float = 0.0

    @property
    def key(self) -> str:
        """What identifies it here; names are case-insensitive in Azure."""
        return f"{self.source}/{self.name}".lower()


class Subscriptions:
    """All subscriptions, by key."""

    def __init__(self, initial: Iterable[Subscription] = ()) -> None:
        self._by_key = {item.key: item for item in initial}

    def __iter__(self) -> Iterator[Subscription]:
        return iter(tuple(self._by_key.values()))

    def get(self, key: str) -> Subscription | None:
        """Return the subscription with this key."""
        return self._by_key.get(key.lower())

    def put(self, subscription: Subscription) -> None:
        """Add or replace one."""
        self._by_key[subscription.key] = subscription

    def remove(self, key: str) -> Subscription | None:
        """Take one away and return it."""
        return self._by_key.pop(key.lower(), None)

    def of(self, source: str) -> list[Subscription]:
        """Return those of one source."""
        return [item for item in self._by_key.values() if item.source == source]

    def wanting(self, event: NewEvent, *, now: float) -> list[Subscription]:
        """Return those that get the event."""
        return [item for item in self._live(event.source, now) if item.filter.matches(event.body)]

    def is_wanted(self, source: str, event_type: str, subject: str, *, now: float) -> bool:
        """Return whether any of them may want an event whose data is not known yet."""
        return any(item.filter.may_match(event_type, subject) for item in self._live(source, now))

    def _live(self, source: str, now: float) -> list[Subscription]:
        return [
            item
            for item in self._by_key.values()
            if item.source == source
            and item.state is ProvisioningState.SUCCEEDED
            and (item.expires_at is None or now < item.expires_at)
        ]


_PROPERTIES: Final = frozenset(
    {
        "destination",
        "deliveryWithResourceIdentity",
        "filter",
        "labels",
        "expirationTimeUtc",
        "eventDeliverySchema",
        "retryPolicy",
        "deadLetterDestination",
        "deadLetterWithResourceIdentity",
        "topic",
        "provisioningState",
    }
)


def parse_subscription(
    properties: JsonObject, *, name: str, source: str, resource_id: str, input_schema: EventSchema
) -> Subscription:
    """Return the subscription that a document of ARM's shape describes.

    Raises:
        BadRequestError: It breaks the service's rules.
        NotImplementedHereError: It asks for a destination that this emulator has not.
    """
    if unknown := sorted(set(properties) - _PROPERTIES):
        raise _invalid(f"unknown properties {unknown}")
    with_identity = as_object(properties.get("deliveryWithResourceIdentity"))
    destination = as_object(properties.get("destination") or with_identity.get("destination"))
    details = as_object(destination.get("properties"))
    kind = _kind_of(destination)
    schema = _output_schema(properties.get("eventDeliverySchema"), input_schema)
    try:
        wanted = parse_filter(as_object(properties.get("filter")))
        retry = _retry_policy(as_object(properties.get("retryPolicy")))
    except (FilterError, ValueError) as error:
        raise _invalid(str(error)) from error
    target_field = "queueName" if kind is DestinationKind.AZURE_RESOURCE else "endpointUrl"
    target = details.get(target_field)
    if not isinstance(target, str) or not target:
        raise _invalid(f"destination.properties.{target_field} is required")
    if kind is DestinationKind.WEBHOOK and not target.startswith(("http://", "https://")):
        raise _invalid("destination.properties.endpointUrl must be a URL")
    return Subscription(
        name=name,
        source=source,
        resource_id=resource_id,
        kind=kind,
        target=target,
        schema=schema,
        filter=wanted,
        retry=retry,
        dead_letter_container=_dead_letter_container(properties),
        queue_message_ttl_s=_whole(details, "queueMessageTimeToLiveInSeconds", None, 1, 604800),
        max_events_per_batch=_whole(details, "maxEventsPerBatch", 1, 1, 5000) or 1,
        preferred_batch_bytes=(_whole(details, "preferredBatchSizeInKilobytes", 64, 1, 1024) or 64) * 1024,
        delivery_properties=_delivery_properties(details.get("deliveryAttributeMappings")),
        expires_at=_instant(properties.get("expirationTimeUtc")),
        properties=properties,
    )


def with_state(subscription: Subscription, state: ProvisioningState, *, now: float) -> Subscription:
    """Return the subscription in another provisioning state."""
    return replace(subscription, state=state, state_since=now)


def _invalid(reason: str) -> BadRequestError:
    return BadRequestError(f"The event subscription is not valid: {reason}", detail_code="InvalidRequest")


def _kind_of(destination: Mapping[str, Json]) -> DestinationKind:
    kind = destination.get("endpointType")
    if kind in list(DestinationKind):
        return DestinationKind(str(kind))
    if kind in {
        "EventHub",
        "HybridConnection",
        "ServiceBusQueue",
        "ServiceBusTopic",
        "AzureFunction",
        "MonitorAlert",
        "NamespaceTopic",
    }:
        raise NotImplementedHereError(f"a destination of type {kind!r} is not implemented by this emulator")
    raise _invalid(f"destination.endpointType {kind!r} is unknown")


def _output_schema(given: Json, input_schema: EventSchema) -> EventSchema:
    if given is None:
        return input_schema
    if given == "CustomInputSchema":
        raise NotImplementedHereError("event delivery schema 'CustomInputSchema' is not implemented by this emulator")
    if given not in list(EventSchema):
        raise _invalid(f"eventDeliverySchema {given!r} is unknown")
    if input_schema is EventSchema.CLOUD_EVENTS and given == EventSchema.EVENT_GRID:
        raise _invalid("events that come in as CloudEventSchemaV1_0 cannot be delivered as EventGridSchema")
    return EventSchema(str(given))


def _retry_policy(document: JsonObject) -> RetryPolicy:
    attempts = _whole(document, "maxDeliveryAttempts", 30, 1, 30) or 30
    minutes = _whole(document, "eventTimeToLiveInMinutes", 1440, 1, 1440) or 1440
    return RetryPolicy(max_delivery_attempts=attempts, event_ttl_minutes=minutes)


def _dead_letter_container(properties: JsonObject) -> str | None:
    with_identity = as_object(properties.get("deadLetterWithResourceIdentity"))
    destination = as_object(properties.get("deadLetterDestination") or with_identity.get("deadLetterDestination"))
    if not destination:
        return None
    container = as_object(destination.get("properties")).get("blobContainerName")
    if destination.get("endpointType") != "StorageBlob" or not isinstance(container, str) or not container:
        raise _invalid("the dead-letter destination must be a StorageBlob with a blobContainerName")
    return container


def _delivery_properties(given: Json) -> tuple[DeliveryProperty, ...]:
    items = given if isinstance(given, list) else []
    if len(items) > MAX_DELIVERY_PROPERTIES:
        raise _invalid(f"at most {MAX_DELIVERY_PROPERTIES} delivery properties are allowed, got {len(items)}")
    parsed = []
    for item in map(as_object, items):
        details = as_object(item.get("properties"))
        value, source_field = details.get("value"), details.get("sourceField")
        if not isinstance(item.get("name"), str) or not isinstance(
            value if item.get("type") == "Static" else source_field, str
        ):
            raise _invalid(f"deliveryAttributeMappings has an item without a name, a value or a sourceField: {item!r}")
        is_static = item.get("type") == "Static"
        parsed.append(
            DeliveryProperty(
                name=str(item["name"]),
                value=str(value) if is_static else None,
                source_field=None if is_static else str(source_field),
                is_secret=details.get("isSecret") is True,
            )
        )
    return tuple(parsed)


def _whole(document: JsonObject, name: str, default: int | None, low: int, high: int) -> int | None:
    value = document.get(name)
    if value is None:
        return default
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise _invalid(f"{name} must be a whole number from {low} to {high}, got {value!r}")


def _instant(given: Json) -> float | None:
    if given is None:
        return None
    try:
        return datetime.fromisoformat(str(given)).timestamp()
    except ValueError as error:
        raise _invalid(f"expirationTimeUtc is not a date and time: {given!r}") from error
