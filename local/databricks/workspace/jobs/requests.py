"""Parses requests of the Jobs API, flat or with tasks, into what the engine takes."""

import re

from local.databricks.workspace.jobs.errors import InvalidSettingsError
from local.databricks.workspace.jobs.repair import RepairRequest
from local.databricks.workspace.jobs.runs import Overrides, RunType
from local.databricks.workspace.jobs.settings import string_map
from local.databricks.workspace.jobs.store import RunFilter
from local.databricks.workspace.transport.errors import InvalidParameterError, NotImplementedLocallyError
from local.databricks.workspace.transport.params import JsonObject, Params

__all__ = ["canonical", "merged", "parse_overrides", "parse_repair", "parse_run_filter"]

_FLAT_ONLY = (
    "new_cluster",
    "existing_cluster_id",
    "libraries",
    "max_retries",
    "min_retry_interval_millis",
    "retry_on_timeout",
)
_NOT_SETTINGS = {"job_id", "access_control_list", "idempotency_token", "format"}
_UNIMPLEMENTED_PARAMS = (
    "jar_params",
    "python_params",
    "python_named_params",
    "spark_submit_params",
    "sql_params",
    "dbt_commands",
    "pipeline_params",
)
_MAX_PAGE = 25
_DEFAULT_PAGE = 20


def canonical(settings: JsonObject, default_task_key: str) -> tuple[JsonObject, bool]:
    """Return settings with `tasks`, and whether they were given without.

    A flat job or submission has one task, named after the run; one without any task is accepted, as 2.0 does.
    """
    known = {key: value for key, value in settings.items() if key not in _NOT_SETTINGS and value is not None}
    if "tasks" in known:
        return known, False
    kinds = [key for key in known if key.endswith("_task")]
    if not kinds:
        return {**known, "tasks": []}, True
    task = {key: known.pop(key) for key in (*kinds, *_FLAT_ONLY) if key in known}
    key = re.sub(r"[^A-Za-z0-9_-]", "_", default_task_key)[:100] or "Untitled"
    return {**known, "tasks": [{"task_key": key, **task}]}, True


def merged(settings: JsonObject, changes: JsonObject, removed: list[str]) -> JsonObject:
    """Return settings after `jobs/update`: lists with keys are merged by key, other fields replaced."""
    result = dict(settings)
    for field in removed:
        name, _, key = field.partition("/")
        if key and name in result:
            result[name] = [item for item in result[name] if _key_of(item) != key]
        else:
            result.pop(name, None)
    for name, value in changes.items():
        if name in {"tasks", "job_clusters"} and isinstance(value, list):
            old = {_key_of(item): item for item in result.get(name, [])}
            result[name] = list((old | {_key_of(item): item for item in value}).values())
        else:
            result[name] = value
    return result


def parse_overrides(params: Params) -> Overrides:
    """Return what run-now or repair gives in place of the job's settings."""
    for key in _UNIMPLEMENTED_PARAMS:
        if params.values.get(key):
            raise NotImplementedLocallyError(f"jobs/run-now with {key}")
    queue = params.mapping("queue")
    return Overrides(
        job_parameters=string_map(params.values.get("job_parameters"), "job_parameters"),
        notebook_params=string_map(params.values.get("notebook_params"), "notebook_params"),
        queue_enabled=bool(queue["enabled"]) if "enabled" in queue else None,
        only=tuple(str(key) for key in params.items("only")),
    )


def parse_repair(params: Params) -> RepairRequest:
    """Return what `runs/repair` asks for."""
    overrides = parse_overrides(params)
    return RepairRequest(
        run_id=params.integer("run_id"),
        tasks=tuple(str(key) for key in params.items("rerun_tasks")),
        all_failed=params.boolean("rerun_all_failed_tasks"),
        with_dependents=params.boolean("rerun_dependent_tasks"),
        latest_repair_id=params.optional_integer("latest_repair_id"),
        overrides=overrides if overrides.job_parameters or overrides.notebook_params else None,
    )


def parse_run_filter(params: Params) -> RunFilter:
    """Return which runs are asked for; page tokens are offsets."""
    active, completed = params.boolean("active_only"), params.boolean("completed_only")
    if active and completed:
        raise InvalidParameterError("active_only and completed_only cannot both be true")
    limit = params.optional_integer("limit")
    if limit is not None and not 0 <= limit <= _MAX_PAGE:
        raise InvalidSettingsError(f"limit must be between 0 and {_MAX_PAGE}, not {limit}")
    run_type = params.optional_text("run_type")
    return RunFilter(
        job_id=params.optional_integer("job_id"),
        active_only=active,
        completed_only=completed,
        run_type=RunType(run_type) if run_type in set(RunType) else None,
        start_from_ms=params.optional_integer("start_time_from"),
        start_to_ms=params.optional_integer("start_time_to"),
        offset=params.optional_integer("page_token") or params.optional_integer("offset") or 0,
        limit=(limit or _MAX_PAGE) if limit is not None else _DEFAULT_PAGE,
    )


def _key_of(item: JsonObject) -> str:
    return str(item.get("task_key") or item.get("job_cluster_key"))
