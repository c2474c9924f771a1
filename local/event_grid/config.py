"""Reads the emulator's configuration file, and names every mistake in it at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from local.event_grid.events import EventSchema
from local.event_grid.wire import Json, JsonObject, as_object, parse_json

__all__ = ["STORAGE_SOURCE", "ConfigError", "Settings", "SubscriptionConfig", "TopicConfig", "read_settings"]

STORAGE_SOURCE: Final = "storage"
RESOURCE_GROUP: Final = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/tidegate-local"


class ConfigError(ValueError):
    """The configuration cannot be used; `mistakes` has every reason."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__(mistakes)
        self.mistakes = tuple(mistakes)

    def __str__(self) -> str:
        return "\n".join(self.mistakes)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicConfig:
    """A topic: who may publish to it, and in which schema."""

    name: str
    keys: tuple[str, ...] = field(repr=False)
    input_schema: EventSchema

    @property
    def resource_id(self) -> str:
        """The topic's id in Azure's form."""
        return f"{RESOURCE_GROUP}/providers/Microsoft.EventGrid/topics/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionConfig:
    """A subscription that exists from the start, its properties in ARM's shape."""

    name: str
    source: str
    properties: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the emulator is told."""

    account: str
    account_key: str = field(repr=False)
    azurite_blob: str
    queue_endpoint: str
    blob_endpoint: str | None
    topics: Mapping[str, TopicConfig]
    subscriptions: tuple[SubscriptionConfig, ...]
    time_scale: float = 1.0
    delivery_timeout_s: float = 30.0

    @property
    def storage_resource_id(self) -> str:
        """The storage account's id in Azure's form."""
        return f"{RESOURCE_GROUP}/providers/Microsoft.Storage/storageAccounts/{self.account}"


class _Reader:
    """Takes typed values out of an object and collects what is wrong."""

    def __init__(self, document: JsonObject, where: str, mistakes: list[str], known: Sequence[str]) -> None:
        self._document, self._where, self._mistakes = document, where, mistakes
        mistakes += [
            f"{where}: unknown field {name!r}; known are {', '.join(known)}" for name in document if name not in known
        ]

    def text(self, name: str, *, default: str | None = None) -> str:
        value = self._document.get(name, default)
        if isinstance(value, str) and value:
            return value
        self._mistakes.append(f"{self._where}: {name} must be a non-empty string, got {value!r}")
        return ""

    def number(self, name: str, *, default: float) -> float:
        value = self._document.get(name, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return value
        self._mistakes.append(f"{self._where}: {name} must be a number above 0, got {value!r}")
        return default

    def schema(self, name: str) -> EventSchema:
        value = self._document.get(name, EventSchema.EVENT_GRID.value)
        if value in list(EventSchema):
            return EventSchema(str(value))
        self._mistakes.append(
            f"{self._where}: {name} must be one of {[str(item) for item in EventSchema]}, got {value!r}"
        )
        return EventSchema.EVENT_GRID

    def objects(self, name: str) -> list[JsonObject]:
        value = self._document.get(name, [])
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            return [as_object(item) for item in value]
        self._mistakes.append(f"{self._where}: {name} must be a list of objects, got {value!r}")
        return []

    def object(self, name: str) -> JsonObject:
        value = self._document.get(name)
        if value is None or isinstance(value, dict):
            return as_object(value)
        self._mistakes.append(f"{self._where}: {name} must be an object, got {value!r}")
        return {}


_KNOWN: Final = (
    "account",
    "account_key",
    "azurite_blob",
    "queue_endpoint",
    "blob_endpoint",
    "topics",
    "subscriptions",
    "time_scale",
    "delivery_timeout_s",
)


def read_settings(file: Path) -> Settings:
    """Return the settings in the file.

    Raises:
        ConfigError: It cannot be read, or something in it is wrong.
    """
    try:
        document = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError([f"{file}: {error}"]) from error
    if not isinstance(document, dict):
        raise ConfigError([f"{file}: must be an object, got {type(document).__name__}"])
    mistakes: list[str] = []
    reader = _Reader(document, str(file), mistakes, _KNOWN)
    topics = [_topic(item, place, mistakes) for place, item in enumerate(reader.objects("topics"))]
    sources = {STORAGE_SOURCE, *(topic.name for topic in topics)}
    subscriptions = [
        _subscription(item, place, sources, mistakes) for place, item in enumerate(reader.objects("subscriptions"))
    ]
    _refuse_repeats("topics", [topic.name for topic in topics], mistakes)
    _refuse_repeats("subscriptions", [f"{item.source}/{item.name}" for item in subscriptions], mistakes)
    settings = Settings(
        account=reader.text("account"),
        account_key=reader.text("account_key"),
        azurite_blob=reader.text("azurite_blob").rstrip("/"),
        queue_endpoint=reader.text("queue_endpoint").rstrip("/"),
        blob_endpoint=reader.text("blob_endpoint").rstrip("/") if "blob_endpoint" in document else None,
        topics={topic.name: topic for topic in topics},
        subscriptions=tuple(subscriptions),
        time_scale=reader.number("time_scale", default=1.0),
        delivery_timeout_s=reader.number("delivery_timeout_s", default=30.0),
    )
    if mistakes:
        raise ConfigError(mistakes)
    return settings


def _refuse_repeats(where: str, names: Sequence[str], mistakes: list[str]) -> None:
    mistakes += [
        f"{where}: {name!r} occurs twice" for name in sorted({name for name in names if names.count(name) > 1})
    ]


def _topic(item: JsonObject, place: int, mistakes: list[str]) -> TopicConfig:
    reader = _Reader(item, f"topics[{place}]", mistakes, ("name", "key", "key2", "input_schema"))
    keys = [reader.text("key")] + ([reader.text("key2")] if "key2" in item else [])
    name = reader.text("name")
    if name == STORAGE_SOURCE:
        mistakes.append(f"topics[{place}]: name {name!r} stands for the storage account's own events")
    return TopicConfig(name=name, keys=tuple(keys), input_schema=reader.schema("input_schema"))


def _subscription(item: JsonObject, place: int, sources: set[str], mistakes: list[str]) -> SubscriptionConfig:
    where = f"subscriptions[{place}]"
    known = ("name", "source", "destination", "event_schema", "filter", "retry", "dead_letter_container")
    reader = _Reader(item, where, mistakes, known)
    source = reader.text("source")
    if source not in sources:
        mistakes.append(f"{where}: source must be one of {sorted(sources)}, got {source!r}")
    properties: JsonObject = {
        "destination": _destination(reader.object("destination"), where, mistakes),
        "filter": reader.object("filter"),
        "retryPolicy": _retry(reader.object("retry"), where, mistakes),
    }
    if "event_schema" in item:
        properties["eventDeliverySchema"] = reader.schema("event_schema").value
    if item.get("dead_letter_container") is not None:
        container = reader.text("dead_letter_container")
        properties["deadLetterDestination"] = {
            "endpointType": "StorageBlob",
            "properties": {"blobContainerName": container},
        }
    return SubscriptionConfig(name=reader.text("name"), source=source, properties=properties)


def _destination(item: JsonObject, where: str, mistakes: list[str]) -> JsonObject:
    reader = _Reader(item, f"{where}.destination", mistakes, ("type", "queue", "url"))
    kind = reader.text("type")
    shapes: Mapping[str, Callable[[], JsonObject]] = {
        "StorageQueue": lambda: {"queueName": reader.text("queue")},
        "WebHook": lambda: {"endpointUrl": reader.text("url")},
    }
    if kind not in shapes:
        mistakes.append(f"{where}.destination: type must be one of {sorted(shapes)}, got {kind!r}")
        return {}
    return {"endpointType": kind, "properties": shapes[kind]()}


def _retry(item: JsonObject, where: str, mistakes: list[str]) -> JsonObject:
    names = {"max_delivery_attempts": "maxDeliveryAttempts", "event_ttl_minutes": "eventTimeToLiveInMinutes"}
    _Reader(item, f"{where}.retry", mistakes, tuple(names))
    renamed: dict[str, Json] = {names[name]: value for name, value in item.items() if name in names}
    return renamed
