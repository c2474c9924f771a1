"""Sends the ledger's own requests to Table Storage: signs them, keeps connections, and repeats what was not answered.

Through azure-core's pipeline and `requests`, half of the processor time of a request goes into preparing it; here
`urllib3`, which is below both, sends the bytes as they are. What goes wrong is raised as azure-core would raise it.

Source: "Authorize with Shared Key" (Shared Key Lite for Table Storage) and "Authorize with Microsoft Entra ID",
Storage services REST API.
"""

import base64
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from functions.core.errors import InvalidSettingsError, Problem
from functions.core.reading import shown

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, AccessTokenInfo, TokenCredential
    from azure.core.exceptions import AzureError, HttpResponseError
    from urllib3 import BaseHTTPResponse, PoolManager
    from urllib3.util import Url

__all__ = ["Answer", "Signature", "TableConnection", "TableRequest", "by_account_key", "by_token", "pool_for"]

_SCOPE: Final = "https://storage.azure.com/.default"
_NEW_TOKEN_BEFORE_S: Final = 300
_ASK_AGAIN_S: Final = 30.0  # for a token that was not to be had, while the one before it lives
_UNAUTHORIZED: Final = 401
_CONNECT_S: Final = 5.0
_READ_S: Final = 15.0
_ERROR_CHARACTERS: Final = 500
_AGENT: Final = "tidegate"
_SCHEME: Final = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]*:)?//)(.*)", re.DOTALL)

Signature = Callable[["TableRequest"], str]  # the Authorization header of a request


@dataclass(frozen=True, slots=True)
class TableRequest:
    """What is sent, but for who sends it."""

    verb: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    text: str

    def document(self) -> dict[str, Any]:
        """Return the JSON object in the answer.

        Raises:
            DecodeError: The answer was mangled on its way.
        """
        try:
            document: dict[str, Any] = json.loads(self.text)
        except ValueError as error:
            from azure.core.exceptions import DecodeError

            raise DecodeError("the answer is no JSON") from error
        return document

    def error(self) -> "HttpResponseError":
        """Return the answer as the error that it is."""
        from azure.core.exceptions import HttpResponseError

        error = HttpResponseError(f"status {self.status}: {self.text[:_ERROR_CHARACTERS]}")
        error.status_code = self.status
        error.response = self  # type: ignore[assignment] # whoever looks at it asks for its headers
        return error


class TableConnection:
    """One account's Table Storage; used by many threads at a time.

    A request that could not be sent is repeated once, at once: a kept connection may have gone stale. One that was
    sent and not answered is repeated only where that cannot insert a row twice, as azure-core does it.
    """

    def __init__(self, url: str, pool: "PoolManager", signature: Signature) -> None:
        self.url = url
        self._pool = pool
        self._connections = pool.connection_from_url(url)  # once: finding them takes a quarter of a request's time
        self._origin = "" if pool.proxy is not None else "{0.scheme}://{0.netloc}".format(urlsplit(url))
        self._signature = signature

    def send(self, request: TableRequest) -> Answer:
        """Return the answer, whatever its status.

        Raises:
            ServiceRequestError: The request could not be sent.
            ServiceResponseError: It was sent, and no answer came.
            ClientAuthenticationError: There is no token for it.
        """
        from urllib3.exceptions import HTTPError

        try:
            return self._send(request)
        except HTTPError as error:
            if request.verb == "POST" and _was_sent(error):
                raise _as_azure_core_says(error) from error
        try:
            return self._send(request)
        except HTTPError as error:
            raise _as_azure_core_says(error) from error

    def _send(self, request: TableRequest) -> Answer:
        headers = {**request.headers, "User-Agent": _AGENT, "Authorization": self._signature(request)}
        place = request.url.removeprefix(self._origin)
        response: BaseHTTPResponse = (self._pool if place == request.url else self._connections).urlopen(
            request.verb, place, body=request.body or None, headers=headers, redirect=False, retries=False
        )
        answer = Answer(
            status=response.status,
            headers={name.lower(): value for name, value in response.headers.items()},
            text=response.data.decode("utf-8", "replace"),
        )
        if answer.status == _UNAUTHORIZED and isinstance(self._signature, _Token):
            self._signature.forget()
        return answer

    def close(self) -> None:
        """Close the connections; who sends more opens new ones."""
        connections = self._connections
        self._pool.clear()  # which closes nothing that someone still has in hand
        self._connections = self._pool.connection_from_url(self.url)
        connections.close()


def pool_for(url: str, *, size: int) -> "PoolManager":
    """Return a pool of connections to a service, with the proxy and the certificates that `requests` would use.

    Raises:
        InvalidSettingsError: The machine names a proxy that is none, or none of HTTP.
    """
    from requests import Session
    from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy
    from urllib3 import PoolManager, ProxyManager, Timeout, make_headers

    from functions.adapters.fresh_connections import FreshHTTPConnectionPool, FreshHTTPSConnectionPool

    machine = Session().merge_environment_settings(url, {}, None, None, None)
    authorities = machine["verify"] if isinstance(machine["verify"], str) else DEFAULT_CA_BUNDLE_PATH
    options: dict[str, Any] = {
        "maxsize": size,
        "timeout": Timeout(connect=_CONNECT_S, read=_READ_S),
        "ca_cert_dir" if Path(authorities).is_dir() else "ca_certs": authorities,
    }
    proxy = select_proxy(url, machine["proxies"])
    if proxy is None:
        pool = PoolManager(**options)
    else:
        name = f"{urlsplit(url).scheme}_proxy" if proxy == machine["proxies"].get(urlsplit(url).scheme) else "all_proxy"
        place = _checked_proxy(name.upper(), proxy)
        headers = make_headers(proxy_basic_auth=place.auth) if place.auth else None
        pool = ProxyManager(place.url, proxy_headers=headers, **options)
    pool.pool_classes_by_scheme = {"http": FreshHTTPConnectionPool, "https": FreshHTTPSConnectionPool}
    return pool


def _checked_proxy(name: str, proxy: str) -> "Url":
    """Return where a proxy is; raises InvalidSettingsError, which shows no user and no password."""
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    match = _SCHEME.fullmatch(proxy)
    scheme, rest = ("", proxy) if match is None else match.groups()
    with suppress(LocationParseError):
        place = parse_url(f"{scheme or 'http://'}{rest}")
        if place.scheme in {"http", "https"} and place.host:
            return place
    # Whatever is before the last @ may be a password, also one with characters that it should not have.
    got = scheme + re.split(r"[/?#]", rest.rpartition("@")[2])[0]
    expected = "http://<host>:<port> or https://<host>:<port>, with <user>:<password>@ before the host if need be"
    instead = f"mend {name}, or name in NO_PROXY what is reached without a proxy"
    raise InvalidSettingsError([Problem(name, shown(got), f"{expected}; {instead}")])


def by_account_key(account: str, key: str) -> Signature:
    """Return what signs requests with the account's key: the local cloud's way, Azure signs in instead."""
    secret = base64.b64decode(key)

    def sign(request: TableRequest) -> str:
        signed = f"{request.headers['x-ms-date']}\n/{account}{urlsplit(request.url).path}"
        signature = base64.b64encode(hmac.new(secret, signed.encode(), hashlib.sha256).digest()).decode()
        return f"SharedKeyLite {account}:{signature}"

    return sign


def by_token(credential: "TokenCredential") -> Signature:
    """Return what signs requests with the credential's token, which it renews before it expires."""
    return _Token(credential)


class _Token:
    def __init__(self, credential: "TokenCredential") -> None:
        self._credential = credential
        self._token: AccessToken | AccessTokenInfo | None = None
        self._renew_at = 0.0
        self._failure: Exception | None = None
        self._lock = threading.Lock()

    def __call__(self, request: TableRequest) -> str:
        if not request.url.startswith("https://"):
            raise ValueError("a token goes over https only")
        before = self._failure
        with self._lock:  # one thread asks for all of them
            if self._token is None or time.time() >= self._renew_at:
                if self._failure is not None and self._failure is not before:
                    raise self._failure  # of the thread that this one waited for
                self._token = self._renewed()
            return f"Bearer {self._token.token}"

    def _renewed(self) -> "AccessToken | AccessTokenInfo":
        """Return a new token, or the one that there is if it can be used a little longer."""
        token, now = self._token, time.time()
        try:
            if hasattr(self._credential, "get_token_info"):  # which says when to renew it
                token = self._credential.get_token_info(_SCOPE)
            else:
                token = self._credential.get_token(_SCOPE)
        except Exception as error:
            if token is None or token.expires_on - now < _NEW_TOKEN_BEFORE_S:
                self._failure = error
                raise
            self._renew_at = now + _ASK_AGAIN_S
            return token
        self._failure = None
        self._renew_at = token.expires_on - _NEW_TOKEN_BEFORE_S
        if (refresh_on := getattr(token, "refresh_on", None)) is not None:  # long before it expires
            self._renew_at = min(self._renew_at, refresh_on)
        return token

    def forget(self) -> None:
        """Ask for a new token next time: this one was not accepted."""
        with self._lock:
            self._token = None


def _was_sent(error: BaseException) -> bool:
    """Return whether the service may have got the request.

    A TLS connection may break after the handshake too, unless the certificate is to blame; and of a proxy's
    connection that broke after the request, urllib3 says that the proxy could not be reached.
    """
    from ssl import SSLCertVerificationError

    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError, SSLError

    if isinstance(error, ProxyError):
        return _was_sent(error.original_error)
    if isinstance(error, SSLError):
        return not (error.args and isinstance(error.args[0], SSLCertVerificationError))
    return not isinstance(error, ConnectTimeoutError | NewConnectionError)


def _as_azure_core_says(error: BaseException) -> "AzureError":
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError

    kind = ServiceResponseError if _was_sent(error) else ServiceRequestError
    return kind(f"{type(error).__name__}: {error}", error=error)
