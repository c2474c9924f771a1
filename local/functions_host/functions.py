"""Describes the app's functions: one trigger each, its outputs, and what this host cannot serve."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from local.functions_host.configuration import LocalSettings
from local.functions_host.errors import ConfigurationError, NotImplementedLocallyError
from local.functions_host.messages import FunctionMetadata, RetryOptions
from local.functions_host.schedule import Schedule, parse_schedule

__all__ = [
    "AuthLevel",
    "Function",
    "HttpTrigger",
    "QueueOutput",
    "QueueTrigger",
    "TimerTrigger",
    "Trigger",
    "describe",
    "read_functions",
]


IMPLEMENTED = ("httpTrigger", "http", "queueTrigger", "queue", "timerTrigger")


class AuthLevel(IntEnum):
    """What a caller may do; a higher level includes the lower ones."""

    ANONYMOUS = 0
    FUNCTION = 1
    ADMIN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTrigger:
    """An HTTP endpoint; no methods means any."""

    name: str
    route: str
    methods: frozenset[str]
    auth_level: AuthLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTrigger:
    """A storage queue to listen to."""

    name: str
    queue: str
    connection_string: str
    as_bytes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerTrigger:
    """A schedule to run on."""

    name: str
    expression: str
    schedule: Schedule
    run_on_startup: bool
    use_monitor: bool


Trigger = HttpTrigger | QueueTrigger | TimerTrigger


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOutput:
    """A storage queue to write to; the name is `$return` for the return value."""

    name: str
    queue: str
    connection_string: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function of the app, ready to be served."""

    name: str
    function_id: str
    trigger: Trigger
    outputs: tuple[QueueOutput, ...]
    retry: RetryOptions | None
    is_disabled: bool
    bindings: tuple[Mapping[str, Any], ...]  # JSON objects as indexed, for the admin endpoints


def read_functions(metadata: Iterable[FunctionMetadata], settings: LocalSettings) -> tuple[Function, ...]:
    """Return the functions that the runtime indexed, with their settings resolved.

    Raises:
        ConfigurationError: Something cannot be served; every such binding is named.
    """
    functions: list[Function] = []
    problems: list[str] = []
    for entry in metadata:
        try:
            functions.append(_read_function(entry, settings))
        except ConfigurationError as error:
            problems.append(f"function {entry.name!r}: {error}")
    if not functions and not problems:
        problems.append("the app has no functions: nothing in function_app.py is registered on the FunctionApp")
    if problems:
        raise ConfigurationError("; ".join(problems))
    return tuple(functions)


def describe(metadata: FunctionMetadata) -> dict[str, Any]:
    """Return a function as JSON for people and tools: its name, its trigger, its bindings."""
    bindings = [json.loads(raw) for raw in metadata.raw_bindings]
    trigger = next((binding for binding in bindings if _is_trigger(binding)), None)
    return {"name": metadata.name, "trigger": trigger, "bindings": bindings}


def _is_trigger(binding: Mapping[str, Any]) -> bool:
    return str(binding.get("type", "")).lower().endswith("trigger")


def _read_function(metadata: FunctionMetadata, settings: LocalSettings) -> Function:
    bindings = tuple(json.loads(raw) for raw in metadata.raw_bindings)
    unknown = [
        f"binding {binding['name']!r} of type {binding['type']!r}"
        for binding in bindings
        if str(binding["type"]).lower() not in {name.lower() for name in IMPLEMENTED}
    ]
    if unknown:
        raise NotImplementedLocallyError(", ".join(unknown))
    triggers = [binding for binding in bindings if _is_trigger(binding)]
    if len(triggers) != 1:
        raise ConfigurationError(f"it needs exactly one trigger and has {len(triggers)}")
    return Function(
        name=metadata.name,
        function_id=metadata.function_id,
        trigger=_read_trigger(metadata.name, triggers[0], settings),
        outputs=tuple(
            QueueOutput(
                name=binding["name"],
                queue=settings.resolve(binding["queueName"]),
                connection_string=settings.connection_string(binding.get("connection", "")),
            )
            for binding in bindings
            if str(binding["type"]).lower() == "queue"
        ),
        retry=metadata.retry,
        is_disabled=settings.is_disabled(metadata.name),
        bindings=bindings,
    )


def _read_trigger(function: str, binding: Mapping[str, Any], settings: LocalSettings) -> Trigger:
    name = str(binding["name"])
    match str(binding["type"]).lower():
        case "httptrigger":
            level = str(binding.get("authLevel") or "FUNCTION").upper()
            if level not in AuthLevel.__members__:
                raise NotImplementedLocallyError(f"authLevel {level!r}")
            return HttpTrigger(
                name=name,
                route=str(binding.get("route") or function).strip("/"),
                methods=frozenset(str(method).upper() for method in binding.get("methods") or ()),
                auth_level=AuthLevel[level],
            )
        case "queuetrigger":
            return QueueTrigger(
                name=name,
                queue=settings.resolve(str(binding["queueName"])),
                connection_string=settings.connection_string(str(binding.get("connection") or "")),
                as_bytes=str(binding.get("dataType", "")).upper() == "BINARY",
            )
        case "timertrigger":
            expression = settings.resolve(str(binding["schedule"]))
            return TimerTrigger(
                name=name,
                expression=expression,
                schedule=parse_schedule(expression),
                run_on_startup=bool(binding.get("runOnStartup")),
                use_monitor=binding.get("useMonitor") is not False,
            )
        case other:
            raise NotImplementedLocallyError(f"trigger {other!r}")
