"""Starts the local Databricks workspace: `python -m local.databricks --port P --state-dir DIR --config FILE`."""

import argparse
import asyncio
import json
import logging
import signal
import sys
from pathlib import Path

from aiohttp import web

from local.databricks.workspace.clock import SystemClock
from local.databricks.workspace.config import ConfigError, WorkspaceConfig, load_config
from local.databricks.workspace.server import make_app

_FIELDS = ("method", "path", "status", "duration_ms", "run_id")


class _JsonLines(logging.Formatter):
    """One JSON object a line: constant text, values as fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"level": record.levelname, "message": record.getMessage()}
        line |= {field: getattr(record, field) for field in _FIELDS if hasattr(record, field)}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line)


def main() -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    parser = argparse.ArgumentParser(prog="local.databricks", description="Serve the local Databricks workspace.")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    parser.add_argument("--state-dir", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--config", type=Path, required=True, help="JSON file, see docs/emulators/databricks.md")
    arguments = parser.parse_args()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    try:
        config = load_config(arguments.config)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    asyncio.run(_serve(config, arguments.state_dir.resolve(), arguments.port))
    return 0


async def _serve(config: WorkspaceConfig, state_dir: Path, port: int) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    app = make_app(config, state_dir, f"http://127.0.0.1:{port}", SystemClock())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await stopped.wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main())
