"""Answers the host's own endpoints under /admin, as Azure's host does, and 501 for those it has not."""

import asyncio
import json
import logging
import platform
import time
from typing import Any

from aiohttp import web

from local.functions_host.errors import FunctionsHostError
from local.functions_host.functions import AuthLevel, Function, HttpTrigger, QueueTrigger, TimerTrigger
from local.functions_host.host import FunctionsHost
from local.functions_host.http_listener import key_of
from local.functions_host.invoker import Call
from local.functions_host.messages import Data, DataKind

__all__ = ["AdminApi"]

_VERSION = "4.0.0.0"

_log = logging.getLogger(__name__)


class AdminApi:
    """The administrative endpoints; all but ping need the master key."""

    def __init__(self, host: FunctionsHost) -> None:
        self._host = host
        self._running: set[asyncio.Task[None]] = set()

    async def handle(self, request: web.Request) -> web.Response:
        """Return the answer to a request under /admin."""
        parts = request.path.strip("/").split("/")
        method = request.method
        if parts == ["admin", "host", "ping"] and method in {"GET", "POST"}:
            return web.Response()
        level = self._host.keys.level(key_of(request), None)
        if level < AuthLevel.ADMIN:
            return web.Response(status=403 if level > AuthLevel.ANONYMOUS else 401)
        return await self._answer(request, parts)

    async def _answer(self, request: web.Request, parts: list[str]) -> web.Response:
        match request.method, parts[1:]:
            case "GET", ["host", "status"]:
                return web.json_response(self._status())
            case "POST", ["host", "restart"]:
                self._host.supervisor.restart("asked to at /admin/host/restart")
                return web.Response(status=202)
            case "GET", ["functions"]:
                return web.json_response([self._describe(function, request) for function in self._host.functions])
            case _, ["functions", name, *rest]:
                return await self._function(request, name, rest)
            case method, _:
                return web.Response(status=501, text=f"{method} /{'/'.join(parts)}: not implemented locally")

    async def _function(self, request: web.Request, name: str, rest: list[str]) -> web.Response:
        function = next((entry for entry in self._host.functions if entry.name.lower() == name.lower()), None)
        if function is None:
            return web.Response(status=404)
        match request.method, rest:
            case "GET", []:
                return web.json_response(self._describe(function, request))
            case "GET", ["status"]:
                return web.json_response({"isDisabled": function.is_disabled, "errors": []})
            case "POST", []:
                return await self._invoke(function, request)
            case method, _:
                text = f"{method} /admin/functions/{name}/{'/'.join(rest)}: not implemented locally"
                return web.Response(status=501, text=text)

    def _status(self) -> dict[str, Any]:
        host, supervisor = self._host, self._host.supervisor
        status: dict[str, Any] = {
            "id": host.host_id,
            "state": host.state,
            "version": _VERSION,
            "versionDetails": f"tidegate local host; {host.runtime or 'worker not ready'}",
            "instanceId": host.instance_id,
            "computerName": platform.node(),
            "processUptime": int((time.monotonic() - host.started_at) * 1000),
            "functionAppContentEditingState": "NotAllowed",
            "worker": {
                "pid": supervisor.pid,
                "isReady": supervisor.is_ready,
                "starts": supervisor.starts,
                "lastExit": supervisor.last_exit,
            },
        }
        if host.errors:
            status["errors"] = host.errors
        return status

    def _describe(self, function: Function, request: web.Request) -> dict[str, Any]:
        origin = f"{request.scheme}://{request.host}"
        template = None
        if isinstance(function.trigger, HttpTrigger):
            prefix = self._host.configuration.route_prefix
            template = f"{origin}/{f'{prefix}/{function.trigger.route}'.strip('/')}"
        return {
            "name": function.name,
            "href": f"{origin}/admin/functions/{function.name}",
            "invoke_url_template": template,
            "language": "python",
            "isDisabled": function.is_disabled,
            "config": {"bindings": [dict(binding) for binding in function.bindings]},
        }

    async def _invoke(self, function: Function, request: web.Request) -> web.Response:
        """Start the function and answer at once; what becomes of it is in the log."""
        try:
            content = json.loads(await request.read())
        except ValueError:
            return web.Response(status=400, text="expected a JSON object with the member 'input'")
        if not isinstance(content, dict):
            return web.Response(status=400, text="expected a JSON object with the member 'input'")
        given = content.get("input", "")
        text = given if isinstance(given, str) else json.dumps(given)
        call = self._call(function, text)
        if call is None:
            return web.Response(status=501, text="invoking an HTTP function through /admin: not implemented locally")
        task = asyncio.create_task(self._run(function, call))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return web.Response(status=202)

    def _call(self, function: Function, text: str) -> Call | None:
        reason = "This function was programmatically called via the host APIs."
        match function.trigger:
            case TimerTrigger():
                return self._host.timers[function.name].call(reason, past_due=False)
            case QueueTrigger(name=name, as_bytes=as_bytes):
                value = Data(DataKind.BYTES, text.encode()) if as_bytes else Data(DataKind.STRING, text)
                metadata = {
                    "QueueTrigger": Data(DataKind.STRING, text),
                    "DequeueCount": Data(DataKind.JSON, "0"),
                }
                return Call(reason=reason, inputs={name: value}, trigger_metadata=metadata)
            case HttpTrigger():
                return None

    async def _run(self, function: Function, call: Call) -> None:
        try:
            await self._host.invoker.invoke(function, call)
        except FunctionsHostError as error:
            _log.warning("function %r, invoked through /admin, failed: %s", function.name, error)
