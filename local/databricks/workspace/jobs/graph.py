"""Decides, from what upstream tasks came to, which tasks run, which do not, and what the whole run came to."""

from collections.abc import Mapping
from dataclasses import dataclass

from local.databricks.workspace.jobs.settings import JobSpec, RunIf, TaskSpec
from local.databricks.workspace.jobs.states import LifeCycle, Result, RunState, StopReason, Termination

__all__ = ["Decision", "Do", "decide", "outcome"]

_SUCCEEDED = frozenset({Result.SUCCESS, Result.SUCCESS_WITH_FAILURES})
_NOT_COUNTED = frozenset({Result.EXCLUDED, Result.DISABLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Do:
    """Start the task now."""


type Decision = Do | RunState | None
"""Start the task, end it in that state without running, or wait."""


def decide(task: TaskSpec, states: Mapping[str, RunState]) -> Decision:
    """Return what becomes of a task that has not started.

    Args:
        task: The task.
        states: The state of every task by key.
    """
    upstream = [states[key] for key in task.depends_on if key in states]
    if not all(state.is_terminal for state in upstream):
        return None
    if task.disabled:
        return RunState.not_run(Result.DISABLED, "The task is disabled.")
    results = [state.result for state in upstream if state.result is not None]
    if _allows(task.run_if, results):
        return Do()
    if task.run_if in {RunIf.AT_LEAST_ONE_FAILED, RunIf.ALL_FAILED} or all(
        result in _SUCCEEDED | _NOT_COUNTED for result in results
    ):
        return RunState.not_run(Result.EXCLUDED, f"The condition {task.run_if.value} was not met.")
    if any(result in {Result.CANCELED, Result.UPSTREAM_CANCELED} for result in results):
        return RunState.not_run(Result.UPSTREAM_CANCELED, "An upstream task was cancelled.")
    return RunState.not_run(Result.UPSTREAM_FAILED, "An upstream task failed.")


def _allows(condition: RunIf, results: list[Result]) -> bool:
    if not results:
        return True
    succeeded = [result for result in results if result in _SUCCEEDED]
    failed = [result for result in results if result not in _SUCCEEDED | _NOT_COUNTED]
    allowed = {
        RunIf.ALL_SUCCESS: not failed and (bool(succeeded) or all(result is Result.DISABLED for result in results)),
        RunIf.AT_LEAST_ONE_SUCCESS: bool(succeeded),
        RunIf.NONE_FAILED: not failed and bool(succeeded),
        RunIf.ALL_DONE: True,
        RunIf.AT_LEAST_ONE_FAILED: bool(failed),
        RunIf.ALL_FAILED: len(failed) == len(results),
    }
    return allowed[condition]


def outcome(job: JobSpec, states: Mapping[str, RunState], stop: StopReason | None = None) -> RunState:
    """Return what a run came to whose tasks have all ended; its leaf tasks decide.

    Args:
        job: The settings of the run.
        states: The terminal state of every task by key.
        stop: Why the whole run was stopped, if it was.
    """
    if stop is not None:
        return RunState.stopped(stop, job.timeout_s)
    needed = {key for task in job.tasks for key in task.depends_on}
    leaves = {key: state for key, state in states.items() if key not in needed}
    bad = {key: state for key, state in leaves.items() if state.result not in _SUCCEEDED | _NOT_COUNTED}
    failed_tasks = {key: state for key, state in states.items() if state.result not in _SUCCEEDED | _NOT_COUNTED}
    if not bad and not failed_tasks:
        return RunState.succeeded()
    if not bad:
        return RunState(
            life_cycle=LifeCycle.TERMINATED,
            result=Result.SUCCESS_WITH_FAILURES,
            code=Termination.SUCCESS_WITH_FAILURES,
        )
    return _failure(failed_tasks)


def _failure(failed: Mapping[str, RunState]) -> RunState:
    upstream_results = {Result.UPSTREAM_FAILED, Result.UPSTREAM_CANCELED}
    causes = {key: state for key, state in failed.items() if state.result not in upstream_results} or dict(failed)
    key, cause = next(iter(causes.items()))
    message = f"Task {key} failed with message: {cause.message}."
    if len(causes) < len(failed):
        message += " This caused all downstream tasks to get skipped."
    match cause.result:
        case Result.TIMEDOUT | Result.CANCELED:
            return RunState(
                life_cycle=LifeCycle.TERMINATED, result=cause.result, code=cause.code, message=cause.message
            )
        case _:
            return RunState(
                life_cycle=cause.life_cycle, result=Result.FAILED, code=cause.code, message=message.replace("..", ".")
            )
