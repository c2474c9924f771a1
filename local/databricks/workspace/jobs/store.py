"""Keeps jobs, runs and idempotency tokens in the workspace's database."""

import json
import sqlite3
from dataclasses import dataclass

from local.databricks.workspace.database import next_id
from local.databricks.workspace.jobs.errors import DeletedRunTokenError, JobMissingError, RunMissingError
from local.databricks.workspace.jobs.runs import Run, RunType
from local.databricks.workspace.jobs.states import LifeCycle
from local.databricks.workspace.transport.params import JsonObject

__all__ = ["Job", "JobStore", "RunFilter"]

_FIRST_JOB_ID = 1_001
_FIRST_RUN_ID = 500_001
_TERMINAL = "('TERMINATED', 'SKIPPED', 'INTERNAL_ERROR')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job; `settings` are canonical (with `tasks`), `flat` tells that they were given without."""

    job_id: int
    settings: JsonObject
    flat: bool
    queue_by_default: bool
    creator: str
    created_ms: int

    @property
    def name(self) -> str:
        """The job's name."""
        return str(self.settings.get("name") or "Untitled")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs are asked for; newest first."""

    job_id: int | None = None
    active_only: bool = False
    completed_only: bool = False
    run_type: RunType | None = None
    start_from_ms: int | None = None
    start_to_ms: int | None = None
    offset: int = 0
    limit: int = 20


class JobStore:
    """What must survive the process; every method is one transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def new_job_id(self) -> int:
        """Return an id for a job."""
        return next_id(self._database, "job", _FIRST_JOB_ID)

    def new_run_id(self) -> int:
        """Return an id for a run or for an attempt of a task; they share one sequence."""
        return next_id(self._database, "run", _FIRST_RUN_ID)

    def save_job(self, job: Job) -> None:
        """Store a job, replacing one of the same id."""
        self._database.execute(
            "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                job.job_id,
                job.name,
                json.dumps(job.settings),
                job.flat,
                job.queue_by_default,
                job.creator,
                job.created_ms,
            ),
        )

    def get_job(self, job_id: int) -> Job:
        """Return the job of that id."""
        row = self._database.execute("SELECT * FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
        if row is None:
            raise JobMissingError(job_id)
        return _job(row)

    def delete_job(self, job_id: int) -> None:
        """Remove a job; its runs stay."""
        self.get_job(job_id)
        self._database.execute("DELETE FROM jobs WHERE job_id = ?", (job_id,))

    def list_jobs(self, name: str = "") -> list[Job]:
        """Return jobs newest first, of that name if one is given, whatever its case."""
        rows = self._database.execute("SELECT * FROM jobs ORDER BY job_id DESC").fetchall()
        return [_job(row) for row in rows if not name or row["name"].casefold() == name.casefold()]

    def add_run(self, run: Run) -> None:
        """Store a new run together with its idempotency token, or neither."""
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:
            if run.idempotency_token:
                self._database.execute(
                    "INSERT INTO idempotency_tokens VALUES (?, ?)", (run.idempotency_token, run.run_id)
                )
            self._write(run)

    def save_run(self, run: Run) -> None:
        """Store what became of a run."""
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:
            self._write(run)

    def _write(self, run: Run) -> None:
        self._database.execute(
            "INSERT INTO runs VALUES (?, ?, ?, ?, ?, 0, ?) ON CONFLICT (run_id) DO UPDATE SET "
            "life_cycle = excluded.life_cycle, document = excluded.document",
            (
                run.run_id,
                run.job_id,
                run.state.life_cycle,
                run.run_type,
                run.start_ms,
                json.dumps(run.to_document()),
            ),
        )
        self._database.executemany(
            "INSERT OR IGNORE INTO task_runs VALUES (?, ?)", [(task.task_run_id, run.run_id) for task in run.tasks]
        )

    def get_run(self, run_id: int) -> Run:
        """Return the run of that id, which must not be deleted."""
        row = self._database.execute("SELECT document FROM runs WHERE run_id = ? AND NOT deleted", (run_id,)).fetchone()
        if row is None:
            raise RunMissingError(run_id)
        return _run(row)

    def find_task_run(self, task_run_id: int) -> Run | None:
        """Return the run that has this attempt of a task, if there is one."""
        row = self._database.execute(
            "SELECT document FROM runs JOIN task_runs USING (run_id) WHERE task_run_id = ? AND NOT deleted",
            (task_run_id,),
        ).fetchone()
        return None if row is None else _run(row)

    def find_by_token(self, token: str) -> int | None:
        """Return the id of the run of that idempotency token; raises if that run was deleted."""
        row = self._database.execute(
            "SELECT run_id, deleted FROM idempotency_tokens JOIN runs USING (run_id) WHERE token = ?", (token,)
        ).fetchone()
        if row is None:
            return None
        if row["deleted"]:
            raise DeletedRunTokenError(int(row["run_id"]))
        return int(row["run_id"])

    def delete_run(self, run_id: int) -> None:
        """Hide a run for good; its token stays taken."""
        self._database.execute("UPDATE runs SET deleted = 1 WHERE run_id = ?", (run_id,))

    def count_active(self, job_id: int) -> int:
        """Return how many runs of the job are neither queued nor ended."""
        row = self._database.execute(
            f"SELECT count(*) AS n FROM runs WHERE job_id = ? AND life_cycle <> 'QUEUED' "  # noqa: S608 - a constant
            f"AND life_cycle NOT IN {_TERMINAL}",
            (job_id,),
        ).fetchone()
        return int(row["n"])

    def queued(self, job_id: int | None = None) -> list[Run]:
        """Return queued runs, of one job or of all, first come first."""
        rows = self._database.execute(
            "SELECT document FROM runs WHERE life_cycle = ? AND (? IS NULL OR job_id = ?) ORDER BY run_id",
            (LifeCycle.QUEUED, job_id, job_id),
        ).fetchall()
        return [_run(row) for row in rows]

    def live(self) -> list[Run]:
        """Return the runs that have neither ended nor are queued."""
        rows = self._database.execute(
            f"SELECT document FROM runs WHERE life_cycle <> 'QUEUED' AND life_cycle NOT IN {_TERMINAL}"  # noqa: S608
        ).fetchall()
        return [_run(row) for row in rows]

    def list_runs(self, wanted: RunFilter) -> tuple[list[Run], bool]:
        """Return one page of runs, newest first, and whether there are more."""
        conditions, values = ["NOT deleted"], list[object]()
        if wanted.job_id is not None:
            conditions.append("job_id = ?")
            values.append(wanted.job_id)
        if wanted.active_only:
            conditions.append(f"life_cycle NOT IN {_TERMINAL}")
        if wanted.completed_only:
            conditions.append(f"life_cycle IN {_TERMINAL}")
        if wanted.run_type is not None:
            conditions.append("run_type = ?")
            values.append(wanted.run_type)
        if wanted.start_from_ms is not None:
            conditions.append("start_ms >= ?")
            values.append(wanted.start_from_ms)
        if wanted.start_to_ms is not None:
            conditions.append("start_ms <= ?")
            values.append(wanted.start_to_ms)
        rows = self._database.execute(
            f"SELECT document FROM runs WHERE {' AND '.join(conditions)} "  # noqa: S608 - conditions are the constants above
            "ORDER BY run_id DESC LIMIT ? OFFSET ?",
            (*values, wanted.limit + 1, wanted.offset),
        ).fetchall()
        return [_run(row) for row in rows[: wanted.limit]], len(rows) > wanted.limit


def _job(row: sqlite3.Row) -> Job:
    return Job(
        job_id=row["job_id"],
        settings=json.loads(row["settings"]),
        flat=bool(row["flat"]),
        queue_by_default=bool(row["queue_by_default"]),
        creator=row["creator"],
        created_ms=row["created_ms"],
    )


def _run(row: sqlite3.Row) -> Run:
    return Run.from_document(json.loads(row["document"]))
