"""Lists the functions of an app exactly as Microsoft's runtime indexes them."""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from local.functions_host.configuration import read_settings
from local.functions_host.errors import ConfigurationError, FunctionsHostError
from local.functions_host.functions import describe
from local.functions_host.messages import FunctionMetadata, IndexingFailed
from local.functions_host.worker_process import WorkerProcess, worker_environment

__all__ = ["index_app"]


def index_app(app_dir: Path, settings: Mapping[str, str] | None = None) -> tuple[FunctionMetadata, ...]:
    """Return the app's functions, found in a process of their own that has ended when this returns.

    Args:
        app_dir: The app's folder.
        settings: App settings that the app sees in its environment while it is imported.

    Raises:
        ConfigurationError: The app cannot be indexed, or has no functions; on Azure the latter does nothing silently.
    """
    return asyncio.run(_index(app_dir.resolve(), settings or {}))


async def _index(app_dir: Path, settings: Mapping[str, str]) -> tuple[FunctionMetadata, ...]:
    if not (app_dir / "function_app.py").is_file() and "PYTHON_SCRIPT_FILE_NAME" not in settings:
        raise ConfigurationError(f"there is no function_app.py in {app_dir}")
    worker = await WorkerProcess.start(app_dir, worker_environment(settings, app_dir))
    try:
        outcome = await worker.indexed()
    finally:
        await worker.stop(0)
        await worker.close()
    if isinstance(outcome, IndexingFailed):
        raise ConfigurationError(f"{outcome.error}\n{outcome.stack_trace}".rstrip())
    if not outcome.functions:
        raise ConfigurationError(f"the app in {app_dir} has no functions")
    return outcome.functions


def main() -> int:
    """Print the functions as a JSON list, ordered by name; return 1 if there are none."""
    parser = argparse.ArgumentParser(prog="python -m local.functions_host.index", description=__doc__)
    parser.add_argument("--app-dir", type=Path, required=True, help="folder with function_app.py")
    parser.add_argument("--settings", type=Path, help="file in local.settings.json format")
    arguments = parser.parse_args()
    try:
        settings = {} if arguments.settings is None else read_settings(arguments.settings).values
        functions = index_app(arguments.app_dir, settings)
    except FunctionsHostError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    listed = [describe(function) for function in sorted(functions, key=lambda function: function.name)]
    sys.stdout.write(json.dumps(listed, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
