"""Speaks to the control plane over HTTP, on the local cloud or wherever TIDEGATE_API_URL points."""

import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from cli.failures import CommandError

__all__ = ["NOT_NOW", "REFUSED", "Api", "open_api"]

REFUSED: Final = 4  # exit code: what was asked does not fit the state of things, or may not be asked
NOT_NOW: Final = 5  # exit code: there was no answer, or one that asks to try again

_TIMEOUT_S: Final = 60.0
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_BAD_REQUEST, _UNAUTHORIZED, _TOO_MANY, _SERVER_ERROR = 400, 401, 429, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The HTTP API of one control plane."""

    url: str
    key: str
    token: str | None = None  # of Entra, where app roles are required
    workspace_url: str | None = None  # of the local cloud, whose ports move

    def __repr__(self) -> str:  # keys stay out of tracebacks
        return f"Api({self.url!r})"

    def get(self, path: str, **query: str | int | None) -> Any:
        """Return the answer to a question."""
        values = {name: str(value) for name, value in query.items() if value is not None}
        return self._call("GET", f"{path}?{urlencode(values)}" if values else path)

    def post(self, path: str, document: object = None, *, idempotency_key: str | None = None) -> Any:
        """Return the answer to a request to act."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._call("POST", path, document if document is not None else {}, headers)

    def with_present_page(self, run: dict[str, Any]) -> dict[str, Any]:
        """Return a run whose page is where the local workspace is now: its port may have changed since."""
        page = urlsplit(run["run_page_url"] or "")
        if self.workspace_url is None or page.hostname not in _LOOPBACK:
            return run
        return {**run, "run_page_url": page._replace(netloc=urlsplit(self.workspace_url).netloc).geturl()}

    def _call(self, method: str, path: str, document: object = None, headers: dict[str, str] | None = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked when the API was opened
            f"{self.url}/api/{path}",
            method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers={"x-functions-key": self.key, "Content-Type": "application/json", **(headers or {})},
        )
        if self.token is not None:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - likewise
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise _refusal(method, path, error) from error
        except (OSError, ValueError) as error:
            raise CommandError(f"the control plane at {self.url} did not answer: {error}", NOT_NOW) from error


def open_api() -> Api:
    """Return the API that the environment names, or the running local cloud's.

    Raises:
        CommandError: The environment names a URL that is neither https nor of this machine, or no key.
        CloudError: It names none, and the local cloud does not run.
    """
    url = os.environ.get("TIDEGATE_API_URL", "").strip().rstrip("/")
    if not url:
        from local.cloud import Cloud

        settings = Cloud().running_settings()
        return Api(url=settings.url("functions"), key=settings.function_key, workspace_url=settings.url("workspace"))
    if not _is_url_of_an_app(url):
        raise CommandError(f"TIDEGATE_API_URL: got {url!r}, expected https://<app>.azurewebsites.net")
    key = _secret("TIDEGATE_API_KEY")
    if not key:
        raise CommandError("TIDEGATE_API_KEY: got nothing, expected the key of the functions that are called")
    return Api(url=url, key=key, token=_secret("TIDEGATE_API_TOKEN") or None)


def _is_url_of_an_app(url: str) -> bool:
    """Return whether calls can be sent there, encrypted or to this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # each raises for what is none
    except ValueError:
        return False
    if not host or not url.isascii() or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)


def _secret(name: str) -> str:
    """Return a secret of the environment without the line's end of the file that it came from."""
    value = os.environ.get(name, "").strip()
    if not (value.isascii() and value.isprintable()):  # the error of the header that it breaks would show it
        raise CommandError(f"{name}: got characters that no header can have, expected one line of ASCII")
    return value


def _refusal(method: str, path: str, error: urllib.error.HTTPError) -> CommandError:
    document: object = None
    try:
        document = json.load(error)
        said = str(document.get("error") or document) if isinstance(document, dict) else str(document)
    except ValueError:
        said = error.reason
        if error.code == _UNAUTHORIZED:  # the host's own answer, which has no words
            said += "; expected in TIDEGATE_API_KEY a key of the function that is called"
    is_ours = _BAD_REQUEST <= error.code < _SERVER_ERROR and error.code != _TOO_MANY
    return CommandError(
        f"{method} /api/{path.partition('?')[0]}: {error.code}, {said}",
        REFUSED if is_ours else NOT_NOW,
        document if isinstance(document, dict) else None,
    )
