"""Works out the parameters that a notebook sees: precedence first, then dynamic value references."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from local.databricks.workspace.jobs.runs import Overrides
from local.databricks.workspace.jobs.settings import JobSpec, TaskSpec
from local.databricks.workspace.transport.params import JsonObject

__all__ = ["RunFacts", "job_parameter_values", "notebook_parameters"]

_TASK_VALUE = re.compile(r"tasks\.([A-Za-z0-9_-]+)\.values\.(.+)")
_REFERENCE = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What dynamic value references can tell a task about its run."""

    job_id: int
    job_name: str
    run_id: int
    task_key: str
    task_run_id: int
    attempt_number: int
    start_ms: int
    workspace_id: str
    workspace_url: str
    repair_count: int = 0
    results: Mapping[str, str] = field(default_factory=dict)
    """The result state of every ended task by key."""

    task_values: Mapping[str, JsonObject] = field(default_factory=dict)
    """What every ended task has set by `dbutils.jobs.taskValues`."""

    trigger_type: str = "one_time"


def job_parameter_values(job: JobSpec, overrides: Overrides) -> dict[str, str]:
    """Return the job parameters: the caller's values over the job's defaults, undeclared ones included."""
    return {**job.parameters, **overrides.job_parameters}


def notebook_parameters(job: JobSpec, task: TaskSpec, overrides: Overrides, facts: RunFacts) -> dict[str, str]:
    """Return what `dbutils.widgets.get` answers in the task.

    `base_parameters` give way to the caller's `notebook_params`, these to job parameters; references in the values
    are resolved, and those that name nothing known stay as they are written.
    """
    job_parameters = job_parameter_values(job, overrides)
    resolved_job = {key: _resolve(value, facts, {}) for key, value in job_parameters.items()}
    own = {**task.base_parameters, **overrides.notebook_params}
    return {**{key: _resolve(value, facts, resolved_job) for key, value in own.items()}, **resolved_job}


def _resolve(value: str, facts: RunFacts, job_parameters: Mapping[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        found = _look_up(match[1].replace("`", ""), facts, job_parameters)
        return match[0] if found is None else found

    return _REFERENCE.sub(replace, value)


def _look_up(name: str, facts: RunFacts, job_parameters: Mapping[str, str]) -> str | None:
    if name.startswith("job.parameters."):
        return job_parameters.get(name.removeprefix("job.parameters."))
    if name.startswith("job.start_time."):
        return _start_time(name.removeprefix("job.start_time."), facts.start_ms)
    if name.startswith("tasks.") and name.endswith(".result_state"):
        result = facts.results.get(name.removeprefix("tasks.").removesuffix(".result_state"))
        return None if result is None else result.lower()
    if value := _TASK_VALUE.fullmatch(name):
        return _task_value(facts.task_values.get(value[1], {}), value[2])
    return _plain(facts).get(name)


def _task_value(values: JsonObject, key: str) -> str | None:
    if key not in values:
        return None
    value = values[key]
    return value if isinstance(value, str) else json.dumps(value)


def _plain(facts: RunFacts) -> dict[str, str]:
    start = datetime.fromtimestamp(facts.start_ms / 1000, tz=UTC)
    return {
        "job.id": str(facts.job_id),
        "job.name": facts.job_name,
        "job.run_id": str(facts.run_id),
        "job.repair_count": str(facts.repair_count),
        "job.trigger.type": facts.trigger_type,
        "task.name": facts.task_key,
        "task.run_id": str(facts.task_run_id),
        "task.execution_count": str(facts.attempt_number + 1),
        "workspace.id": facts.workspace_id,
        "workspace.url": facts.workspace_url,
        # the older names
        "job_id": str(facts.job_id),
        "run_id": str(facts.task_run_id),
        "parent_run_id": str(facts.run_id),
        "task_key": facts.task_key,
        "task_retry_count": str(facts.attempt_number),
        "start_date": start.strftime("%Y-%m-%d"),
        "start_time": str(facts.start_ms),
    }


_START_TIME: dict[str, Callable[[datetime], str]] = {
    "iso_date": lambda start: start.strftime("%Y-%m-%d"),
    "iso_datetime": lambda start: start.strftime("%Y-%m-%dT%H:%M:%S"),
    "year": lambda start: str(start.year),
    "month": lambda start: str(start.month),
    "day": lambda start: str(start.day),
    "hour": lambda start: str(start.hour),
    "minute": lambda start: str(start.minute),
    "second": lambda start: str(start.second),
    "timestamp_ms": lambda start: str(int(start.timestamp() * 1000)),
    "iso_weekday": lambda start: str(start.isoweekday()),
    "is_weekday": lambda start: str(start.isoweekday() < 6).lower(),  # noqa: PLR2004 - Saturday
}


def _start_time(part: str, start_ms: int) -> str | None:
    form = _START_TIME.get(part)
    return None if form is None else form(datetime.fromtimestamp(start_ms / 1000, tz=UTC))
