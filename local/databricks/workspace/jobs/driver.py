"""Drives one run from its first task to its end, through retries, time-outs and stops."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from local.databricks.workspace.clock import Clock
from local.databricks.workspace.jobs.graph import Do, decide, outcome
from local.databricks.workspace.jobs.launcher import (
    Launcher,
    NotebookCrash,
    NotebookOutcome,
    NotebookProcess,
    NotebookRequest,
    NotebookResult,
)
from local.databricks.workspace.jobs.parameters import RunFacts, notebook_parameters
from local.databricks.workspace.jobs.runs import Run, TaskRun
from local.databricks.workspace.jobs.settings import TaskSpec, parse_job
from local.databricks.workspace.jobs.states import LifeCycle, Result, RunState, StopReason, Termination
from local.databricks.workspace.jobs.store import JobStore
from local.databricks.workspace.transport.errors import WorkspaceError
from local.databricks.workspace.transport.params import JsonObject

__all__ = ["DriverTools", "RunDriver"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverTools:
    """What every driver shares."""

    store: JobStore
    launcher: Launcher
    clock: Clock
    slots: asyncio.Semaphore
    """Bounds the notebook processes; attempts without a slot are PENDING."""

    find_notebook: Callable[[str], Path | None]
    environment_of: Callable[[TaskSpec], dict[str, str]]
    """Returns the variables of a task's cluster; raises WorkspaceError if they cannot be resolved."""

    workspace_id: str
    workspace_url: str


class RunDriver:
    """One live run. Every change of state is stored before anything else happens."""

    def __init__(self, run: Run, tools: DriverTools) -> None:
        self._run = run
        self._job = parse_job(run.settings)
        self._tools = tools
        self._stopping = asyncio.Event()
        self._stop_reason: StopReason | None = None
        self._processes: dict[int, NotebookProcess] = {}
        self.process_started = asyncio.Event()

    @property
    def job_id(self) -> int:
        """The job of the run."""
        return self._run.job_id

    async def drive(self) -> None:
        """Return when the run has ended and its end is stored."""
        timer = asyncio.create_task(self._time_out()) if self._job.timeout_s else None
        try:
            await self._run_tasks()
        finally:
            if timer is not None:
                timer.cancel()
        states = {key: attempt.state for key, attempt in self._run.latest_attempts().items()}
        state = outcome(self._job, states, self._stop_reason)
        self._save(replace(self._run, state=state, end_ms=self._tools.clock.now_ms()))

    def stop(self, reason: StopReason) -> None:
        """Make the run end; the first reason stands, repeating it is harmless."""
        if self._stop_reason is None:
            self._stop_reason = reason
            self._save(replace(self._run, state=RunState(life_cycle=LifeCycle.TERMINATING)))
            self._stopping.set()

    def kill_processes(self) -> None:
        """Kill the notebook processes as a lost driver would, without the run being told."""
        for process in list(self._processes.values()):
            process.kill()

    async def _time_out(self) -> None:
        await self._tools.clock.sleep(self._job.timeout_s)
        self.stop(StopReason.TIMED_OUT)

    async def _run_tasks(self) -> None:
        live: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                self._settle(live)
                if not live:
                    return
                await asyncio.wait(live.values(), return_when=asyncio.FIRST_COMPLETED)
                for key in [key for key, task in live.items() if task.done()]:
                    live.pop(key).result()
        finally:
            await _cancel(*live.values())

    def _settle(self, live: dict[str, asyncio.Task[None]]) -> None:
        """Start what can start and end what cannot, until nothing changes any more."""
        changed = True
        while changed:
            changed = False
            attempts = self._run.latest_attempts()
            states = {key: attempt.state for key, attempt in attempts.items()}
            for key, attempt in attempts.items():
                if attempt.state.is_terminal or key in live:
                    continue
                task = self._job.task(key)
                decision = self._stopped_state(task) if self._stop_reason else decide(task, states)
                match decision:
                    case None:
                        continue
                    case Do():
                        live[key] = asyncio.create_task(self._run_task(task))
                    case RunState():
                        self._end(attempt, decision)
                        changed = True

    async def _run_task(self, task: TaskSpec) -> None:
        attempt = self._change(self._run.latest(task.task_key), LifeCycle.PENDING)
        while True:
            attempt, state = await self._run_attempt(task, attempt)
            attempt = self._end(attempt, state)
            if not self._may_retry(task, attempt):
                return
            attempt = await self._next_attempt(task, attempt)
            if attempt.state.is_terminal:
                return

    async def _run_attempt(self, task: TaskSpec, attempt: TaskRun) -> tuple[TaskRun, RunState]:
        work = asyncio.create_task(self._execute(task, attempt))
        stopping = asyncio.create_task(self._stopping.wait())
        deadline = asyncio.create_task(self._tools.clock.sleep(task.timeout_s)) if task.timeout_s else None
        watched = {work, stopping} if deadline is None else {work, stopping, deadline}
        try:
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if work in done:
                return self._run.attempt(attempt.task_run_id), work.result()
            self._change(self._run.attempt(attempt.task_run_id), LifeCycle.TERMINATING)
        finally:
            await _cancel(*watched)
        state = (
            self._stopped_state(task) if self._stop_reason else RunState.stopped(StopReason.TIMED_OUT, task.timeout_s)
        )
        return self._run.attempt(attempt.task_run_id), state

    async def _execute(self, task: TaskSpec, attempt: TaskRun) -> RunState:
        async with self._tools.slots:
            request = self._prepare(task, attempt)
            if isinstance(request, RunState):
                return request
            try:
                process = await self._tools.launcher.start(request)
            except OSError as error:
                return RunState.broken(f"The notebook process cannot be started: {error}", Termination.INTERNAL_ERROR)
            self._processes[attempt.task_run_id] = process
            self._mark_running(attempt.task_run_id, request.parameters)
            try:
                return self._record(attempt.task_run_id, await process.wait())
            except asyncio.CancelledError:
                await process.stop()
                raise
            finally:
                del self._processes[attempt.task_run_id]

    def _prepare(self, task: TaskSpec, attempt: TaskRun) -> NotebookRequest | RunState:
        notebook = self._tools.find_notebook(task.notebook_path)
        if notebook is None:
            return RunState.broken(
                f'Unable to access the notebook "{task.notebook_path}". Either it does not exist, or the identity '
                "used to run this job lacks the required permissions.",
                Termination.RESOURCE_NOT_FOUND,
            )
        try:
            environment = self._tools.environment_of(task)
        except WorkspaceError as error:
            return RunState.broken(f"The cluster cannot be started: {error}", Termination.INVALID_CLUSTER_REQUEST)
        return NotebookRequest(
            run_id=self._run.run_id,
            task_run_id=attempt.task_run_id,
            job_id=self._run.job_id,
            task_key=task.task_key,
            notebook_path=task.notebook_path,
            notebook_file=notebook,
            parameters=notebook_parameters(self._job, task, self._run.overrides, self._facts(attempt)),
            env=environment,
            task_values=self._task_values(),
        )

    def _facts(self, attempt: TaskRun) -> RunFacts:
        results = {
            key: state.result.value
            for key, other in self._run.latest_attempts().items()
            if (state := other.state).result is not None
        }
        return RunFacts(
            job_id=self._run.job_id,
            job_name=self._run.name,
            run_id=self._run.run_id,
            task_key=attempt.task_key,
            task_run_id=attempt.task_run_id,
            attempt_number=attempt.attempt_number,
            start_ms=self._run.start_ms,
            workspace_id=self._tools.workspace_id,
            workspace_url=self._tools.workspace_url,
            repair_count=len(self._run.repairs),
            results=results,
            task_values=self._task_values(),
        )

    def _task_values(self) -> dict[str, JsonObject]:
        return {key: attempt.task_values for key, attempt in self._run.latest_attempts().items()}

    def _mark_running(self, task_run_id: int, parameters: dict[str, str]) -> None:
        attempt = replace(
            self._run.attempt(task_run_id),
            state=RunState(life_cycle=LifeCycle.RUNNING),
            execution_start_ms=self._tools.clock.now_ms(),
            parameters=parameters,
        )
        run = self._run.with_attempt(attempt)
        if run.state.life_cycle is LifeCycle.PENDING:
            run = replace(run, state=RunState(life_cycle=LifeCycle.RUNNING))
        self._save(run)
        self.process_started.set()

    def _record(self, task_run_id: int, ended: NotebookOutcome) -> RunState:
        match ended:
            case NotebookResult():
                attempt = replace(
                    self._run.attempt(task_run_id),
                    exit_value=ended.exit_value,
                    error=ended.error,
                    error_trace=ended.error_trace,
                    task_values=ended.task_values,
                )
                self._run = self._run.with_attempt(attempt)
                return RunState.succeeded() if ended.succeeded else RunState.failed()
            case NotebookCrash():
                message = f"Run failed with error message: the driver stopped unexpectedly. {ended.reason}."
                return RunState.broken(message, Termination.DRIVER_ERROR)

    def _may_retry(self, task: TaskSpec, attempt: TaskRun) -> bool:
        retryable = attempt.state.result is Result.FAILED or (
            attempt.state.result is Result.TIMEDOUT and task.retry_on_timeout
        )
        left = task.max_retries < 0 or attempt.attempt_number < task.max_retries
        return retryable and left and self._stop_reason is None

    async def _next_attempt(self, task: TaskSpec, failed: TaskRun) -> TaskRun:
        now = self._tools.clock.now_ms()
        attempt = TaskRun(
            task_run_id=self._tools.store.new_run_id(),
            task_key=task.task_key,
            state=RunState(life_cycle=LifeCycle.WAITING_FOR_RETRY),
            start_ms=now,
            attempt_number=failed.attempt_number + 1,
            original_attempt_run_id=failed.original_attempt_run_id,
        )
        self._save(self._run.with_attempt(attempt))
        wait_s = max(0.0, (failed.start_ms + task.min_retry_interval_ms - now) / 1000)  # from start to start
        if wait_s:
            pause = asyncio.create_task(self._tools.clock.sleep(wait_s))
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait({pause, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await _cancel(pause, stopping)
        if self._stop_reason is not None:
            return self._end(attempt, self._stopped_state(task))
        return self._change(attempt, LifeCycle.PENDING)

    def _stopped_state(self, task: TaskSpec) -> RunState:
        return RunState.stopped(self._stop_reason or StopReason.CANCELED, self._job.timeout_s or task.timeout_s)

    def _change(self, attempt: TaskRun, life_cycle: LifeCycle) -> TaskRun:
        changed = replace(attempt, state=RunState(life_cycle=life_cycle))
        if changed.state.life_cycle is LifeCycle.PENDING:
            changed = replace(changed, start_ms=self._tools.clock.now_ms())
        self._save(self._run.with_attempt(changed))
        return changed

    def _end(self, attempt: TaskRun, state: RunState) -> TaskRun:
        ended = replace(attempt, state=state, end_ms=self._tools.clock.now_ms())
        self._save(self._run.with_attempt(ended))
        return ended

    def _save(self, run: Run) -> None:
        self._run = run
        self._tools.store.save_run(run)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks that are not done and return when they are."""
    pending = [task for task in tasks if not task.done()]
    for task in pending:
        task.cancel()
    for task in pending:
        with contextlib.suppress(asyncio.CancelledError):
            await task
