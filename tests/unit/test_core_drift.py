"""Tests that a job which does something else than its template says is noticed, and nothing else is."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from functions.core.drift import drift_of
from tests.support.workspace import JOB_TEMPLATES

TEMPLATE: dict[str, Any] = json.loads((JOB_TEMPLATES / "scoring.json").read_text())
NOTEBOOK = "/Workspace/Tidegate/${environment}/releases/${release}/notebooks/scoring"


def deployed() -> dict[str, Any]:
    """Return the job as it was deployed from its template, with what the workspace adds."""
    text = (JOB_TEMPLATES / "scoring.json").read_text()
    job: dict[str, Any] = json.loads(text.replace("${environment}", "prod").replace("${release}", "1.2.0+a1b2"))
    job["run_as_user_name"] = "someone"
    job["tasks"][0]["run_if"] = "ALL_SUCCESS"
    return job


def on_other_compute(job: dict[str, Any]) -> None:
    del job["job_clusters"], job["tasks"][0]["job_cluster_key"]
    job["tasks"][0]["existing_cluster_id"] = "1"
    job["max_concurrent_runs"] = 40
    job["description"] = "ours"


@pytest.mark.parametrize("change", [lambda _: None, on_other_compute])
def test_what_a_workspace_may_choose_is_no_drift(change: Callable[[dict[str, Any]], None]) -> None:
    """R29: compute and how many runs at once change when a run starts, not what it does."""
    job = deployed()
    change(job)

    assert drift_of(TEMPLATE, job) == []


@pytest.mark.parametrize(
    ("change", "drift"),
    [
        (lambda job: job.pop("queue"), 'queue: (absent) -> {"enabled": true}'),
        (lambda job: job["parameters"].pop(0), 'parameters[run_id]: (absent) -> {"name": "run_id", "default": ""}'),
        (lambda job: job["parameters"].append({"name": "mine", "default": ""}), "parameters[mine]: removed"),
        (lambda job: job["tasks"][0].update(max_retries=3), "tasks[scoring].max_retries: 3 -> 0"),
        (lambda job: job.update(timeout_seconds=60), "timeout_seconds: 60 -> 1800"),
        (
            lambda job: job["tasks"][0]["notebook_task"].update(notebook_path="/Users/ann/scoring"),
            f'tasks[scoring].notebook_task.notebook_path: "/Users/ann/scoring" -> "{NOTEBOOK}"',
        ),
    ],
)
def test_a_job_that_was_changed_has_drifted(change: Callable[[dict[str, Any]], None], drift: str) -> None:
    """R29: by hand, say, or by a deployment of another release that failed half-way."""
    job = deployed()
    change(job)

    assert drift_of(TEMPLATE, job) == [drift]


@pytest.mark.parametrize("value", ["abfss://input@store.dfs.core.windows.net/flights", ""])
def test_what_a_deployment_sets_may_be_any_text(value: str) -> None:
    """R29: `tidegate deploy --set` fills a template's own placeholders with whatever it is told."""
    template = {
        "name": "tidegate-${environment}-x",
        "parameters": [{"name": "root", "default": "${root}"}],
        "tasks": [],
    }
    job = {"name": "tidegate-prod-x", "parameters": [{"name": "root", "default": value}], "tasks": []}

    assert drift_of(template, job) == []
    assert drift_of(template, {**job, "name": "tidegate-a/b-x"}) != []
