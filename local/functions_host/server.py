"""Serves the host over HTTP until it is told to stop."""

import asyncio
import errno
import logging

from aiohttp import web

from local.functions_host.admin import AdminApi
from local.functions_host.errors import FunctionsHostError
from local.functions_host.host import FunctionsHost

__all__ = ["PortTakenError", "serve"]

_LARGEST_BODY_BYTES = 104_857_600  # FUNCTIONS_REQUEST_BODY_SIZE_LIMIT's default
_GRACE_S = 2.0
_STARTING_PATIENCE_S = 10.0

_log = logging.getLogger(__name__)


class PortTakenError(FunctionsHostError):
    """Something else listens on the port."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.port = port

    def __str__(self) -> str:
        return f"port {self.port} is taken; give another one with --port"


async def serve(host: FunctionsHost, port: int, stop: asyncio.Event) -> None:
    """Listen on the loopback interface until `stop` is set, then let running functions finish for a while.

    Raises:
        PortTakenError: The port is in use.
    """
    admin = AdminApi(host)

    async def handle(request: web.Request) -> web.Response:
        first = request.path.strip("/").partition("/")[0].lower()
        if first == "admin":
            return await admin.handle(request)
        if first == "runtime":
            return web.Response(status=501, text=f"{request.path}: extension webhooks: not implemented locally")
        if not await _is_running(host):
            return web.Response(status=503, text="Function host is not running.")
        if not first and host.http.find(request.method, "") is None:
            return web.Response(text="Your Functions app is up and running on the local host.\n")
        return await host.http.handle(request)

    application = web.Application(client_max_size=_LARGEST_BODY_BYTES)
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=_GRACE_S / 2)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        try:
            await site.start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTakenError(port) from error
            raise
        _log.info("listening on http://127.0.0.1:%d", port)
        host.start()
        await stop.wait()
        _log.info("stopping")
        await site.stop()
        await host.stop(_GRACE_S)
    finally:
        await runner.cleanup()


async def _is_running(host: FunctionsHost) -> bool:
    """Whether functions can be reached; a host that is still starting is given time."""
    if host.state == "Starting":
        try:
            async with asyncio.timeout(_STARTING_PATIENCE_S):
                await host.settled.wait()
        except TimeoutError:
            return False
    return host.state == "Running"
