"""Serves the app's HTTP functions: routes, methods, keys, status codes."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web

from local.functions_host.errors import ConfigurationError, HostNotRunningError, InvocationError
from local.functions_host.functions import AuthLevel, Function, HttpTrigger
from local.functions_host.http_wire import to_http_request, to_web_response
from local.functions_host.invoker import Call, Invoker
from local.functions_host.keys import Keyring
from local.functions_host.routes import Route, parse_route
from local.functions_host.trace_context import is_trace_parent

__all__ = ["HttpEndpoint", "HttpListener", "key_of", "read_endpoints"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpEndpoint:
    """One HTTP function and where it is reached."""

    function: Function
    trigger: HttpTrigger
    route: Route


def read_endpoints(functions: Iterable[Function], route_prefix: str) -> tuple[HttpEndpoint, ...]:
    """Return the HTTP functions, the most specific route first.

    Raises:
        ConfigurationError: A route is wrong, or collides with the host's own paths.
    """
    endpoints = []
    for function in functions:
        if not isinstance(function.trigger, HttpTrigger):
            continue
        try:
            route = parse_route(f"{route_prefix}/{function.trigger.route}".strip("/"))
        except ConfigurationError as error:
            raise ConfigurationError(f"function {function.name!r}: {error}") from error
        if route.template.split("/")[0].lower() in {"admin", "runtime"}:
            raise ConfigurationError(
                f"function {function.name!r}: the route {route.template!r} conflicts with the host's own paths"
            )
        endpoints.append(HttpEndpoint(function=function, trigger=function.trigger, route=route))
    return tuple(sorted(endpoints, key=lambda endpoint: (endpoint.route.order, endpoint.route.template)))


def key_of(request: web.Request) -> str | None:
    """Return the key that the request shows; the header wins over the query."""
    return request.headers.get("x-functions-key") or request.query.get("code")


class HttpListener:
    """Answers requests for the app's HTTP functions."""

    def __init__(self, keys: Keyring, invoker: Invoker) -> None:
        self._keys = keys
        self._invoker = invoker
        self.endpoints: tuple[HttpEndpoint, ...] = ()

    def find(self, method: str, path: str) -> tuple[HttpEndpoint, dict[str, str]] | None:
        """Return the endpoint and its route values; a wrong method is no match."""
        for endpoint in self.endpoints:
            if endpoint.trigger.methods and method not in endpoint.trigger.methods:
                continue
            values = endpoint.route.match(path)
            if values is not None:
                return endpoint, values
        return None

    async def handle(self, request: web.Request) -> web.Response:
        """Return the function's response, or 401, 404, 500, 503 with an empty body as Azure's host does."""
        found = self.find(request.method, request.rel_url.path_safe.lstrip("/"))
        if found is None:
            return web.Response(status=404)
        endpoint, values = found
        refused = self._refuse(endpoint, key_of(request))
        if refused is not None:
            return web.Response(status=refused)
        return await self._invoke(endpoint, request, values)

    def _refuse(self, endpoint: HttpEndpoint, key: str | None) -> int | None:
        """Return the status code that turns the caller away, or None."""
        level = self._keys.level(key, endpoint.function.name)
        if endpoint.function.is_disabled and level < AuthLevel.ADMIN:
            return 404
        return 401 if level < endpoint.trigger.auth_level else None

    async def _invoke(self, endpoint: HttpEndpoint, request: web.Request, values: dict[str, str]) -> web.Response:
        trace_parent = request.headers.get("traceparent", "")
        traced = is_trace_parent(trace_parent)
        call = Call(
            reason="This function was programmatically called via the host APIs.",
            inputs={endpoint.trigger.name: await to_http_request(request, values)},
            trace_parent=trace_parent if traced else None,
            trace_state=request.headers.get("tracestate", "") if traced else "",
        )
        try:
            # Shielded: on Azure a function runs on when its caller has gone.
            completion = await asyncio.shield(self._invoker.invoke(endpoint.function, call))
            return to_web_response(completion)
        except InvocationError:
            return web.Response(status=500)
        except HostNotRunningError as error:
            return web.Response(status=503, text=str(error))
        except (ValueError, TypeError):
            _log.exception("function %r returned a response that cannot be sent", endpoint.function.name)
            return web.Response(status=500)
