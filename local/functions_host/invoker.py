"""Runs one invocation from input to applied outputs, within the time limit."""

import asyncio
import contextlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from local.functions_host.errors import FunctionFailedError, FunctionTimeoutError, InvocationError, StorageError
from local.functions_host.functions import Function
from local.functions_host.messages import Completion, Data, HttpRequest, Invocation
from local.functions_host.queue_messages import encode_body, messages_from_output
from local.functions_host.storage import StorageClients
from local.functions_host.trace_context import new_trace_parent
from local.functions_host.worker_supervisor import WorkerSupervisor

__all__ = ["Call", "Invoker"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Why and with what a function is invoked."""

    reason: str
    inputs: Mapping[str, Data | HttpRequest]
    trigger_metadata: Mapping[str, Data] = field(default_factory=dict)
    trace_parent: str | None = None
    trace_state: str = ""
    retry_count: int = 0
    max_retry_count: int = 0
    retry_error: str = ""


class Invoker:
    """Invokes functions; every trigger goes through it.

    Args:
        supervisor: Where functions run.
        storage: Clients for queue outputs.
        timeout_s: host.json's functionTimeout, None for none.
        is_base64: host.json's messageEncoding.
        on_enqueued: Called with a queue's name after an output was written to it, so that its listener wakes.
    """

    def __init__(
        self,
        supervisor: WorkerSupervisor,
        storage: StorageClients,
        *,
        timeout_s: float | None,
        is_base64: bool,
        on_enqueued: Callable[[str], None],
    ) -> None:
        self._supervisor = supervisor
        self._storage = storage
        self._timeout_s = timeout_s
        self._is_base64 = is_base64
        self._on_enqueued = on_enqueued
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def drain(self, grace_s: float) -> None:
        """Wait until no function runs, so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._idle.wait()

    async def invoke(self, function: Function, call: Call) -> Completion:
        """Return the completion of a function that succeeded, its queue outputs written.

        Raises:
            InvocationError: It failed, ran out of time or lost its worker.
            HostNotRunningError: There is no worker.
        """
        invocation_id = str(uuid.uuid4())
        _log.info("Executing 'Functions.%s' (Reason=%r, Id=%s)", function.name, call.reason, invocation_id)
        self._count += 1
        self._idle.clear()
        started = time.monotonic()
        try:
            await self._supervisor.wait_for_worker()
            completion = await self._run(function, call, invocation_id)
            await self._write_outputs(function, completion)
        except BaseException as error:
            _log_end(function, invocation_id, started, error)
            raise
        finally:
            self._count -= 1
            if self._count == 0:
                self._idle.set()
        _log_end(function, invocation_id, started, None)
        return completion

    async def _run(self, function: Function, call: Call, invocation_id: str) -> Completion:
        invocation = Invocation(
            invocation_id=invocation_id,
            function_id=function.function_id,
            inputs=call.inputs,
            trigger_metadata=call.trigger_metadata,
            trace_parent=call.trace_parent or new_trace_parent(),
            trace_state=call.trace_state,
            trace_attributes={"OperationName": function.name, "ProcessId": str(os.getpid())},
            retry_count=call.retry_count,
            max_retry_count=call.max_retry_count,
            retry_error=call.retry_error,
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                completion = await self._supervisor.invoke(invocation)
        except TimeoutError as error:
            # A function in a thread cannot be stopped: as on Azure, the whole worker goes.
            self._supervisor.restart(f"functionTimeout of {function.name!r}")
            raise FunctionTimeoutError(function.name, self._timeout_s or 0.0) from error
        if completion.error is not None:
            raise FunctionFailedError(function.name, completion.error, completion.stack_trace)
        return completion

    async def _write_outputs(self, function: Function, completion: Completion) -> None:
        for output in function.outputs:
            value = completion.return_value if output.name == "$return" else completion.outputs.get(output.name)
            if not isinstance(value, Data):
                continue
            for body in messages_from_output(value):
                text = encode_body(body, is_base64=self._is_base64)
                try:
                    await self._storage.send(output.connection_string, output.queue, text)
                except StorageError as error:
                    raise FunctionFailedError(function.name, f"output {output.name!r}: {error}", "") from error
            self._on_enqueued(output.queue)


def _log_end(function: Function, invocation_id: str, started: float, error: BaseException | None) -> None:
    outcome = "Succeeded" if error is None else "Failed"
    ms = (time.monotonic() - started) * 1000
    level = logging.INFO if error is None else logging.ERROR
    _log.log(
        level,
        "Executed 'Functions.%s' (%s, Id=%s, Duration=%.0fms)",
        function.name,
        outcome,
        invocation_id,
        ms,
    )
    if isinstance(error, FunctionFailedError):
        _log.error("%s\n%s", error, error.stack_trace.rstrip())
    elif isinstance(error, InvocationError):
        _log.error("%s", error)
