"""Starts Databricks runs that do nothing until they are told to: one for each token."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from functions.core.databricks_states import RunStatus, status_of
from functions.core.errors import AmbiguousJobError, DriftedJobError, NotFoundError, RunRejectedError, UnknownJobError
from functions.core.model import DatabricksJobId, DatabricksRunId, IdempotencyToken, JobKey
from tests.support.in_memory.faults import Calls, Faults, NoFaults

__all__ = ["DatabricksRun", "InMemoryWorkspace"]


@dataclass
class DatabricksRun:
    """A run in the workspace in memory."""

    id: DatabricksRunId
    job: JobKey
    token: IdempotencyToken
    parameters: dict[str, str]
    status: RunStatus = field(default_factory=lambda: status_of("RUNNING"))
    repairs: list[int] = field(default_factory=list)


class InMemoryWorkspace:
    """Implements `RunSubmitter` and `ModelRegistry`; honours idempotency tokens."""

    is_warm = True

    def __init__(
        self, jobs: Iterable[str] = ("training", "scoring"), faults: Faults | None = None, *, first_id: int = 1001
    ) -> None:
        self.calls = Calls(faults or NoFaults())
        self.jobs: Counter[JobKey] = Counter(JobKey(job) for job in jobs)
        self.jobs_without_queue: set[JobKey] = set()
        self.runs: dict[DatabricksRunId, DatabricksRun] = {}
        self.models: dict[tuple[str, str], str] = {}
        self._ids = itertools.count(first_id)
        self._lock = threading.Lock()

    def find_job(self, job: JobKey) -> DatabricksJobId:
        with self.calls.effect("workspace.find_job"):
            count = self.jobs[job]
        if count == 0:
            raise UnknownJobError(job, list(self.jobs))
        if count > 1:
            raise AmbiguousJobError(job, list(range(1, count + 1)))
        return DatabricksJobId(sorted(self.jobs).index(job) + 1)

    def check_job(self, job: JobKey) -> None:
        self.find_job(job)
        if job in self.jobs_without_queue:
            raise DriftedJobError(job, ['queue: (absent) -> {"enabled": true}'])

    def submit(self, job: JobKey, token: IdempotencyToken, parameters: Mapping[str, str]) -> DatabricksRunId:
        self.find_job(job)
        with self.calls.effect("workspace.submit"), self._lock:
            run = next((run for run in self.runs.values() if run.token == token), None)
            if run is None:
                run = DatabricksRun(DatabricksRunId(next(self._ids)), job, token, dict(parameters))
                self.runs[run.id] = run
        return run.id

    def page_of(self, job: JobKey, run: DatabricksRunId) -> str:
        return f"https://adb-1.1.azuredatabricks.net/jobs/{job}/runs/{run}"

    def active(self, job: JobKey) -> frozenset[DatabricksRunId]:
        with self.calls.effect("workspace.active"):
            return frozenset(run.id for run in self.runs.values() if run.job == job and run.status.verdict.is_open)

    def status(self, run: DatabricksRunId) -> RunStatus:
        with self.calls.effect("workspace.status"):
            found = self.runs.get(run)
        if found is None:
            raise NotFoundError(f"asking for run {run}", "Run does not exist")
        return found.status

    def cancel(self, run: DatabricksRunId) -> None:
        with self.calls.effect("workspace.cancel"):
            if run in self.runs and self.runs[run].status.verdict.is_open:
                self.runs[run].status = status_of("TERMINATED", "CANCELED", "USER_CANCELED")

    def latest_repair(self, run: DatabricksRunId) -> int:
        with self.calls.effect("workspace.latest_repair"):
            found = self.runs.get(run)
        if found is None:
            raise NotFoundError(f"asking for the repairs of run {run}", "Run does not exist")
        return max(found.repairs, default=0)

    def repair(self, run: DatabricksRunId, parameters: Mapping[str, str], *, after: int) -> None:
        if self.latest_repair(run) != after:
            return
        with self.calls.effect("workspace.repair"), self._lock:
            found = self.runs[run]
            if max(found.repairs, default=0) == after:
                if found.status.verdict.is_open:
                    raise RunRejectedError(f"repairing run {run}", "the run is active")
                found.repairs.append(next(self._ids))
                found.parameters, found.status = dict(parameters), status_of("RUNNING")

    def resolve(self, model_name: str, alias: str) -> str | None:
        with self.calls.effect("workspace.resolve"):
            return self.models.get((model_name, alias))
