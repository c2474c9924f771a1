"""Runs the worker process: indexes the app through azure-functions-runtime and executes what the host sends."""

import asyncio
import contextvars
import faulthandler
import logging
import os
import platform
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from local.functions_host.messages import (
    Completion,
    Indexed,
    IndexingFailed,
    Invocation,
    Stop,
    read_message,
    write_message,
)
from local.functions_host.worker.conversion import init_request, invocation_request, to_completion, to_metadata
from local.functions_host.worker.logs import configure_logging, current_invocation
from local.functions_host.worker.protos import PROTOS

__all__ = ["main"]

_log = logging.getLogger("local.functions_host.worker")


class _ContextThreadPool(ThreadPoolExecutor):
    """Runs each call in a copy of the submitter's context.

    azure-functions-runtime 1.3.0 does not copy it, so a sync function would lose its trace context.
    """

    def submit[T](self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return super().submit(contextvars.copy_context().run, fn, *args, **kwargs)


def main(channel_fd: int, leash_fd: int, app_dir: str) -> None:
    """Serve the host until it says stop or vanishes.

    Args:
        channel_fd: The worker's end of the socket pair that carries messages.
        leash_fd: Reading end of a pipe that the host holds open; its end means that the host is dead.
        app_dir: The app's folder, first on `sys.path` as on Azure.
    """
    for descriptor in (channel_fd, leash_fd):  # a process that a function starts must not hold them open
        os.set_inheritable(descriptor, False)
    threading.Thread(target=_die_with_host, args=(leash_fd,), name="leash", daemon=True).start()
    faulthandler.enable()
    configure_logging()
    sys.path.insert(0, app_dir)
    sys.argv = [os.path.join(app_dir, "function_app.py")]  # noqa: PTH118 - pathlib is not loaded yet
    asyncio.run(_serve(socket.socket(fileno=channel_fd), app_dir))


def _die_with_host(leash_fd: int) -> None:
    """Kill this process and all that it started, even when a function blocks the event loop."""
    while os.read(leash_fd, 1):
        pass
    os.killpg(0, signal.SIGKILL)


async def _serve(channel: socket.socket, app_dir: str) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=channel)
    outcome = await _index(app_dir)
    write_message(writer, outcome)
    await writer.drain()
    names = {}
    if isinstance(outcome, Indexed):
        names = {function.function_id: function.name for function in outcome.functions}
    running: set[asyncio.Task[None]] = set()
    while True:
        message = await read_message(reader)
        match message:
            case None | Stop():
                return
            case Invocation():
                # A task of its own: the runtime attaches the trace context and never detaches it.
                task = asyncio.create_task(_run(message, names.get(message.function_id, "?"), writer))
                running.add(task)
                task.add_done_callback(running.discard)
            case _:
                _log.error("the host sent an unexpected %s", type(message).__name__)


async def _index(app_dir: str) -> Indexed | IndexingFailed:
    try:
        return await _index_app(app_dir)
    except BaseException as error:  # noqa: BLE001 - SystemExit at import is the app's mistake too
        return IndexingFailed(error=f"{type(error).__name__}: {error}", stack_trace=traceback.format_exc())


async def _index_app(app_dir: str) -> Indexed | IndexingFailed:
    import azure_functions_runtime as runtime  # type: ignore[import-untyped]  # the package has no types
    from azure_functions_runtime.utils import threadpool  # type: ignore[import-untyped]  # likewise
    from azure_functions_runtime.version import VERSION  # type: ignore[import-untyped]  # likewise

    runtime.start_threadpool_executor()
    sized = threadpool._threadpool_executor  # noqa: SLF001 - the runtime offers no way to give it a pool
    threadpool._threadpool_executor = _ContextThreadPool(max_workers=sized._max_workers)  # noqa: SLF001
    initialised = await runtime.worker_init_request(init_request(app_dir))
    if initialised.result.status != PROTOS.StatusResult.Success:
        exception = initialised.result.exception
        return IndexingFailed(error=exception.message, stack_trace=exception.stack_trace)
    if "HttpUri" in initialised.capabilities:
        return IndexingFailed(
            error="HTTP streams (azurefunctions-extensions-http): not implemented locally", stack_trace=""
        )
    response = await runtime.functions_metadata_request(None)
    return Indexed(
        functions=tuple(to_metadata(result) for result in response.function_metadata_results or ()),
        runtime_version=VERSION,
        python_version=platform.python_version(),
    )


async def _run(invocation: Invocation, name: str, writer: asyncio.StreamWriter) -> None:
    from azure_functions_runtime import invocation_id_cv
    from azure_functions_runtime import invocation_request as invoke

    current_invocation.set((name, invocation.invocation_id))
    invocation_id_cv.set(invocation.invocation_id)  # the runtime sets it for sync functions only
    try:
        completion = to_completion(await invoke(invocation_request(invocation)))
    except Exception as error:  # noqa: BLE001 - whatever happens, the host must get an answer
        completion = Completion(
            invocation_id=invocation.invocation_id,
            error=f"{type(error).__name__}: {error}",
            stack_trace=traceback.format_exc(),
        )
    write_message(writer, completion)
    await writer.drain()
