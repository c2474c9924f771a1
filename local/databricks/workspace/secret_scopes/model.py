"""Stores secrets by scope and key; their values are readable to every accepted token."""

import re
import sqlite3
from dataclasses import dataclass

from local.databricks.workspace.clock import Clock
from local.databricks.workspace.transport.errors import (
    AlreadyExistsError,
    DoesNotExistError,
    ErrorCode,
    InvalidParameterError,
    WorkspaceError,
)

__all__ = ["SecretFacts", "SecretStore"]

_NAME = re.compile(r"[A-Za-z0-9._@/-]{1,128}")
_KEY = re.compile(r"[A-Za-z0-9._-]{1,128}")
_MAX_VALUE_BYTES = 128 * 1024
_MAX_SECRETS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFacts:
    """What may be told about a secret without its value."""

    key: str
    updated_ms: int


class SecretStore:
    """Secrets in the workspace's database, unencrypted, in a file that only its owner can read."""

    def __init__(self, database: sqlite3.Connection, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def create_scope(self, name: str) -> None:
        """Make an empty scope."""
        if not _NAME.fullmatch(name):
            raise InvalidParameterError(f"The scope name '{name}' is not valid")
        if self._has_scope(name):
            raise AlreadyExistsError(f"Scope {name} already exists!")
        self._database.execute("INSERT INTO scopes VALUES (?)", (name,))

    def scopes(self) -> list[str]:
        """Return the names of all scopes in order."""
        return [row["name"] for row in self._database.execute("SELECT name FROM scopes ORDER BY name")]

    def delete_scope(self, name: str) -> None:
        """Remove a scope with its secrets."""
        self._require_scope(name)
        self._database.execute("DELETE FROM scopes WHERE name = ?", (name,))

    def put(self, scope: str, key: str, value: bytes) -> None:
        """Store a secret, replacing one of the same key."""
        self._require_scope(scope)
        if not _KEY.fullmatch(key):
            raise InvalidParameterError(f"The secret key '{key}' is not valid")
        if len(value) > _MAX_VALUE_BYTES:
            raise InvalidParameterError(f"The secret value exceeds {_MAX_VALUE_BYTES} bytes")
        count = self._database.execute("SELECT count(*) FROM secrets WHERE scope = ?", (scope,)).fetchone()[0]
        if count >= _MAX_SECRETS and key not in {facts.key for facts in self.list(scope)}:
            raise WorkspaceError(f"Scope {scope} holds {_MAX_SECRETS} secrets", ErrorCode.RESOURCE_LIMIT_EXCEEDED)
        self._database.execute(
            "INSERT OR REPLACE INTO secrets VALUES (?, ?, ?, ?)", (scope, key, value, self._clock.now_ms())
        )

    def list(self, scope: str) -> list[SecretFacts]:
        """Return a scope's keys in order."""
        self._require_scope(scope)
        rows = self._database.execute("SELECT key, updated_ms FROM secrets WHERE scope = ? ORDER BY key", (scope,))
        return [SecretFacts(key=row["key"], updated_ms=row["updated_ms"]) for row in rows]

    def get(self, scope: str, key: str) -> bytes:
        """Return a secret's value."""
        self._require_scope(scope)
        row = self._database.execute("SELECT value FROM secrets WHERE scope = ? AND key = ?", (scope, key)).fetchone()
        if row is None:
            raise DoesNotExistError(f"Secret does not exist with scope: {scope} and key: {key}")
        return bytes(row["value"])

    def delete(self, scope: str, key: str) -> None:
        """Remove one secret."""
        self.get(scope, key)
        self._database.execute("DELETE FROM secrets WHERE scope = ? AND key = ?", (scope, key))

    def _has_scope(self, name: str) -> bool:
        return self._database.execute("SELECT 1 FROM scopes WHERE name = ?", (name,)).fetchone() is not None

    def _require_scope(self, name: str) -> None:
        if not self._has_scope(name):
            raise DoesNotExistError(f"Scope {name} does not exist!")
