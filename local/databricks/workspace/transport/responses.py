"""Turns the APIs' answers and refusals into HTTP responses."""

import logging
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from aiohttp import web

from local.databricks.workspace.transport.errors import EndpointNotFoundError, ErrorCode, WorkspaceError
from local.databricks.workspace.transport.params import JsonObject, Params, read_params

__all__ = ["ORGANIZATION_ID", "Handler", "error_response", "json_endpoint", "refusals"]

_log = logging.getLogger(__name__)

ORGANIZATION_ID = "7405605519549535"

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_STATUS = {
    ErrorCode.ENDPOINT_NOT_FOUND: 404,
    ErrorCode.INTERNAL_ERROR: 500,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.NOT_IMPLEMENTED: 501,
    ErrorCode.RESOURCE_DOES_NOT_EXIST: 404,
    ErrorCode.TEMPORARILY_UNAVAILABLE: 503,
}


def error_response(code: str | int, message: str, status: int) -> web.Response:
    """Return a refusal in the vendor's shape."""
    return web.json_response({"error_code": code, "message": message}, status=status)


def json_endpoint(handle: Callable[[Params], JsonObject | Awaitable[JsonObject]]) -> Handler:
    """Return an HTTP handler for a function from parameters to a JSON object."""

    async def endpoint(request: web.Request) -> web.StreamResponse:
        answer: Any = handle(await read_params(request))  # Any: the function may be a coroutine function or not
        if isawaitable(answer):
            answer = await answer
        return web.json_response(answer)

    return endpoint


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Map every refusal to the vendor's shape, never HTML, and log one line a request."""
    started = time.perf_counter()
    response = await _answer(request, handler)
    response.headers["x-databricks-org-id"] = ORGANIZATION_ID
    _log.info(
        "request",
        extra={
            "method": request.method,
            "path": request.path,
            "status": response.status,
            "duration_ms": round((time.perf_counter() - started) * 1000, 1),
        },
    )
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except WorkspaceError as error:
        return error_response(error.code, error.message, _STATUS.get(error.code, 400))
    except web.HTTPNotFound:
        unknown = EndpointNotFoundError(request.path)
        return error_response(unknown.code, unknown.message, 404)
    except web.HTTPException as error:
        if error.status < web.HTTPBadRequest.status_code:
            raise
        return error_response(ErrorCode.BAD_REQUEST, error.reason, error.status)
    except ConnectionResetError:
        raise
    except Exception:  # noqa: BLE001 - the server's edge: a defect becomes a 500, its trace goes to the log
        _log.exception("request failed", extra={"method": request.method, "path": request.path})
        return error_response(ErrorCode.INTERNAL_ERROR, "An internal error occurred, see the workspace's log", 500)
