"""Reads local.settings.json and host.json into what the host uses, naming every mistake at once."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from local.functions_host.errors import ConfigurationError, NotImplementedLocallyError
from local.functions_host.timespan import parse_timespan

__all__ = ["HostConfiguration", "LocalSettings", "QueueOptions", "read_host_json", "read_settings"]

_OVERRIDE = "AzureFunctionsJobHost__"
_UNLIMITED = "-1"
_LONGEST_LEASE_S = 7 * 24 * 3600
_IDENTITY_PARTS = ("accountName", "queueServiceUri", "blobServiceUri", "serviceUri", "credential")
_READ = {
    "version",
    "functionTimeout",
    "extensions.http.routePrefix",
    "extensions.queues.maxPollingInterval",
    "extensions.queues.visibilityTimeout",
    "extensions.queues.batchSize",
    "extensions.queues.maxDequeueCount",
    "extensions.queues.newBatchThreshold",
    "extensions.queues.messageEncoding",
}
_WITHOUT_EFFECT = ("$schema", "logging.", "extensionBundle.", "telemetryMode", "watchDirectories", "watchFiles")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """What local.settings.json holds.

    Args:
        values: App settings.
        host_keys: Keys that open every function, by name; `default` is there, `master` is not.
        master_key: The key that opens everything.
        function_keys: Keys that open one function, by function name.
        queue_lease_s: For how long a received message is hidden between renewals; 600 on Azure.
    """

    values: Mapping[str, str]
    host_keys: Mapping[str, str]
    master_key: str | None
    function_keys: Mapping[str, Mapping[str, str]]
    queue_lease_s: float = 600.0

    def resolve(self, text: str) -> str:
        """Return the text with each `%NAME%` replaced by that app setting.

        Raises:
            ConfigurationError: A setting is missing.
        """
        missing = [name for name in re.findall(r"%([^%]+)%", text) if name not in self.values]
        if missing:
            raise ConfigurationError(
                f"{text!r} needs the app setting {', '.join(map(repr, missing))}, which is not set"
            )
        return re.sub(r"%([^%]+)%", lambda match: self.values[match[1]], text)

    def connection_string(self, name: str) -> str:
        """Return the storage connection string that a binding's `connection` names.

        Raises:
            ConfigurationError: There is none.
            NotImplementedLocallyError: The connection is an identity-based one.
        """
        name = name or "AzureWebJobsStorage"
        for candidate in (f"AzureWebJobs{name}", name):
            value = self.values.get(candidate)
            if value:
                if "UseDevelopmentStorage" in value:
                    raise ConfigurationError(
                        f"the setting {candidate!r} is UseDevelopmentStorage=true, which means fixed ports; "
                        "give the full connection string"
                    )
                return value
            if any(f"{candidate}__{part}" in self.values for part in _IDENTITY_PARTS):
                raise NotImplementedLocallyError(
                    f"the identity-based connection {candidate}__* (Azurite has no such identities; "
                    f"set {candidate!r} to a connection string)"
                )
        raise ConfigurationError(f"no connection string: set {name!r} (or 'AzureWebJobs{name}')")

    def is_disabled(self, function: str) -> bool:
        """Whether `AzureWebJobs.<function>.Disabled` switches the function off."""
        names = (f"AzureWebJobs.{function}.Disabled", f"AzureWebJobs_{function}_Disabled")
        return any(self.values.get(name, "").lower() in {"true", "1"} for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """`extensions.queues` of host.json, with Azure's defaults."""

    max_polling_interval_s: float = 60.0
    visibility_timeout_s: float = 0.0
    batch_size: int = 16
    max_dequeue_count: int = 5
    new_batch_threshold: int = 8
    base64: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfiguration:
    """What this host takes from host.json; `ignored` names the keys that it does not know."""

    route_prefix: str
    queues: QueueOptions
    function_timeout_s: float | None
    ignored: tuple[str, ...]


def read_settings(path: Path) -> LocalSettings:
    """Return the settings in a file of local.settings.json's format.

    Raises:
        ConfigurationError: The file cannot be read, or says something impossible.
    """
    content = _read_json(path)
    problems = []
    if content.get("IsEncrypted") not in {None, False}:
        problems.append("IsEncrypted must be false: encrypted settings are not implemented locally")
    values = _strings(content.get("Values", {}), "Values", problems)
    host = content.get("Host", {})
    keys = _strings(host.get("Keys", {}), "Host.Keys", problems)
    functions = {
        name: _strings(entries, f"Host.FunctionKeys.{name}", problems)
        for name, entries in host.get("FunctionKeys", {}).items()
    }
    lease_s = 600.0
    if "QueueLease" in host:
        try:
            lease_s = parse_timespan(str(host["QueueLease"])).total_seconds()
        except ConfigurationError as error:
            problems.append(f"Host.QueueLease: {error}")
        if not 1 <= lease_s <= _LONGEST_LEASE_S:
            problems.append("Host.QueueLease must be between one second and seven days")
    if problems:
        raise ConfigurationError(f"{path}: {'; '.join(problems)}")
    return LocalSettings(
        values=values,
        host_keys={name: key for name, key in keys.items() if name != "master"},
        master_key=keys.get("master"),
        function_keys=functions,
        queue_lease_s=lease_s,
    )


def _strings(entries: Any, place: str, problems: list[str]) -> dict[str, str]:
    if not isinstance(entries, dict):
        problems.append(f"{place} must be an object")
        return {}
    problems.extend(
        f"{place}.{name} must be a string, got {value!r}"
        for name, value in entries.items()
        if not isinstance(value, str)
    )
    return {name: value for name, value in entries.items() if isinstance(value, str)}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must hold a JSON object")
    return content


def read_host_json(app_dir: Path, values: Mapping[str, str]) -> HostConfiguration:
    """Return the app's host.json, overridden by `AzureFunctionsJobHost__a__b` settings as on Azure.

    Raises:
        ConfigurationError: The file is missing or has impossible values; all are named.
    """
    path = app_dir / "host.json"
    content = _flatten(_read_json(path))
    for name, value in values.items():
        if name.startswith(_OVERRIDE):
            content[name.removeprefix(_OVERRIDE).replace("__", ".")] = value
    problems: list[str] = []
    if str(content.get("version")) != "2.0":
        problems.append(f"version must be '2.0', got {content.get('version')!r}")
    configuration = HostConfiguration(
        route_prefix=str(content.get("extensions.http.routePrefix", "api")).strip("/"),
        queues=_queue_options(content, problems),
        function_timeout_s=_function_timeout(content.get("functionTimeout"), problems),
        ignored=tuple(sorted(name for name in content if name not in _READ and not name.startswith(_WITHOUT_EFFECT))),
    )
    if problems:
        raise ConfigurationError(f"{path}: {'; '.join(problems)}")
    return configuration


def _flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat.update(_flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return flat


def _queue_options(content: Mapping[str, Any], problems: list[str]) -> QueueOptions:
    prefix = "extensions.queues."
    batch_size = _integer(content, f"{prefix}batchSize", 16, (1, 32), problems)
    cores = os.cpu_count() or 1
    encoding = str(content.get(f"{prefix}messageEncoding", "base64")).lower()
    if encoding not in {"base64", "none"}:
        problems.append(f"{prefix}messageEncoding must be 'base64' or 'none', got {encoding!r}")
    return QueueOptions(
        max_polling_interval_s=_duration_s(content, f"{prefix}maxPollingInterval", "00:01:00", 0.1, problems),
        visibility_timeout_s=_duration_s(content, f"{prefix}visibilityTimeout", "00:00:00", 0, problems),
        batch_size=batch_size,
        max_dequeue_count=_integer(content, f"{prefix}maxDequeueCount", 5, (1, 1_000_000), problems),
        new_batch_threshold=_integer(
            content, f"{prefix}newBatchThreshold", batch_size // 2 * cores, (0, 1_000_000), problems
        ),
        base64=encoding == "base64",
    )


def _integer(content: Mapping[str, Any], name: str, default: int, limits: tuple[int, int], problems: list[str]) -> int:
    value = content.get(name, default)
    low, high = limits
    try:
        number = int(str(value))
    except ValueError:
        problems.append(f"{name} must be an integer, got {value!r}")
        return default
    if not low <= number <= high:
        problems.append(f"{name} must be between {low} and {high}, got {number}")
    return number


def _duration_s(content: Mapping[str, Any], name: str, default: str, least_s: float, problems: list[str]) -> float:
    try:
        duration = parse_timespan(str(content.get(name, default)))
    except ConfigurationError as error:
        problems.append(f"{name}: {error}")
        return 0.0
    if duration < timedelta(seconds=least_s):
        problems.append(f"{name} must be at least {least_s:g} s, got {duration}")
    return duration.total_seconds()


def _function_timeout(value: Any, problems: list[str]) -> float | None:
    if str(value) == _UNLIMITED:
        return None
    return _duration_s({"functionTimeout": value or "00:30:00"}, "functionTimeout", "00:30:00", 1.0, problems)
