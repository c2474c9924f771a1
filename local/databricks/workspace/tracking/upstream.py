"""Talks to the MLflow server behind the workspace."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from local.databricks.workspace.transport.errors import ErrorCode, UpstreamUnavailableError, WorkspaceError
from local.databricks.workspace.transport.params import JsonObject

__all__ = ["MlflowServer", "UpstreamAnswer", "UpstreamRefusalError"]

_API = "/api/2.0/mlflow"
_KEEP_ALIVE_S = 3.0  # below the server's own 5 s, so that no request meets a connection that is just being closed


class UpstreamRefusalError(WorkspaceError):
    """The MLflow server refused a request; its code and words are passed on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamAnswer:
    """An answer as it came."""

    status: int
    content_type: str
    body: bytes


class MlflowServer:
    """A stock `mlflow server`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def forward(
        self, method: str, path: str, query: str = "", body: bytes = b"", content_type: str = "application/json"
    ) -> UpstreamAnswer:
        """Return the server's answer to a request as it stands."""
        if self._session is None:
            connector = aiohttp.TCPConnector(keepalive_timeout=_KEEP_ALIVE_S)
            self._session = aiohttp.ClientSession(connector=connector)
        url = f"{self._url}{path}" + (f"?{query}" if query else "")
        headers = {"Content-Type": content_type} if body else {}
        try:
            async with self._session.request(
                method, URL(url, encoded=True), data=body or None, headers=headers
            ) as response:
                return UpstreamAnswer(
                    status=response.status, content_type=response.content_type, body=await response.read()
                )
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise UpstreamUnavailableError("The MLflow server behind the workspace does not answer") from error

    async def call(self, method: str, operation: str, arguments: Mapping[str, object]) -> JsonObject:
        """Return the JSON answer of one operation of the MLflow REST API 2.0.

        Args:
            method: The HTTP method; arguments of a GET go into the query, all others into the body.
            operation: The path below `/api/2.0/mlflow/`.
            arguments: The operation's fields; those that are None are left out.

        Raises:
            UpstreamRefusalError: The server refused, with its code and words.
        """
        given = {key: value for key, value in arguments.items() if value is not None}
        query = urlencode({key: str(value) for key, value in given.items()}) if method == "GET" else ""
        body = b"" if method == "GET" else json.dumps(given).encode()
        answer = await self.forward(method, f"{_API}/{operation}", query, body)
        document = json.loads(answer.body) if answer.content_type == "application/json" and answer.body else {}
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise UpstreamRefusalError(str(document.get("message", "")), _code(document.get("error_code")))
        return dict(document)


def _code(name: object) -> ErrorCode:
    return ErrorCode(name) if isinstance(name, str) and name in set(ErrorCode) else ErrorCode.BAD_REQUEST
