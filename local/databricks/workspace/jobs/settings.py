"""Parses job settings into what the engine needs to know, refusing what it could not honour."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from local.databricks.workspace.jobs.errors import InvalidSettingsError
from local.databricks.workspace.transport.errors import MalformedRequestError, NotImplementedLocallyError
from local.databricks.workspace.transport.params import JsonObject

__all__ = ["JobSpec", "RunIf", "TaskSpec", "parse_job", "string_map"]

_TASK_KEY = re.compile(r"[A-Za-z0-9_-]{1,100}")
_PARAMETER_KEY = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_MAX_CONCURRENT_RUNS = 1000
_MAX_NAME_BYTES = 4096


class RunIf(StrEnum):
    """What a task's upstream tasks must have come to for it to run."""

    ALL_SUCCESS = "ALL_SUCCESS"
    AT_LEAST_ONE_SUCCESS = "AT_LEAST_ONE_SUCCESS"
    NONE_FAILED = "NONE_FAILED"
    ALL_DONE = "ALL_DONE"
    AT_LEAST_ONE_FAILED = "AT_LEAST_ONE_FAILED"
    ALL_FAILED = "ALL_FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """A notebook task. A timeout of 0 is none; `max_retries` of -1 has no end."""

    task_key: str
    notebook_path: str
    base_parameters: dict[str, str] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    run_if: RunIf = RunIf.ALL_SUCCESS
    timeout_s: int = 0
    max_retries: int = 0
    min_retry_interval_ms: int = 0
    retry_on_timeout: bool = False
    disabled: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    """`spark_env_vars` of the task's cluster, unresolved."""

    existing_cluster_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job's settings; `queue_enabled` is None if they do not say."""

    name: str
    tasks: tuple[TaskSpec, ...]
    parameters: dict[str, str] = field(default_factory=dict)
    max_concurrent_runs: int = 1
    timeout_s: int = 0
    queue_enabled: bool | None = None

    def task(self, key: str) -> TaskSpec:
        """Return the task of that key."""
        return next(task for task in self.tasks if task.task_key == key)


def parse_job(settings: JsonObject) -> JobSpec:
    """Return what canonical settings (with `tasks`) mean.

    Raises:
        InvalidSettingsError: A value cannot be used.
        NotImplementedLocallyError: A value would need something that the local workspace does not have.
    """
    _refuse_unimplemented(settings)
    clusters = {item.get("job_cluster_key"): item.get("new_cluster") or {} for item in settings.get("job_clusters", [])}
    tasks = tuple(_parse_task(task, clusters) for task in settings.get("tasks", []))
    _check_graph(tasks)
    limit = settings.get("max_concurrent_runs", 1)
    if not isinstance(limit, int) or not 0 <= limit <= _MAX_CONCURRENT_RUNS:
        raise InvalidSettingsError(f"max_concurrent_runs must be between 0 and {_MAX_CONCURRENT_RUNS}, not {limit!r}")
    name = str(settings.get("name") or "Untitled")
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise InvalidSettingsError(f"The job name exceeds {_MAX_NAME_BYTES} bytes")
    queue = settings.get("queue")
    return JobSpec(
        name=name,
        tasks=tasks,
        parameters=_parse_parameters(settings.get("parameters", [])),
        max_concurrent_runs=limit,
        timeout_s=_seconds(settings.get("timeout_seconds"), "timeout_seconds"),
        queue_enabled=bool(queue.get("enabled")) if isinstance(queue, dict) else None,
    )


def string_map(value: Any, where: str) -> dict[str, str]:  # Any: JSON at the border
    """Return a map of strings; some clients send a list of `{"key", "value"}` instead."""
    if value is None:
        return {}
    if isinstance(value, list):
        value = {item.get("key"): item.get("value") for item in value if isinstance(item, dict)}
    if not isinstance(value, dict):
        raise MalformedRequestError(
            f"Could not parse request object: Expected object for field '{where}', found {type(value).__name__.upper()}"
        )
    for key, item in value.items():
        if not isinstance(item, str):
            raise MalformedRequestError(
                f"Could not parse request object: Expected 'STRING' for field '{where}.{key}', found {item!r}"
            )
    return dict(value)


def _refuse_unimplemented(settings: JsonObject) -> None:
    if settings.get("continuous"):
        raise NotImplementedLocallyError("jobs with continuous")
    for key in ("schedule", "trigger"):
        automatic = settings.get(key)
        if isinstance(automatic, dict) and automatic.get("pause_status") != "PAUSED":
            raise NotImplementedLocallyError(f"jobs with {key} that is not PAUSED")
    if settings.get("git_source"):
        raise NotImplementedLocallyError("jobs with git_source")
    for environment in settings.get("environments") or []:
        if (environment.get("spec") or {}).get("dependencies"):
            raise NotImplementedLocallyError("jobs whose environments have dependencies")


def _parse_task(task: JsonObject, clusters: dict[Any, JsonObject]) -> TaskSpec:
    key = str(task.get("task_key", ""))
    if not _TASK_KEY.fullmatch(key):
        raise InvalidSettingsError(f"The task key '{key}' is invalid: 1 to 100 letters, digits, '-' and '_'")
    kinds = [name for name in task if name.endswith("_task") and task[name] is not None]
    if kinds != ["notebook_task"]:
        raise NotImplementedLocallyError(f"jobs with {kinds[0] if kinds else 'a task of no kind'} (task '{key}')")
    if task.get("libraries"):
        raise NotImplementedLocallyError(f"jobs with libraries on a task (task '{key}'): install them in the notebook")
    notebook = task["notebook_task"]
    path = str(notebook.get("notebook_path", ""))
    if not path.startswith("/"):
        raise InvalidSettingsError("Only absolute paths are currently supported. Paths must begin with '/'.")
    cluster = task.get("new_cluster") or clusters.get(task.get("job_cluster_key")) or {}
    if task.get("job_cluster_key") and task["job_cluster_key"] not in clusters:
        raise InvalidSettingsError(f"The job cluster '{task['job_cluster_key']}' of task '{key}' is not defined")
    retries = task.get("max_retries") or 0
    return TaskSpec(
        task_key=key,
        notebook_path=path,
        base_parameters=string_map(notebook.get("base_parameters"), "base_parameters"),
        depends_on=tuple(str(item["task_key"]) for item in task.get("depends_on") or []),
        run_if=_run_if(task.get("run_if")),
        timeout_s=_seconds(task.get("timeout_seconds"), "timeout_seconds"),
        max_retries=int(retries),
        min_retry_interval_ms=int(task.get("min_retry_interval_millis") or 0),
        retry_on_timeout=bool(task.get("retry_on_timeout")),
        disabled=bool(task.get("disabled")),
        environment=string_map(cluster.get("spark_env_vars"), "spark_env_vars"),
        existing_cluster_id=str(task.get("existing_cluster_id") or ""),
    )


def _run_if(value: Any) -> RunIf:  # Any: JSON at the border
    try:
        return RunIf(value or "ALL_SUCCESS")
    except ValueError as error:
        raise InvalidSettingsError(f"run_if '{value}' is none of {', '.join(RunIf)}") from error


def _seconds(value: Any, where: str) -> int:  # Any: JSON at the border
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidSettingsError(f"{where} must be a whole number not below 0, not {value!r}")
    return value


def _parse_parameters(parameters: Sequence[JsonObject]) -> dict[str, str]:
    parsed: dict[str, str] = {}
    for parameter in parameters:
        name, default = parameter.get("name"), parameter.get("default", "")
        if not isinstance(name, str) or not _PARAMETER_KEY.fullmatch(name):
            raise InvalidSettingsError(f"The job parameter name {name!r} is invalid: letters, digits, '_', '-' and '.'")
        if name in parsed:
            raise InvalidSettingsError(f"The job parameter '{name}' is defined twice")
        if not isinstance(default, str):
            raise MalformedRequestError(
                f"Could not parse request object: Expected 'STRING' for field 'parameters.{name}', found {default!r}"
            )
        parsed[name] = default
    return parsed


def _check_graph(tasks: Sequence[TaskSpec]) -> None:
    keys = [task.task_key for task in tasks]
    if len(set(keys)) < len(keys):
        raise InvalidSettingsError("Task keys must be unique within a job")
    for task in tasks:
        for upstream in task.depends_on:
            if upstream not in keys:
                raise InvalidSettingsError(f"Task '{task.task_key}' depends on '{upstream}', which is not defined")
    finished: set[str] = set()
    while len(finished) < len(tasks):
        ready = [task.task_key for task in tasks if task.task_key not in finished and finished >= set(task.depends_on)]
        if not ready:
            raise InvalidSettingsError("The dependencies of the tasks form a cycle")
        finished.update(ready)
