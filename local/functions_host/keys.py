"""Decides what a key lets its bearer do."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from local.functions_host.configuration import LocalSettings
from local.functions_host.functions import AuthLevel

__all__ = ["Keyring"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The host's keys; without enforcement every caller is an administrator, as in Core Tools.

    Args:
        master: Opens everything.
        host: Open every function, by name.
        functions: Open one function, by function name and key name.
    """

    master: str | None
    host: Mapping[str, str]
    functions: Mapping[str, Mapping[str, str]]
    is_enforced: bool = True

    @classmethod
    def from_settings(cls, settings: LocalSettings, *, is_enforced: bool) -> "Keyring":
        """Return the keyring that the settings file describes."""
        return cls(
            master=settings.master_key,
            host=settings.host_keys,
            functions=settings.function_keys,
            is_enforced=is_enforced,
        )

    def level(self, key: str | None, function: str | None) -> AuthLevel:
        """Return what the key allows on a function; a wrong key allows as little as none."""
        if not self.is_enforced:
            return AuthLevel.ADMIN
        if not key:
            return AuthLevel.ANONYMOUS
        if self.master and _equal(key, self.master):
            return AuthLevel.ADMIN
        own = {} if function is None else self.functions.get(function, {})
        if any(_equal(key, candidate) for candidate in (*self.host.values(), *own.values())):
            return AuthLevel.FUNCTION
        return AuthLevel.ANONYMOUS


def _equal(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())
