"""Runs the Application Insights emulator until it is told to stop."""

import argparse
import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from local.app_insights.routes import make_app
from local.app_insights.storage import Storage
from local.event_grid.log import log_to_stderr

_LOG = logging.getLogger("local.app_insights")
_HOST = "127.0.0.1"
_SHUTDOWN_S = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m local.app_insights", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="of ingestion and pages; 0: a free one")
    parser.add_argument("--state-dir", type=Path, required=True, help="folder that keeps the telemetry")
    options = parser.parse_args(arguments)
    log_to_stderr()
    asyncio.run(_serve(options.port, options.state_dir))
    return 0


async def _serve(port: int, state_dir: Path) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    listening = socket.create_server((_HOST, port), backlog=256)
    storage = Storage(state_dir)
    runner = web.AppRunner(make_app(storage), access_log=None)
    try:
        await runner.setup()
        await web.SockSite(runner, listening, shutdown_timeout=_SHUTDOWN_S).start()
        _LOG.info("ready", extra={"url": f"http://{_HOST}:{listening.getsockname()[1]}"})
        await stopping.wait()
        await runner.cleanup()
    finally:
        storage.close()


if __name__ == "__main__":
    sys.exit(main())
