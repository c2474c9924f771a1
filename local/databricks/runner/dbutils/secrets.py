"""Reads secrets of the workspace: `dbutils.secrets`. Values read are redacted in what cells put out."""

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Secrets", "SecretsError"]

_REDACTED = "[REDACTED]"
_TIMEOUT_S = 30.0


class SecretsError(Exception):
    """The workspace did not give the secret; the text is the workspace's own."""


@dataclass(frozen=True, slots=True)
class SecretMetadata:
    """A secret without its value."""

    key: str


@dataclass(frozen=True, slots=True)
class SecretScope:
    """A scope of secrets."""

    name: str

    def getName(self) -> str:  # noqa: N802
        """Return the scope's name."""
        return self.name


class Secrets:
    """The workspace's secrets over its REST API, with the run's token."""

    def __init__(self, host: str, token: str) -> None:
        self._host = host
        self._token = token
        self._read: set[str] = set()
        # The workspace is on loopback: a proxy of the machine must not come in between.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, scope: str, key: str) -> str:
        """Return a secret's value.

        Raises:
            SecretsError: The scope or the key does not exist, or the run may not read it.
        """
        return self.getBytes(scope, key).decode("utf-8")

    def getBytes(self, scope: str, key: str) -> bytes:  # noqa: N802
        """Return a secret's value as bytes."""
        answer = self._call("get", {"scope": scope, "key": key})
        value = base64.b64decode(answer["value"])
        if text := value.decode("utf-8", errors="ignore").strip():
            self._read.add(text)
        return value

    def list(self, scope: str) -> Sequence[SecretMetadata]:
        """Return the keys of a scope."""
        return [SecretMetadata(entry["key"]) for entry in self._call("list", {"scope": scope}).get("secrets", [])]

    def listScopes(self) -> Sequence[SecretScope]:  # noqa: N802
        """Return the scopes."""
        return [SecretScope(entry["name"]) for entry in self._call("scopes/list", {}).get("scopes", [])]

    def redact(self, text: str) -> str:
        """Return a text without the values that this notebook has read."""
        for value in sorted(self._read, key=len, reverse=True):
            text = text.replace(value, _REDACTED)
        return text

    def _call(self, operation: str, query: dict[str, str]) -> dict[str, Any]:
        url = f"{self._host}/api/2.0/secrets/{operation}?{urllib.parse.urlencode(query)}"
        headers = {"Authorization": f"Bearer {self._token}"}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the workspace's own URL
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                document: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            raise SecretsError(_message(error)) from None
        except OSError as error:
            raise SecretsError(f"the workspace does not answer at {self._host}: {error}") from None
        return document


def _message(error: urllib.error.HTTPError) -> str:
    try:
        document = json.loads(error.read())
        return f"{document['error_code']}: {document['message']}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"HTTP {error.code}"
