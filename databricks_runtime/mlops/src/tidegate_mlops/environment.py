"""Reads the release's environment.json: what differs between environments, without a secret in it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tidegate_mlops.errors import InvalidEnvironmentError

__all__ = ["Environment", "SecretName", "StorageAccount"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretName:
    """Where a secret is kept in the workspace."""

    scope: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageAccount:
    """An account that is reached by an endpoint and key of its own: the local cloud's, never Azure's."""

    blob_endpoint: str
    key_secret: SecretName


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One environment as a release sees it; without accounts of its own, Azure's endpoints and a service credential."""

    environment: str
    release: str
    eventgrid_topic_endpoint: str
    eventgrid_key_secret: SecretName | None
    service_credential: str | None
    accounts: Mapping[str, StorageAccount]
    experiment: str
    app_insights_secret: SecretName | None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the environment in the file; raises InvalidEnvironmentError if it is missing or misses something."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            accounts = (document.get("storage") or {}).get("accounts") or {}
            return cls(
                environment=_text(document, "environment"),
                release=_text(document, "release"),
                eventgrid_topic_endpoint=_text(document, "eventgrid_topic_endpoint"),
                eventgrid_key_secret=_secret(document.get("eventgrid_key_secret")),
                service_credential=document.get("service_credential"),
                accounts={
                    name: StorageAccount(
                        blob_endpoint=_text(account, "blob_endpoint"), key_secret=_needed_secret(account["key_secret"])
                    )
                    for name, account in accounts.items()
                },
                experiment=_text(document, "experiment"),
                app_insights_secret=_secret(document.get("app_insights_secret")),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"cannot read {path.name}: {type(error).__name__}: {error}; deploy the release again"
            raise InvalidEnvironmentError(message) from error


def _text(document: Mapping[str, object], key: str) -> str:
    value = document[key]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key!r} is {value!r}, expected a text")
    return value


def _needed_secret(value: Mapping[str, object]) -> SecretName:
    return SecretName(scope=_text(value, "scope"), key=_text(value, "key"))


def _secret(value: Mapping[str, object] | None) -> SecretName | None:
    return None if value is None else _needed_secret(value)
