"""Decides who may read and who may act over HTTP, from what App Service says of the caller."""

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from functions.core.errors import NotSignedInError, Problem, RoleMissingError
from functions.core.reading import Reader

__all__ = ["PRINCIPAL_HEADER", "Actor", "Role", "actor_of"]

PRINCIPAL_HEADER: Final = "x-ms-client-principal"  # App Service authentication sets it, and strips a caller's own

_MAX_HEADER: Final = 64 * 1024
_MAX_CLAIMS: Final = 1000
_MAX_NAME: Final = 80
_SCHEMAS: Final = "http://schemas.microsoft.com"
# Claims arrive under their own name or under a mapped one, whichever platform version wrote the header.
_ROLE_CLAIMS: Final = ("roles", f"{_SCHEMAS}/ws/2008/06/identity/claims/role")
_NAME_CLAIMS: Final = (
    "preferred_username",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
    "appid",  # an application signs in without a person's name
    "azp",
    f"{_SCHEMAS}/identity/claims/objectidentifier",
    "oid",
)


class Role(StrEnum):
    """An app role of the Entra application; the value is its name there."""

    READER = "Tidegate.Reader"
    OPERATOR = "Tidegate.Operator"

    def is_given_by(self, roles: frozenset[str]) -> bool:
        """Return whether these roles are enough; who may act may also look."""
        return self.value in roles or Role.OPERATOR.value in roles


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who asked for something, as the ledger's history names them: bounded, and without characters that deceive."""

    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", _plain(self.name))

    def __str__(self) -> str:
        return self.name

    def saying(self, name: str) -> "Actor":
        """Return whom the caller says that they are, never without that it is the caller who says so."""
        says = f", as {self.name} says"
        room = max(1, _MAX_NAME - len(says))
        return Actor(name=f"{name if len(name) <= room else name[: room - 1] + '…'}{says}")


def actor_of(principal: str | None, *, needed: Role, are_roles_required: bool) -> Actor:
    """Return who calls.

    Without the requirement nothing vouches for the header, so it is not even read: whoever has the function's key
    may call the function, and that is all that is known of them.

    Args:
        principal: The header `X-MS-CLIENT-PRINCIPAL`, base64 over JSON.
        needed: The role that the endpoint needs.
        are_roles_required: Whether App Service authentication is on and app roles decide.

    Raises:
        NotSignedInError: There is no such header, or it is not what App Service writes.
        RoleMissingError: The caller has not got the role.
    """
    if not are_roles_required:
        return Actor(name="a holder of the function's key")
    if not principal:
        raise NotSignedInError("no signed-in caller")
    claims = _claims_of(principal)
    name = next((value for wanted in _names(claims) for kind, value in claims.pairs if kind == wanted and value), "")
    roles = frozenset(value for kind, value in claims.pairs if kind in {*_ROLE_CLAIMS, claims.role_type} and kind)
    actor = Actor(name=name or "a caller without a name")
    if not needed.is_given_by(roles):
        raise RoleMissingError(actor.name, needed.value)
    return actor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claims:
    pairs: tuple[tuple[str, str], ...]
    name_type: str
    role_type: str


def _names(claims: _Claims) -> Iterator[str]:
    if claims.name_type:
        yield claims.name_type
    yield from _NAME_CLAIMS


def _claims_of(principal: str) -> _Claims:
    try:
        if len(principal) > _MAX_HEADER:
            raise ValueError("too long")  # noqa: TRY301 - one place says what is wrong with the header
        document: object = json.loads(base64.b64decode(principal, validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise NotSignedInError("a header X-MS-CLIENT-PRINCIPAL that is no base64 of JSON") from None
    problems: list[Problem] = []
    root = Reader(document, "X-MS-CLIENT-PRINCIPAL", problems)
    root.mapping(required=("auth_typ", "claims"), optional=None)
    root.child("auth_typ").constant("aad")
    claims = _Claims(
        pairs=tuple(
            (item.child("typ").text(), item.child("val").text())
            for item in root.child("claims").items(max_items=_MAX_CLAIMS)
        ),
        name_type=_optional(root.child("name_typ")),
        role_type=_optional(root.child("role_typ")),
    )
    if problems:
        raise NotSignedInError("; ".join(map(str, problems[:5])))
    return claims


def _optional(reader: Reader) -> str:
    return "" if reader.is_absent or reader.value is None else reader.text()


def _plain(text: str) -> str:
    """Return a name without controls, direction marks and line breaks, at most 80 characters long."""
    shown = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text[: _MAX_NAME + 1])
    return shown if len(shown) <= _MAX_NAME else shown[: _MAX_NAME - 1] + "…"
