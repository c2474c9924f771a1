"""Runs the Event Grid emulator and the storage proxy until it is told to stop."""

import argparse
import asyncio
import logging
import random
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
from aiohttp import web

from local.event_grid.arm import ResourceProvider
from local.event_grid.config import ConfigError, Settings, read_settings
from local.event_grid.delivery import Clock, Dispatcher
from local.event_grid.destinations import Destinations
from local.event_grid.faults import Faults
from local.event_grid.log import log_to_stderr
from local.event_grid.routes import make_app
from local.event_grid.schedule import DestinationKind
from local.event_grid.storage_client import StorageClient
from local.event_grid.storage_proxy import READ_BUFFER_BYTES, SEQUENCER, StorageProxy
from local.event_grid.store import Store
from local.event_grid.subscriptions import Subscriptions

_LOG = logging.getLogger("local.event_grid")
_HOST = "127.0.0.1"
# Node closes idle connections after five seconds; reusing one at that moment would break a request.
_KEEP_ALIVE_S = 3.0
_SHUTDOWN_S = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m local.event_grid", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="of topics, subscriptions and faults; 0: a free one")
    parser.add_argument("--storage-proxy-port", type=int, required=True, help="of the blob endpoint; 0: a free one")
    parser.add_argument("--config", type=Path, required=True, help="JSON file, see docs/emulators/event-grid.md")
    parser.add_argument("--state-dir", type=Path, required=True, help="folder that keeps events over a restart")
    options = parser.parse_args(arguments)
    log_to_stderr()
    try:
        settings = read_settings(options.config)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    asyncio.run(_serve(settings, options.port, options.storage_proxy_port, options.state_dir))
    return 0


async def _serve(settings: Settings, port: int, proxy_port: int, state_dir: Path) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    store = Store(state_dir)
    no_limit = aiohttp.ClientTimeout(total=None, sock_connect=10)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S)
    async with aiohttp.ClientSession(
        connector=connector, auto_decompress=False, timeout=no_limit, read_bufsize=READ_BUFFER_BYTES
    ) as session:
        try:
            await _run(settings, store, session, port, proxy_port, stopping)
        finally:
            store.close()


async def _run(
    settings: Settings,
    store: Store,
    session: aiohttp.ClientSession,
    port: int,
    proxy_port: int,
    stopping: asyncio.Event,
) -> None:
    subscriptions, faults = Subscriptions(), Faults()
    storage = StorageClient(session, account=settings.account, key=settings.account_key)
    proxy_socket, grid_socket = _listen(proxy_port), _listen(port)
    proxy_url = f"http://{_HOST}:{proxy_socket.getsockname()[1]}/{settings.account}"
    grid_url = f"http://{_HOST}:{grid_socket.getsockname()[1]}"
    destinations = Destinations(session, storage, settings, blob_endpoint=settings.blob_endpoint or proxy_url)
    dispatcher = Dispatcher(
        store=store,
        subscriptions=subscriptions,
        sender=destinations,
        faults=faults,
        clock=Clock(now=time.time, jitter=random.random),
        settings=settings,
    )
    provider = ResourceProvider(
        settings=settings,
        subscriptions=subscriptions,
        store=store,
        dispatcher=dispatcher,
        session=session,
        base_url=grid_url,
        now=time.time,
    )
    proxy = StorageProxy(
        settings=settings,
        session=session,
        storage=storage,
        dispatcher=dispatcher,
        subscriptions=subscriptions,
        last_sequence=store.counter(SEQUENCER),
        now=time.time,
    )
    configured = provider.load()
    app = make_app(
        settings=settings, dispatcher=dispatcher, store=store, faults=faults, provider=provider, now=time.time
    )
    server = web.Server(proxy.handle, read_bufsize=READ_BUFFER_BYTES, access_log=None)
    runners = [web.ServerRunner(server), web.AppRunner(app, access_log=None)]
    for runner, listening in zip(runners, (proxy_socket, grid_socket), strict=True):
        await runner.setup()
        await web.SockSite(runner, listening, shutdown_timeout=_SHUTDOWN_S).start()
    dispatcher.start()
    chores = [asyncio.create_task(destinations.prepare(item)) for item in configured]
    chores += [
        asyncio.create_task(provider.validate_until_consent(item))
        for item in configured
        if item.kind is DestinationKind.WEBHOOK
    ]
    _LOG.info("ready", extra={"url": grid_url, "blob_endpoint": proxy_url})
    await stopping.wait()
    for chore in chores:
        chore.cancel()
    await dispatcher.stop()
    for runner in runners:
        await runner.cleanup()


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((_HOST, port))
    listening.listen(512)
    listening.setblocking(False)
    return listening


if __name__ == "__main__":
    sys.exit(main())
