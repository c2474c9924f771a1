"""Reads the workspace's configuration file, reporting every mistake at once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ConfigError", "StorageAccount", "WorkspaceConfig", "load_config"]

_DEFAULT_CONCURRENT_TASKS = 2


class ConfigError(Exception):
    """The configuration file cannot be used."""

    def __init__(self, path: Path, mistakes: tuple[str, ...]) -> None:
        super().__init__(path, mistakes)
        self.path = path
        self.mistakes = mistakes

    def __str__(self) -> str:
        return f"configuration {self.path.name!r}: {'; '.join(self.mistakes)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageAccount:
    """The local storage account that notebooks reach through `abfss://` and HTTPS URLs."""

    account: str
    key: str
    blob_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceConfig:
    """What the workspace is told at start."""

    token: str
    """The personal access token that clients send."""

    identity_header: str
    """The shared secret of the managed-identity endpoint (`X-IDENTITY-HEADER`)."""

    mlflow_url: str
    """Where the MLflow server behind the workspace listens; no trailing slash."""

    runner_command: tuple[str, ...]
    """Starts a notebook process; the path of the request file is appended."""

    spark_jars_dir: str
    storage: StorageAccount
    max_concurrent_tasks: int
    """Notebook processes at once; further task runs wait as PENDING."""


def load_config(path: Path) -> WorkspaceConfig:
    """Return the configuration in that file; raises ConfigError naming every mistake."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(path, (f"cannot be read as JSON: {error}",)) from error
    if not isinstance(document, dict):
        raise ConfigError(path, ("expected a JSON object",))
    reader = _Reader(document)
    config = reader.read()
    if reader.mistakes:
        raise ConfigError(path, tuple(reader.mistakes))
    return config


class _Reader:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.mistakes: list[str] = []

    def read(self) -> WorkspaceConfig:
        storage = self.document.get("storage")
        if not isinstance(storage, dict):
            self.mistakes.append("'storage' must be an object with account, key and blob_port")
            storage = {}
        command = self.document.get("runner_command") or [self._text(self.document, "cluster_python"), "-m", "runner"]
        if not isinstance(command, list) or not all(isinstance(part, str) for part in command):
            self.mistakes.append("'runner_command' must be a list of strings")
            command = []
        return WorkspaceConfig(
            token=self._text(self.document, "token"),
            identity_header=self._text(self.document, "identity_header"),
            mlflow_url=self._text(self.document, "mlflow_url").rstrip("/"),
            runner_command=tuple(command),
            spark_jars_dir=self._text(self.document, "spark_jars_dir"),
            storage=StorageAccount(
                account=self._text(storage, "account", "storage."),
                key=self._text(storage, "key", "storage."),
                blob_port=self._number(storage, "blob_port", "storage."),
            ),
            max_concurrent_tasks=self._number(
                {"max_concurrent_tasks": _DEFAULT_CONCURRENT_TASKS, **self.document}, "max_concurrent_tasks"
            ),
        )

    def _text(self, document: Mapping[str, Any], key: str, prefix: str = "") -> str:
        value = document.get(key)
        if isinstance(value, str) and value:
            return value
        self.mistakes.append(f"'{prefix}{key}' must be a non-empty string, not {value!r}")
        return ""

    def _number(self, document: Mapping[str, Any], key: str, prefix: str = "") -> int:
        value = document.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        self.mistakes.append(f"'{prefix}{key}' must be a positive whole number, not {value!r}")
        return 0
