"""Starts the local Functions host from the command line."""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from local.functions_host.configuration import LocalSettings, read_host_json, read_settings
from local.functions_host.errors import ConfigurationError, FunctionsHostError
from local.functions_host.worker_process import WorkerProcess, worker_environment

_log = logging.getLogger("local.functions_host")


def main() -> int:
    """Run the host until SIGTERM or SIGINT; return the exit code."""
    arguments = _arguments()
    _configure_logging()
    try:
        settings = read_settings(arguments.settings)
        if settings.master_key is None and not arguments.disable_auth:
            raise ConfigurationError(
                f"{arguments.settings} has no Host.Keys.master; add keys, or start with --disable-auth "
                "to let every caller in, as Core Tools does"
            )
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_run(arguments.app_dir.resolve(), arguments.port, settings, auth=not arguments.disable_auth))
    except FunctionsHostError as error:
        _log.error("%s", error)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.functions_host", description=__doc__)
    parser.add_argument("--app-dir", type=Path, required=True, help="folder with function_app.py and host.json")
    parser.add_argument("--port", type=int, required=True, help="port to listen on, loopback only")
    parser.add_argument("--settings", type=Path, required=True, help="file in local.settings.json format")
    parser.add_argument("--disable-auth", action="store_true", help="ask for no keys, as Core Tools does")
    return parser.parse_args()


def _configure_logging() -> None:
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)-7s Host %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.WARNING)
    _log.setLevel(logging.INFO)


async def _run(app_dir: Path, port: int, settings: LocalSettings, *, auth: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    configuration = read_host_json(app_dir, settings.values)
    for name in configuration.ignored:
        _log.warning("host.json: %s has no effect locally", name)
    settings = replace(settings, values={"WEBSITE_HOSTNAME": f"127.0.0.1:{port}", **settings.values})
    # The worker imports the app while this process imports the web server: both take their time.
    first_worker = await WorkerProcess.start(app_dir, worker_environment(settings.values, app_dir))
    try:
        from local.functions_host.host import FunctionsHost
        from local.functions_host.keys import Keyring
        from local.functions_host.server import serve

        keys = Keyring.from_settings(settings, is_enforced=auth)
        host = FunctionsHost(app_dir, settings, configuration, keys, first_worker)
        await serve(host, port, stop)
    finally:
        first_worker.kill()


if __name__ == "__main__":
    sys.exit(main())
