"""Serves the Jobs API 2.0, 2.1 and 2.2."""

from aiohttp import web

from local.databricks.workspace.jobs.engine import JobsEngine
from local.databricks.workspace.jobs.errors import MultipleTasksOutputError, RunMissingError
from local.databricks.workspace.jobs.requests import (
    canonical,
    merged,
    parse_overrides,
    parse_repair,
    parse_run_filter,
)
from local.databricks.workspace.jobs.runs import Run, TaskRun
from local.databricks.workspace.jobs.wire import ApiVersion, JobsWire
from local.databricks.workspace.transport.errors import InvalidParameterError
from local.databricks.workspace.transport.params import JsonObject, Params
from local.databricks.workspace.transport.responses import json_endpoint

__all__ = ["job_routes"]

_MAX_PAGE = 100
_DEFAULT_PAGE = 20


def job_routes(engine: JobsEngine, wire: JobsWire) -> list[web.RouteDef]:
    """Return the routes below `/api/<version>/jobs` for all three versions."""
    routes: list[web.RouteDef] = []
    for version in ApiVersion:
        api = _JobsApi(engine, wire, version)
        prefix = f"/api/{version.value}/jobs"
        routes += [
            web.post(f"{prefix}/create", json_endpoint(api.create)),
            web.post(f"{prefix}/reset", json_endpoint(api.reset)),
            web.post(f"{prefix}/update", json_endpoint(api.update)),
            web.post(f"{prefix}/delete", json_endpoint(api.delete)),
            web.get(f"{prefix}/get", json_endpoint(api.get)),
            web.get(f"{prefix}/list", json_endpoint(api.list)),
            web.post(f"{prefix}/run-now", json_endpoint(api.run_now)),
            web.post(f"{prefix}/runs/submit", json_endpoint(api.submit)),
            web.get(f"{prefix}/runs/get", json_endpoint(api.get_run)),
            web.get(f"{prefix}/runs/get-output", json_endpoint(api.get_output)),
            web.get(f"{prefix}/runs/list", json_endpoint(api.list_runs)),
            web.post(f"{prefix}/runs/cancel", json_endpoint(api.cancel)),
            web.post(f"{prefix}/runs/cancel-all", json_endpoint(api.cancel_all)),
            web.post(f"{prefix}/runs/delete", json_endpoint(api.delete_run)),
            web.post(f"{prefix}/runs/repair", json_endpoint(api.repair)),
        ]
    return routes


class _JobsApi:
    """The handlers of one version."""

    def __init__(self, engine: JobsEngine, wire: JobsWire, version: ApiVersion) -> None:
        self._engine = engine
        self._store = engine.store
        self._wire = wire
        self._version = version

    def create(self, params: Params) -> JsonObject:
        settings, flat = canonical(params.values, params.optional_text("name"))
        job = self._engine.create_job(settings, flat=flat, queue_by_default=self._version is ApiVersion.V2_2)
        return {"job_id": job.job_id}

    def reset(self, params: Params) -> JsonObject:
        new = params.mapping("new_settings")
        settings, flat = canonical(new, str(new.get("name", "")))
        self._engine.replace_settings(params.integer("job_id"), settings, flat=flat)
        return {}

    def update(self, params: Params) -> JsonObject:
        job = self._store.get_job(params.integer("job_id"))
        changes = params.mapping("new_settings")
        if any(key.endswith("_task") for key in changes):
            changes, _ = canonical(changes, job.name)
        removed = [str(field) for field in params.items("fields_to_remove")]
        self._engine.replace_settings(job.job_id, merged(job.settings, changes, removed), flat=job.flat)
        return {}

    def delete(self, params: Params) -> JsonObject:
        self._store.delete_job(params.integer("job_id"))
        return {}

    def get(self, params: Params) -> JsonObject:
        return self._wire.job(self._store.get_job(params.integer("job_id")), self._version)

    def list(self, params: Params) -> JsonObject:
        limit = params.optional_integer("limit") or _DEFAULT_PAGE
        if not 0 < limit <= _MAX_PAGE:
            raise InvalidParameterError(f"limit must be between 1 and {_MAX_PAGE}, not {limit}")
        offset = params.optional_integer("page_token") or params.optional_integer("offset") or 0
        jobs = self._store.list_jobs(params.optional_text("name"))
        page, more = jobs[offset : offset + limit], len(jobs) > offset + limit
        expand = params.boolean("expand_tasks")
        answer: JsonObject = {"has_more": more}
        if page:
            answer["jobs"] = [self._wire.job(job, self._version, expand_tasks=expand) for job in page]
        if more:
            answer["next_page_token"] = str(offset + limit)
        return answer

    def run_now(self, params: Params) -> JsonObject:
        token = params.optional_text("idempotency_token")
        run = self._engine.run_now(params.integer("job_id"), parse_overrides(params), token)
        return {"run_id": run.run_id, "number_in_job": run.run_id}

    def submit(self, params: Params) -> JsonObject:
        settings, _ = canonical(params.values, params.optional_text("run_name", "Untitled"))
        return {"run_id": self._engine.submit(settings, params.optional_text("idempotency_token")).run_id}

    def get_run(self, params: Params) -> JsonObject:
        run_id = params.integer("run_id")
        task_of = self._store.find_task_run(run_id)
        if task_of is not None:
            return self._wire.task_run_as_run(task_of, task_of.attempt(run_id), self._version)
        with_history = params.boolean("include_history")
        return self._wire.run(self._store.get_run(run_id), self._version, with_history=with_history)

    def get_output(self, params: Params) -> JsonObject:
        run, attempt = self._attempt(params.integer("run_id"))
        return self._wire.output(run, attempt, self._version)

    def list_runs(self, params: Params) -> JsonObject:
        wanted = parse_run_filter(params)
        runs, more = self._store.list_runs(wanted)
        expand = params.boolean("expand_tasks")
        answer: JsonObject = {"has_more": more}
        if runs:
            answer["runs"] = [self._wire.run(run, self._version, expand_tasks=expand) for run in runs]
        if more:
            answer["next_page_token"] = str(wanted.offset + wanted.limit)
        return answer

    def cancel(self, params: Params) -> JsonObject:
        self._engine.cancel(params.integer("run_id"))
        return {}

    def cancel_all(self, params: Params) -> JsonObject:
        job_id, queued_only = params.optional_integer("job_id"), params.boolean("all_queued_runs")
        if job_id is None and not queued_only:
            raise InvalidParameterError("One of job_id and all_queued_runs must be given")
        self._engine.cancel_all(job_id, queued_only=queued_only)
        return {}

    def delete_run(self, params: Params) -> JsonObject:
        self._engine.delete_run(params.integer("run_id"))
        return {}

    def repair(self, params: Params) -> JsonObject:
        return {"repair_id": self._engine.repair(parse_repair(params))}

    def _attempt(self, run_id: int) -> tuple[Run, TaskRun]:
        run = self._store.find_task_run(run_id)
        if run is not None:
            return run, run.attempt(run_id)
        run = self._store.get_run(run_id)
        latest = list(run.latest_attempts().values())
        if not latest:
            raise RunMissingError(run_id)
        if len(latest) > 1:
            raise MultipleTasksOutputError
        return run, latest[0]
