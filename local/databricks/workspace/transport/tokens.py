"""Decides which bearer tokens the workspace accepts, and for whom."""

import base64
import hashlib
import hmac
import json
import secrets
from enum import StrEnum
from pathlib import Path

from local.databricks.workspace.clock import Clock

__all__ = ["DATABRICKS_RESOURCE", "TOKEN_LIFETIME_S", "TokenAuthority", "Verdict"]

DATABRICKS_RESOURCE = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"
"""The application id under which Azure Databricks is known to Entra ID, everywhere."""

TOKEN_LIFETIME_S = 86_400


class Verdict(StrEnum):
    """What becomes of a request."""

    ACCEPTED = "accepted"
    MISSING = "missing"
    INVALID = "invalid"


class TokenAuthority:
    """Knows the personal access token, mints managed-identity tokens and lends tokens to runs.

    Managed-identity tokens are signed with a key kept in the state directory, so those that clients cached stay
    valid when the workspace restarts. Tokens of runs live as long as the run's process.
    """

    def __init__(self, personal_token: str, signing_key_file: Path, clock: Clock) -> None:
        self._personal_token = personal_token
        self._key = _load_or_make_key(signing_key_file)
        self._clock = clock
        self._task_run_by_token: dict[str, int] = {}

    def judge(self, authorization: str | None) -> Verdict:
        """Return whether the value of an Authorization header opens the workspace."""
        if authorization is None:
            return Verdict.MISSING
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return Verdict.MISSING
        accepted = (
            hmac.compare_digest(token.encode(), self._personal_token.encode())
            or token in self._task_run_by_token
            or self._is_valid_identity_token(token)
        )
        return Verdict.ACCEPTED if accepted else Verdict.INVALID

    def mint_identity_token(self, resource: str) -> tuple[str, int]:
        """Return an access token for that resource and when it expires, in seconds since the epoch."""
        now = self._clock.now_ms() // 1000
        expires_on = now + TOKEN_LIFETIME_S
        claims = {
            "aud": resource,
            "iss": "https://sts.windows.net/00000000-0000-0000-0000-000000000000/",
            "iat": now,
            "nbf": now,
            "exp": expires_on,
            "oid": "00000000-0000-0000-0000-00000000f00d",
            "appid": "00000000-0000-0000-0000-00000000cafe",
        }
        unsigned = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(claims)}"
        return f"{unsigned}.{self._sign(unsigned)}", expires_on

    def lend_to_task_run(self, task_run_id: int) -> str:
        """Return a token for the notebook process of one task run."""
        token = f"dkea{secrets.token_hex(16)}"
        self._task_run_by_token[token] = task_run_id
        return token

    def take_back(self, token: str) -> None:
        """Make a lent token invalid."""
        self._task_run_by_token.pop(token, None)

    def task_run_of(self, token: str) -> int | None:
        """Return the task run that the token was lent to, if it was."""
        return self._task_run_by_token.get(token)

    def sign_path(self, verb: str, path: str) -> str:
        """Return the signature that lets a bare URL read or write one file."""
        return self._sign(f"{verb}\n{path}")

    def is_signed_path(self, verb: str, path: str, signature: str) -> bool:
        """Return whether that signature was made by `sign_path` for the same verb and path."""
        return hmac.compare_digest(self.sign_path(verb, path).encode(), signature.encode())

    def _is_valid_identity_token(self, token: str) -> bool:
        unsigned, _, signature = token.rpartition(".")
        if not unsigned or not hmac.compare_digest(self._sign(unsigned).encode(), signature.encode()):
            return False
        claims = json.loads(_decode(unsigned.partition(".")[2]))
        audience = str(claims["aud"]).removesuffix("/")
        return audience == DATABRICKS_RESOURCE and int(claims["exp"]) > self._clock.now_ms() // 1000

    def _sign(self, text: str) -> str:
        digest = hmac.new(self._key, text.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _load_or_make_key(path: Path) -> bytes:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(secrets.token_bytes(32))
    return path.read_bytes()


def _encode(document: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
