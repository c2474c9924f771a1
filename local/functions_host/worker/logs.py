"""Writes the worker's log records to stderr with the function and the invocation that they belong to."""

import contextvars
import logging
import os
import sys
import time

__all__ = ["configure_logging", "current_invocation"]

current_invocation: contextvars.ContextVar[tuple[str, str] | None] = contextvars.ContextVar(
    "current_invocation", default=None
)
"""Name of the running function and id of its invocation; copied into the threads of sync functions."""

_SYSTEM_LOGGERS = ("azure.functions", "azure_functions_runtime")


class _InvocationFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        running = current_invocation.get()
        record.category = "Worker" if running is None else f"Function.{running[0]}.User [{running[1]}]"
        return super().format(record)


def configure_logging() -> None:
    """Attach one handler to the root logger: INFO as on Azure, DEBUG if PYTHON_ENABLE_DEBUG_LOGGING asks for it."""
    debug = os.environ.get("PYTHON_ENABLE_DEBUG_LOGGING", "").lower() in {"1", "true", "t", "yes", "y"}
    handler = logging.StreamHandler(sys.stderr)
    formatter = _InvocationFormatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(category)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    for name in _SYSTEM_LOGGERS:  # one INFO line a call, which Azure keeps in another category
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.WARNING)
