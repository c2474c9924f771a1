"""Serialises jobs and runs in the shapes of the Jobs API 2.0, 2.1 and 2.2."""

from dataclasses import dataclass
from enum import StrEnum

from local.databricks.workspace.identity.routes import USER_NAME
from local.databricks.workspace.jobs.parameters import job_parameter_values
from local.databricks.workspace.jobs.runs import Run, RunType, TaskRun
from local.databricks.workspace.jobs.settings import parse_job
from local.databricks.workspace.jobs.states import LifeCycle, RunState
from local.databricks.workspace.jobs.store import Job
from local.databricks.workspace.transport.params import JsonObject

__all__ = ["ApiVersion", "JobsWire", "state_to_json", "status_to_json"]

_MAX_OUTPUT_BYTES = 5 * 1024 * 1024
_FLAT_KEYS = (
    "notebook_task",
    "new_cluster",
    "existing_cluster_id",
    "libraries",
    "max_retries",
    "min_retry_interval_millis",
    "retry_on_timeout",
)

_V2_STATE = {
    LifeCycle.QUEUED: "QUEUED",
    LifeCycle.PENDING: "PENDING",
    LifeCycle.RUNNING: "RUNNING",
    LifeCycle.TERMINATING: "TERMINATING",
    LifeCycle.BLOCKED: "BLOCKED",
    LifeCycle.WAITING_FOR_RETRY: "WAITING",
}


class ApiVersion(StrEnum):
    """A version of the Jobs API."""

    V2_0 = "2.0"
    V2_1 = "2.1"
    V2_2 = "2.2"


def state_to_json(state: RunState) -> JsonObject:
    """Return `state`, the older vocabulary."""
    document: JsonObject = {"life_cycle_state": state.life_cycle.value, "state_message": state.message}
    if state.life_cycle is LifeCycle.QUEUED:
        document["queue_reason"] = "The run is queued because the maximum number of concurrent runs was reached."
    if state.result is not None:
        document["result_state"] = state.result.value
    return document | {"user_cancelled_or_timedout": state.was_stopped}


def status_to_json(state: RunState) -> JsonObject:
    """Return `status`, the newer vocabulary, which tells every end by its code."""
    document: JsonObject = {"state": _V2_STATE.get(state.life_cycle, "TERMINATED")}
    if state.life_cycle is LifeCycle.QUEUED:
        document["queue_details"] = {
            "code": "MAX_CONCURRENT_RUNS_REACHED",
            "message": "The run is queued because the maximum number of concurrent runs was reached.",
        }
    if state.code is not None:
        document["termination_details"] = {
            "code": state.code.value,
            "type": state.termination_type.value,
            "message": state.message,
        }
    return document


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsWire:
    """Serialises for one workspace, whose address is in the URLs of run pages."""

    host: str

    def page_url(self, run: Run) -> str:
        """Return where a person looks at the run."""
        return f"{self.host}/jobs/{run.job_id}/runs/{run.run_id}"

    def job(self, job: Job, version: ApiVersion, *, expand_tasks: bool = True) -> JsonObject:
        """Return a job; a flat one stays flat for 2.0, and lists leave tasks out unless asked."""
        settings = dict(job.settings)
        if version is ApiVersion.V2_0 and job.flat:
            settings = _flattened(settings)
        elif not expand_tasks:
            for key in ("tasks", "job_clusters", "parameters", "environments"):
                settings.pop(key, None)
        if version is not ApiVersion.V2_0 or not job.flat:
            settings["format"] = "MULTI_TASK"
        return {
            "job_id": job.job_id,
            "creator_user_name": job.creator,
            "run_as_user_name": job.creator,
            "created_time": job.created_ms,
            "settings": {"name": job.name, "max_concurrent_runs": 1, **settings},
        }

    def run(
        self, run: Run, version: ApiVersion, *, expand_tasks: bool = True, with_history: bool = False
    ) -> JsonObject:
        """Return a run with both vocabularies, and with its repairs if they are asked for."""
        spec = parse_job(run.settings)
        document = self._head(run) | {
            "format": "MULTI_TASK" if run.settings.get("tasks") else "SINGLE_TASK",
            "run_name": run.name,
            "run_type": run.run_type.value,
            "original_attempt_run_id": run.run_id,
            "trigger": "ONE_TIME",
            "setup_duration": 0,
            "execution_duration": 0,
            "cleanup_duration": 0,
            "run_duration": max(0, run.end_ms - run.start_ms) if run.end_ms else 0,
            "queue_duration": run.queued_ms,
            "job_parameters": [
                {"name": name, "default": spec.parameters.get(name, ""), "value": value}
                for name, value in job_parameter_values(spec, run.overrides).items()
            ],
        }
        if run.overrides.notebook_params:
            document["overriding_parameters"] = {"notebook_params": run.overrides.notebook_params}
        if not document["job_parameters"]:
            del document["job_parameters"]
        if version is ApiVersion.V2_0 and len(spec.tasks) == 1:
            document["task"] = _task_of(run, spec.tasks[0].task_key)
        if expand_tasks:
            document["tasks"] = [self.task_run(run, attempt) for attempt in run.tasks]
        if expand_tasks and run.settings.get("job_clusters"):
            document["job_clusters"] = run.settings["job_clusters"]
        if with_history:
            document["repair_history"] = _repair_history(run)
        return document

    def task_run(self, run: Run, attempt: TaskRun) -> JsonObject:
        """Return one attempt of a task."""
        settings: JsonObject = next((t for t in run.settings["tasks"] if t["task_key"] == attempt.task_key), {})
        setup_ms = attempt.execution_start_ms - attempt.start_ms if attempt.execution_start_ms else 0
        ran_ms = attempt.end_ms - attempt.execution_start_ms if attempt.end_ms and attempt.execution_start_ms else 0
        return {
            **settings,
            "run_id": attempt.task_run_id,
            "task_key": attempt.task_key,
            "attempt_number": attempt.attempt_number,
            "original_attempt_run_id": attempt.original_attempt_run_id,
            "state": state_to_json(attempt.state),
            "status": status_to_json(attempt.state),
            "run_page_url": f"{self.page_url(run)}#{attempt.task_run_id}",
            "start_time": attempt.start_ms,
            "setup_duration": setup_ms,
            "execution_duration": ran_ms,
            "cleanup_duration": 0,
            "end_time": attempt.end_ms,
            "resolved_values": {"notebook_task": {"base_parameters": attempt.parameters}},
        }

    def task_run_as_run(self, run: Run, attempt: TaskRun, version: ApiVersion) -> JsonObject:
        """Return an attempt of a task in the shape of a run, as `runs/get` answers for its id."""
        document = self._head(run) | self.task_run(run, attempt)
        document |= {
            "job_run_id": run.run_id,
            "number_in_job": attempt.task_run_id,
            "run_name": attempt.task_key,
            "run_type": RunType.JOB_RUN.value if run.run_type is RunType.JOB_RUN else run.run_type.value,
            "tasks": [self.task_run(run, attempt)],
        }
        if version is ApiVersion.V2_0:
            document["task"] = _task_of(run, attempt.task_key)
        return document

    def output(self, run: Run, attempt: TaskRun, version: ApiVersion) -> JsonObject:
        """Return `runs/get-output`: `notebook_output` is there, if empty, whatever happened."""
        notebook_output: JsonObject = {}
        if attempt.exit_value is not None:
            encoded = attempt.exit_value.encode()
            notebook_output = {
                "result": encoded[:_MAX_OUTPUT_BYTES].decode(errors="ignore"),
                "truncated": len(encoded) > _MAX_OUTPUT_BYTES,
            }
        document: JsonObject = {
            "metadata": self.task_run_as_run(run, attempt, version),
            "notebook_output": notebook_output,
        }
        if attempt.error is not None:
            document["error"] = attempt.error
        if attempt.error_trace is not None:
            document["error_trace"] = attempt.error_trace
        return document

    def _head(self, run: Run) -> JsonObject:
        return {
            "job_id": run.job_id,
            "run_id": run.run_id,
            "number_in_job": run.run_id,
            "creator_user_name": USER_NAME,
            "state": state_to_json(run.state),
            "status": status_to_json(run.state),
            "start_time": run.start_ms,
            "end_time": run.end_ms,
            "run_page_url": self.page_url(run),
        }


def _task_of(run: Run, task_key: str) -> JsonObject:
    settings = next(task for task in run.settings["tasks"] if task["task_key"] == task_key)
    return {"notebook_task": settings["notebook_task"]}


def _flattened(settings: JsonObject) -> JsonObject:
    flat = {key: value for key, value in settings.items() if key != "tasks"}
    for task in settings.get("tasks", []):
        flat |= {key: task[key] for key in _FLAT_KEYS if key in task}
    return flat | {"format": "SINGLE_TASK"}


def _repair_history(run: Run) -> list[JsonObject]:
    """Return the original run and each repair, with what each of them came to."""
    repaired = {task_run_id for repair in run.repairs for task_run_id in repair.task_run_ids}
    original = [task.task_run_id for task in run.tasks if task.task_run_id not in repaired]
    ends = [(repair.before, repair.before_end_ms) for repair in run.repairs] + [(run.state, run.end_ms)]
    parts: list[tuple[JsonObject, int, list[int]]] = [({"type": "ORIGINAL"}, run.start_ms, original)]
    parts += [
        ({"type": "REPAIR", "id": repair.repair_id}, repair.start_ms, list(repair.task_run_ids))
        for repair in run.repairs
    ]
    return [
        {
            **head,
            "start_time": start_ms,
            "end_time": end_ms,
            "state": state_to_json(state),
            "status": status_to_json(state),
            "task_run_ids": task_run_ids,
        }
        for (head, start_ms, task_run_ids), (state, end_ms) in zip(parts, ends, strict=True)
    ]
