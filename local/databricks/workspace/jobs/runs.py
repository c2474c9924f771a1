"""Describes runs and the attempts of their tasks, as values that can be kept and read back."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

from local.databricks.workspace.jobs.states import LifeCycle, Result, RunState, Termination
from local.databricks.workspace.transport.params import JsonObject

__all__ = ["Overrides", "Repair", "Run", "RunType", "TaskRun"]


class RunType(StrEnum):
    """How the run came about."""

    JOB_RUN = "JOB_RUN"
    SUBMIT_RUN = "SUBMIT_RUN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the caller of run-now gave in place of the job's settings."""

    job_parameters: dict[str, str] = field(default_factory=dict)
    notebook_params: dict[str, str] = field(default_factory=dict)
    queue_enabled: bool | None = None
    only: tuple[str, ...] = ()
    """The tasks to run; empty for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """One attempt of one task; times in milliseconds since the epoch, 0 for not yet."""

    task_run_id: int
    task_key: str
    state: RunState
    start_ms: int
    attempt_number: int = 0
    original_attempt_run_id: int = 0
    execution_start_ms: int = 0
    end_ms: int = 0
    parameters: dict[str, str] = field(default_factory=dict)
    exit_value: str | None = None
    error: str | None = None
    error_trace: str | None = None
    task_values: JsonObject = field(default_factory=dict)
    """What the notebook set by `dbutils.jobs.taskValues`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One repair of a run: which attempts it added, and what the run had come to before."""

    repair_id: int
    start_ms: int
    task_run_ids: tuple[int, ...]
    before: RunState
    before_end_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a job, with every attempt of its tasks in the order in which they were made."""

    run_id: int
    job_id: int
    run_type: RunType
    name: str
    settings: JsonObject
    """The settings in force when the run was made."""

    overrides: Overrides
    state: RunState
    start_ms: int
    queued_ms: int = 0
    """How long the run waited in the job's queue."""

    end_ms: int = 0
    queue_enabled: bool = False
    idempotency_token: str = ""
    tasks: tuple[TaskRun, ...] = ()
    repairs: tuple[Repair, ...] = ()

    def latest(self, task_key: str) -> TaskRun:
        """Return the newest attempt of a task."""
        return next(task for task in reversed(self.tasks) if task.task_key == task_key)

    def latest_attempts(self) -> dict[str, TaskRun]:
        """Return the newest attempt of every task."""
        return {task.task_key: task for task in self.tasks}

    def attempt(self, task_run_id: int) -> TaskRun:
        """Return the attempt of that id."""
        return next(task for task in self.tasks if task.task_run_id == task_run_id)

    def with_attempt(self, changed: TaskRun) -> "Run":
        """Return the run with one attempt replaced, or added if it is new."""
        if all(task.task_run_id != changed.task_run_id for task in self.tasks):
            return replace(self, tasks=(*self.tasks, changed))
        return replace(
            self, tasks=tuple(changed if task.task_run_id == changed.task_run_id else task for task in self.tasks)
        )

    def to_document(self) -> JsonObject:
        """Return the run as JSON."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: JsonObject) -> "Run":
        """Return the run that `to_document` made the JSON of."""
        return cls(
            **{
                **document,
                "run_type": RunType(document["run_type"]),
                "overrides": Overrides(**{**document["overrides"], "only": tuple(document["overrides"]["only"])}),
                "state": _state(document["state"]),
                "tasks": tuple(TaskRun(**{**task, "state": _state(task["state"])}) for task in document["tasks"]),
                "repairs": _repairs(document["repairs"]),
            }
        )


def _state(document: JsonObject) -> RunState:
    return RunState(
        life_cycle=LifeCycle(document["life_cycle"]),
        result=None if document["result"] is None else Result(document["result"]),
        code=None if document["code"] is None else Termination(document["code"]),
        message=document["message"],
    )


def _repairs(documents: Sequence[JsonObject]) -> tuple[Repair, ...]:
    return tuple(
        Repair(**{**repair, "task_run_ids": tuple(repair["task_run_ids"]), "before": _state(repair["before"])})
        for repair in documents
    )
