"""Converts between the web server's requests and responses and those of functions."""

import json
from email.utils import formatdate
from http.cookies import SimpleCookie
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from local.functions_host.messages import Completion, Cookie, Data, DataKind, HttpRequest, HttpResponse

__all__ = ["to_http_request", "to_web_response"]

_OURS = {"content-length", "transfer-encoding", "connection", "set-cookie"}


async def to_http_request(request: web.Request, params: dict[str, str]) -> HttpRequest:
    """Return the request as Azure's host hands it to the worker.

    Header names are in lower case, repeated values joined by commas, query parameters without a value dropped;
    a body without Content-Length arrives empty.
    """
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    query: dict[str, str] = {}
    for name, value in request.query.items():
        if value:
            query[name] = f"{query[name]},{value}" if name in query else value
    return HttpRequest(
        method=request.method,
        url=f"{request.scheme}://{request.host}{request.raw_path}",
        headers=headers,
        params=params,
        query=query,
        body=await request.read() if request.content_length else b"",
    )


def to_web_response(completion: Completion) -> web.Response:
    """Return what the caller gets for a function that succeeded; a value that is no response means 200."""
    value = completion.return_value
    if value is None:
        return web.Response()
    if isinstance(value, Data):
        return _from_value(value)
    return web.Response(
        status=int(value.status), headers=_headers(value), body=b"" if value.body is None else _bytes(value.body)
    )


def _headers(response: HttpResponse) -> CIMultiDict[str]:
    headers = CIMultiDict((name, text) for name, text in response.headers.items() if name.lower() not in _OURS)
    for cookie in response.cookies:
        headers.add("Set-Cookie", _set_cookie(cookie))
    return headers


def _set_cookie(cookie: Cookie) -> str:
    jar: SimpleCookie = SimpleCookie()
    jar[cookie.name] = cookie.value
    morsel: Any = jar[cookie.name]  # typeshed narrows its values to str
    morsel["domain"] = cookie.domain or ""
    morsel["path"] = cookie.path or ""
    morsel["expires"] = "" if cookie.expires_at is None else formatdate(cookie.expires_at, usegmt=True)
    morsel["max-age"] = "" if cookie.max_age_s is None else int(cookie.max_age_s)
    morsel["samesite"] = cookie.same_site or ""
    morsel["secure"] = cookie.secure
    morsel["httponly"] = cookie.http_only
    return str(morsel.OutputString())


def _bytes(data: Data) -> bytes:
    return data.value if isinstance(data.value, bytes) else str(data.value).encode()


def _from_value(value: Data) -> web.Response:
    """Return the response that a bare value means: an object with a body is a response, all else is text."""
    if value.kind in {DataKind.STRING, DataKind.JSON}:
        try:
            content = json.loads(str(value.value))
        except ValueError:
            content = None
        if isinstance(content, dict) and "body" in content:
            body = content["body"]
            return web.Response(
                status=int(content.get("status") or content.get("statusCode") or 200),
                headers={str(name): str(text) for name, text in (content.get("headers") or {}).items()},
                body=body.encode() if isinstance(body, str) else json.dumps(body).encode(),
            )
    if value.kind is DataKind.BYTES:
        return web.Response(body=_bytes(value))
    return web.Response(text=str(value.value))
