"""Remembers which Databricks run made which experiment run and which model version."""

import sqlite3
from dataclasses import dataclass

from local.databricks.workspace.jobs.store import JobStore
from local.databricks.workspace.transport.tokens import TokenAuthority

__all__ = ["ExperimentRun", "Lineage", "MadeVersion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRun:
    """An MLflow run."""

    mlflow_run_id: str
    experiment_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeVersion:
    """A version of a registered model."""

    name: str
    version: str


class Lineage:
    """Learns from the tokens: each notebook process has one of its own."""

    def __init__(self, database: sqlite3.Connection, tokens: TokenAuthority, jobs: JobStore) -> None:
        self._database = database
        self._tokens = tokens
        self._jobs = jobs

    def job_tags(self, caller: str) -> dict[str, str]:
        """Return the tags that MLflow gives an experiment run made by a job; none for other callers."""
        run_id = self._run_of(caller)
        if run_id is None:
            return {}
        run = self._jobs.get_run(run_id)
        return {
            "mlflow.databricks.jobID": str(run.job_id),
            "mlflow.databricks.jobRunID": str(run_id),
            "mlflow.databricks.jobType": "NORMAL",
        }

    def record_experiment_run(self, caller: str, made: ExperimentRun) -> None:
        """Remember an experiment run, if a notebook made it."""
        self._database.execute(
            "INSERT OR REPLACE INTO experiment_runs VALUES (?, ?, ?, ?)",
            (made.mlflow_run_id, made.experiment_id, self._run_of(caller), self._tokens.task_run_of(caller)),
        )

    def record_version(self, caller: str, made: MadeVersion) -> None:
        """Remember a model version, if a notebook made it."""
        run_id = self._run_of(caller)
        if run_id is not None:
            self._database.execute(
                "INSERT OR REPLACE INTO made_model_versions VALUES (?, ?, ?)", (made.name, made.version, run_id)
            )

    def experiment_runs(self, run_id: int) -> list[ExperimentRun]:
        """Return the experiment runs that a Databricks run made, in their order."""
        rows = self._database.execute(
            "SELECT mlflow_run_id, experiment_id FROM experiment_runs WHERE run_id = ? ORDER BY rowid", (run_id,)
        )
        return [ExperimentRun(mlflow_run_id=row["mlflow_run_id"], experiment_id=row["experiment_id"]) for row in rows]

    def versions(self, run_id: int) -> list[MadeVersion]:
        """Return the model versions that a Databricks run made."""
        rows = self._database.execute(
            "SELECT name, version FROM made_model_versions WHERE run_id = ? ORDER BY rowid", (run_id,)
        )
        return [MadeVersion(name=row["name"], version=row["version"]) for row in rows]

    def _run_of(self, caller: str) -> int | None:
        task_run_id = self._tokens.task_run_of(caller)
        run = None if task_run_id is None else self._jobs.find_task_run(task_run_id)
        return None if run is None else run.run_id
