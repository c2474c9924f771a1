"""Gathers what a run's page shows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.databricks.workspace.jobs.launcher import RunFolders
from local.databricks.workspace.jobs.runs import Run, TaskRun
from local.databricks.workspace.jobs.store import Job, JobStore, RunFilter
from local.databricks.workspace.storage.errors import FileMissingError
from local.databricks.workspace.storage.model import Entry, FileStore
from local.databricks.workspace.tracking.lineage import ExperimentRun, Lineage, MadeVersion
from local.databricks.workspace.transport.params import JsonObject

__all__ = ["Cell", "Overview", "Picture", "RunPage", "RunPages", "TaskView"]

_PICTURES = (".png", ".svg", ".jpg", ".jpeg", ".gif")
_MAX_LOG_CHARACTERS = 20_000
_MAX_DEPTH = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of a notebook and what it has put out so far."""

    title: str
    source: str
    language: str
    text: str
    html: str
    duration_s: float | None
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """One attempt of a task."""

    attempt: TaskRun
    notebook_path: str
    cells: Sequence[Cell]
    log_tail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image that an experiment run logged."""

    mlflow_run_id: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """Everything that a run's page shows."""

    run: Run
    tasks: Sequence[TaskView]
    experiment_runs: Sequence[ExperimentRun]
    versions: Sequence[MadeVersion]
    pictures: Sequence[Picture]
    mlflow_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The workspace's jobs and newest runs."""

    jobs: Sequence[Job]
    runs: Sequence[Run]
    mlflow_url: str


class RunPages:
    """Reads the store, the attempts' folders and the artifacts on disk."""

    def __init__(
        self, store: JobStore, folders: RunFolders, lineage: Lineage, files: FileStore, mlflow_url: str
    ) -> None:
        self._store = store
        self._folders = folders
        self._lineage = lineage
        self._files = files
        self.mlflow_url = mlflow_url

    def overview(self) -> Overview:
        """Return the jobs and the newest runs of all of them."""
        runs, _ = self._store.list_runs(RunFilter(limit=50))
        return Overview(jobs=self._store.list_jobs(), runs=runs, mlflow_url=self.mlflow_url)

    def page(self, run_id: int) -> RunPage:
        """Return what to show of a run; raises RunMissingError."""
        run = self._store.get_run(run_id)
        experiment_runs = self._lineage.experiment_runs(run_id)
        return RunPage(
            run=run,
            tasks=[self._task(run, attempt) for attempt in run.tasks],
            experiment_runs=experiment_runs,
            versions=self._lineage.versions(run_id),
            pictures=[picture for made in experiment_runs for picture in self._pictures(made)],
            mlflow_url=self.mlflow_url,
        )

    def picture_file(self, run_id: int, mlflow_run_id: str, path: str) -> Path | None:
        """Return the file of a picture that the run's page shows, and no other file."""
        for made in self._lineage.experiment_runs(run_id):
            if made.mlflow_run_id == mlflow_run_id and Path(path).suffix.lower() in _PICTURES:
                file = self._files.locate(f"{_root(made)}/{path}")
                return file if file.is_file() else None
        return None

    def _task(self, run: Run, attempt: TaskRun) -> TaskView:
        output = self._folders.output(attempt.task_run_id)
        settings: JsonObject = next((t for t in run.settings["tasks"] if t["task_key"] == attempt.task_key), {})
        return TaskView(
            attempt=attempt,
            notebook_path=str((settings.get("notebook_task") or {}).get("notebook_path", "")),
            cells=_read_cells(output / "cells.json"),
            log_tail=_read_tail(output / "driver.log"),
        )

    def _pictures(self, made: ExperimentRun) -> list[Picture]:
        found: list[Picture] = []
        self._collect(made, _root(made), "", _MAX_DEPTH, found)
        return found

    def _collect(self, made: ExperimentRun, root: str, below: str, depth: int, found: list[Picture]) -> None:
        for entry in self._entries(f"{root}/{below}"):
            path = f"{below}/{entry.name}".lstrip("/")
            if entry.is_directory and depth > 0:
                self._collect(made, root, path, depth - 1, found)
            elif Path(entry.name).suffix.lower() in _PICTURES:
                found.append(Picture(mlflow_run_id=made.mlflow_run_id, path=path))

    def _entries(self, path: str) -> list[Entry]:
        try:
            return self._files.list(path)
        except FileMissingError:
            return []


def _root(made: ExperimentRun) -> str:
    return f"/WorkspaceInternal/Mlflow/Artifacts/{made.experiment_id}/Runs/{made.mlflow_run_id}/artifacts"


def _read_cells(file: Path) -> list[Cell]:
    try:
        documents = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []  # the run has not come to its first cell
    return [_cell(document) for document in documents]


def _cell(document: dict[str, Any]) -> Cell:
    return Cell(
        title=document.get("title") or "",
        source=document.get("source") or "",
        language=document.get("language") or "python",
        text=document.get("outputs_text") or "",
        html=document.get("outputs_html") or "",
        duration_s=document.get("duration_s"),
        state=document.get("state") or "PENDING",
    )


def _read_tail(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")[-_MAX_LOG_CHARACTERS:]
    except OSError:
        return ""
