"""Checks that a publisher holds one of the topic's keys."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import unquote

from local.event_grid.errors import UnauthorizedError

__all__ = ["authorize", "sign"]

_EXPIRY_FORMATS = ("%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p", "%m/%d/%Y %H:%M:%S")


def authorize(
    *, headers: Mapping[str, str], query: Mapping[str, str], url: str, keys: Sequence[str], now: datetime
) -> None:
    """Return if the request carries a key of the topic or a signature made with one.

    Args:
        headers: The request's, case-insensitive.
        query: The request's; a key may be there too.
        url: The request's URL without its query, which a signature must cover.
        keys: The topic's keys, base64.
        now: Aware; signatures end.

    Raises:
        UnauthorizedError: Otherwise, in the service's words.
    """
    key = headers.get("aeg-sas-key") or query.get("aeg-sas-key")
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    token = headers.get("aeg-sas-token") or (value if scheme.lower() == "sharedaccesssignature" else None)
    host = url.split("/")[2].upper()
    if scheme.lower() == "bearer":
        raise UnauthorizedError(f"The request authorization token is not authorized for {host}.")
    if not key and not token:
        raise UnauthorizedError(
            "Request must contain one of the following authorization signature: aeg-sas-token, aeg-sas-key."
        )
    if key and any(hmac.compare_digest(key.encode(), known.encode()) for known in keys):
        return
    if token and (reason := _mistake_in(token, url=url, keys=keys, now=now)):
        raise UnauthorizedError(f"The request authorization token is not authorized for {host}. {reason}")
    if not token:
        raise UnauthorizedError(f"The request authorization key is not authorized for {host}.")


def sign(unsigned: str, key: str) -> str:
    """Return the signature of a token's `r=…&e=…` part."""
    return base64.b64encode(hmac.new(base64.b64decode(key), unsigned.encode(), hashlib.sha256).digest()).decode()


def _mistake_in(token: str, *, url: str, keys: Sequence[str], now: datetime) -> str | None:
    """Return why the token does not hold, or None."""
    parts = dict(part.split("=", 1) for part in token.split("&") if "=" in part)
    if not {"r", "e", "s"} <= parts.keys():
        return "The token must have r, e and s."
    granted = unquote(parts["r"]).partition("?")[0].rstrip("/").lower()
    if not (url.lower() + "/").startswith(granted + "/"):
        return "The token was made for another resource."
    expiry = _parse_expiry(unquote(parts["e"].replace("+", " ")))
    if expiry is None or expiry <= now:
        return "The token has expired."
    signature, unsigned = unquote(parts["s"]), f"r={parts['r']}&e={parts['e']}"
    for key in keys:
        try:
            expected = sign(unsigned, key)
        except binascii.Error:
            continue
        if hmac.compare_digest(signature.encode(), expected.encode()):
            return None
    return "The signature does not match."


def _parse_expiry(text: str) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        for pattern in _EXPIRY_FORMATS:
            try:
                return datetime.strptime(text, pattern).replace(tzinfo=UTC)
            except ValueError:
                continue
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
