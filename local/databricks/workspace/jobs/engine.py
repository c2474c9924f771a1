"""Takes jobs and runs in: admits, queues, skips, stops, repairs, and picks up after a restart."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from local.databricks.workspace.identity.routes import USER_NAME
from local.databricks.workspace.jobs.driver import DriverTools, RunDriver
from local.databricks.workspace.jobs.errors import InvalidSettingsError, RunActiveError
from local.databricks.workspace.jobs.repair import RepairRequest, tasks_to_repair
from local.databricks.workspace.jobs.runs import Overrides, Repair, Run, RunType, TaskRun
from local.databricks.workspace.jobs.settings import JobSpec, parse_job
from local.databricks.workspace.jobs.states import LifeCycle, Result, RunState, StopReason, Termination
from local.databricks.workspace.jobs.store import Job, JobStore
from local.databricks.workspace.transport.params import JsonObject

__all__ = ["JobsEngine"]

_log = logging.getLogger(__name__)

_MAX_TOKEN_CHARACTERS = 64
_MAX_PARAMETER_BYTES = 10_000


class JobsEngine:
    """The Jobs service. Its methods do not wait for anything, so each is atomic on the event loop."""

    def __init__(self, tools: DriverTools) -> None:
        self._tools = tools
        self._drivers: dict[int, tuple[RunDriver, asyncio.Task[None]]] = {}
        self._killers: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def store(self) -> JobStore:
        """Where jobs and runs are kept."""
        return self._tools.store

    def create_job(self, settings: JsonObject, *, flat: bool, queue_by_default: bool) -> Job:
        """Return a new job with these canonical settings."""
        parse_job(settings)
        job = Job(
            job_id=self.store.new_job_id(),
            settings=settings,
            flat=flat,
            queue_by_default=queue_by_default,
            creator=USER_NAME,
            created_ms=self._tools.clock.now_ms(),
        )
        self.store.save_job(job)
        return job

    def replace_settings(self, job_id: int, settings: JsonObject, *, flat: bool) -> None:
        """Give a job other settings; live runs keep theirs."""
        job = self.store.get_job(job_id)
        parse_job(settings)
        self.store.save_job(replace(job, settings=settings, flat=flat))

    def run_now(self, job_id: int, overrides: Overrides, token: str) -> Run:
        """Return a new run of the job, or the run that this token already has.

        Nothing may await between the look-up of the token and the insertion: that is what makes 32 callers at once
        get one run. The database's unique key guards the same across a restart.
        """
        job = self.store.get_job(job_id)
        existing = self._existing(token)
        if existing is not None:
            return existing
        _check_size(overrides.job_parameters, "job_parameters")
        _check_size(overrides.notebook_params, "notebook_params")
        settings = _only(job.settings, overrides.only)
        spec = parse_job(settings)
        queue = next(
            choice
            for choice in (overrides.queue_enabled, spec.queue_enabled, job.queue_by_default)
            if choice is not None
        )
        run = self._new_run(job_id, RunType.JOB_RUN, settings, overrides, token)
        return self._admit(replace(run, name=job.name, queue_enabled=queue), spec)

    def submit(self, settings: JsonObject, token: str) -> Run:
        """Return a run of tasks that belong to no job, or the run that this token already has."""
        existing = self._existing(token)
        if existing is not None:
            return existing
        spec = parse_job(settings)
        if not spec.tasks:
            raise InvalidSettingsError("A submitted run needs at least one task")
        run = self._new_run(self.store.new_job_id(), RunType.SUBMIT_RUN, settings, Overrides(), token)
        return self._admit(replace(run, name=str(settings.get("run_name") or "Untitled")), spec)

    def cancel(self, run_id: int) -> None:
        """Make a run end; harmless if it has ended."""
        run = self.store.get_run(run_id)
        if run.run_id in self._drivers:
            self._drivers[run.run_id][0].stop(StopReason.CANCELED)
        elif run.state.life_cycle is LifeCycle.QUEUED:
            self._end_without_running(run, RunState.stopped(StopReason.CANCELED))

    def cancel_all(self, job_id: int | None, *, queued_only: bool) -> None:
        """Cancel the runs of one job or of all, or only those that are queued."""
        for run in self.store.queued(job_id):
            self.cancel(run.run_id)
        if not queued_only:
            for run_id, (driver, _) in list(self._drivers.items()):
                if job_id is None or driver.job_id == job_id:
                    self.cancel(run_id)

    def delete_run(self, run_id: int) -> None:
        """Hide an ended run; its idempotency token stays reserved."""
        if not self.store.get_run(run_id).state.is_terminal:
            raise RunActiveError(run_id)
        self.store.delete_run(run_id)

    def repair(self, request: RepairRequest) -> int:
        """Return the id of a repair that runs tasks of an ended run again, with the job's current settings."""
        run = self.store.get_run(request.run_id)
        settings = self.store.get_job(run.job_id).settings if run.run_type is RunType.JOB_RUN else run.settings
        spec = parse_job(settings)
        keys = tasks_to_repair(run, spec, request)
        now = self._tools.clock.now_ms()
        attempts = tuple(
            self._new_attempt(key, now, blocked=True, attempt_number=self._attempts_of(run, key)) for key in keys
        )
        repair = Repair(
            repair_id=self.store.new_run_id(),
            start_ms=now,
            task_run_ids=tuple(attempt.task_run_id for attempt in attempts),
            before=run.state,
            before_end_ms=run.end_ms,
        )
        repaired = replace(
            run,
            settings=settings,
            overrides=request.overrides or run.overrides,
            state=RunState(life_cycle=LifeCycle.PENDING),
            end_ms=0,
            tasks=(*run.tasks, *attempts),
            repairs=(*run.repairs, repair),
        )
        self.store.save_run(repaired)
        self._start(repaired)
        return repair.repair_id

    def kill_run(self, run_id: int, after_s: float) -> None:
        """Kill a run's processes so many seconds after the first started; a scripted fault."""
        if run_id in self._drivers:
            killer = asyncio.create_task(self._kill_later(self._drivers[run_id][0], after_s))
            self._killers.add(killer)
            killer.add_done_callback(self._killers.discard)

    def resume(self) -> None:
        """End the runs that were live when the process died, and admit the ones that were queued."""
        lost = RunState.broken("The workspace restarted while the run was live.", Termination.INTERNAL_ERROR)
        for run in self.store.live():
            self._end_without_running(run, lost)
        for job_id in {run.job_id for run in self.store.queued()}:
            self._admit_queued(job_id)

    async def close(self) -> None:
        """End every notebook process; the runs stay live in the store, and `resume` ends them."""
        self._closing = True
        tasks = [*self._killers, *(task for _, task in self._drivers.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _existing(self, token: str) -> Run | None:
        if len(token) > _MAX_TOKEN_CHARACTERS:
            raise InvalidSettingsError(f"idempotency_token exceeds {_MAX_TOKEN_CHARACTERS} characters")
        run_id = self.store.find_by_token(token) if token else None
        return None if run_id is None else self.store.get_run(run_id)

    def _new_run(self, job_id: int, run_type: RunType, settings: JsonObject, overrides: Overrides, token: str) -> Run:
        now = self._tools.clock.now_ms()
        run_id = self.store.new_run_id()
        return Run(
            run_id=run_id,
            job_id=job_id,
            run_type=run_type,
            name="",
            settings=settings,
            overrides=overrides,
            state=RunState(life_cycle=LifeCycle.PENDING),
            start_ms=now,
            idempotency_token=token,
            tasks=tuple(
                self._new_attempt(task.task_key, now, blocked=bool(task.depends_on))
                for task in parse_job(settings).tasks
            ),
        )

    def _new_attempt(self, key: str, now: int, *, blocked: bool, attempt_number: int = 0) -> TaskRun:
        task_run_id = self.store.new_run_id()
        return TaskRun(
            task_run_id=task_run_id,
            task_key=key,
            state=RunState(life_cycle=LifeCycle.BLOCKED if blocked else LifeCycle.PENDING),
            start_ms=now,
            attempt_number=attempt_number,
            original_attempt_run_id=task_run_id,
        )

    @staticmethod
    def _attempts_of(run: Run, key: str) -> int:
        return sum(1 for task in run.tasks if task.task_key == key)

    def _admit(self, run: Run, spec: JobSpec) -> Run:
        if not run.tasks:
            ended = replace(run, state=RunState.not_run(Result.EXCLUDED, "The job has no task."), end_ms=run.start_ms)
            self.store.add_run(ended)
            return ended
        limit = spec.max_concurrent_runs
        has_room = run.run_type is RunType.SUBMIT_RUN or self.store.count_active(run.job_id) < limit
        if has_room:
            self.store.add_run(run)
            self._start(run)
            return run
        if run.queue_enabled and limit > 0:
            queued = replace(run, state=RunState(life_cycle=LifeCycle.QUEUED))
            self.store.add_run(queued)
            return queued
        state = RunState.skipped_for_concurrency(limit)
        skipped = replace(
            run,
            state=state,
            end_ms=run.start_ms,
            tasks=tuple(replace(task, state=state, end_ms=run.start_ms) for task in run.tasks),
        )
        self.store.add_run(skipped)
        return skipped

    def _admit_queued(self, job_id: int) -> None:
        for run in self.store.queued(job_id):
            if self.store.count_active(job_id) >= self._current_limit(run):
                return
            now = self._tools.clock.now_ms()
            admitted = replace(run, state=RunState(life_cycle=LifeCycle.PENDING), queued_ms=now - run.start_ms)
            self.store.save_run(admitted)
            self._start(admitted)

    def _current_limit(self, run: Run) -> int:
        jobs = [job for job in self.store.list_jobs() if job.job_id == run.job_id]
        return parse_job(jobs[0].settings if jobs else run.settings).max_concurrent_runs

    def _start(self, run: Run) -> None:
        driver = RunDriver(run, self._tools)
        task = asyncio.create_task(self._drive(run.run_id, driver), name=f"run {run.run_id}")
        self._drivers[run.run_id] = (driver, task)

    async def _drive(self, run_id: int, driver: RunDriver) -> None:
        try:
            await driver.drive()
        except Exception as error:  # noqa: BLE001 - a defect of ours must end the run, not leave it live for ever
            _log.exception("run failed to be driven", extra={"run_id": run_id})
            self._end_without_running(
                self.store.get_run(run_id), RunState.broken(f"{error!r}", Termination.INTERNAL_ERROR)
            )
        finally:
            del self._drivers[run_id]
        if not self._closing:
            self._admit_queued(driver.job_id)

    def _end_without_running(self, run: Run, state: RunState) -> None:
        now = self._tools.clock.now_ms()
        tasks = tuple(task if task.state.is_terminal else replace(task, state=state, end_ms=now) for task in run.tasks)
        self.store.save_run(replace(run, state=state, end_ms=now, tasks=tasks))

    async def _kill_later(self, driver: RunDriver, after_s: float) -> None:
        await driver.process_started.wait()
        await self._tools.clock.sleep(after_s)
        driver.kill_processes()


def _check_size(parameters: dict[str, str], where: str) -> None:
    size = sum(len(key.encode()) + len(value.encode()) for key, value in parameters.items())
    if size > _MAX_PARAMETER_BYTES:
        raise InvalidSettingsError(f"{where} of {size} bytes exceed the limit of {_MAX_PARAMETER_BYTES} bytes")


def _only(settings: JsonObject, keys: Sequence[str]) -> JsonObject:
    if not keys:
        return settings
    known = {task["task_key"] for task in settings.get("tasks", [])}
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise InvalidSettingsError(f"only names tasks that the job does not have: {', '.join(unknown)}")
    tasks = [
        {**task, "depends_on": [item for item in task.get("depends_on") or [] if item["task_key"] in keys]}
        for task in settings["tasks"]
        if task["task_key"] in keys
    ]
    return {**settings, "tasks": tasks}
