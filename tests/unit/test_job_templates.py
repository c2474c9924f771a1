"""Holds the job templates to the Jobs API and to the promises made about every job."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk.service.jobs import JobSettings

FOLDER = Path(__file__).parents[2] / "job_templates"
JOBS = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
CHOICES = tuple(sorted(path.stem for path in (FOLDER / "clusters").glob("*.json")))
VALUES = {
    "environment": "local",
    "release": "0.1.0+gabcdef1",
    "existing_cluster_id": "1123-150000-abcdefgh",
    "instance_pool_id": "1123-150000-pool1",
}


def rendered(path: Path) -> dict[str, Any]:
    text = re.sub(r"\$\{([a-z_]+)\}", lambda found: VALUES[found[1]], path.read_text(encoding="utf-8"))
    document: dict[str, Any] = json.loads(text)
    return document


def with_compute(job: dict[str, Any], choice: dict[str, Any]) -> dict[str, Any]:
    """Apply a choice of compute as job_templates/README.md says."""
    tasks = [{k: v for k, v in task.items() if k != "job_cluster_key"} | choice["task"] for task in job["tasks"]]
    return job | {"job_clusters": choice["job_clusters"], "tasks": tasks}


def test_there_is_one_template_per_kind_of_run() -> None:
    """A job is named after its template."""
    assert JOBS == ("scoring", "training")
    assert len(CHOICES) >= 3


@pytest.mark.parametrize("job", JOBS)
def test_the_sdk_knows_every_field(job: str) -> None:
    """A field that the SDK's types do not know is a misspelt one."""
    document = rendered(FOLDER / f"{job}.json")

    assert JobSettings.from_dict(document).as_dict() == document


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_of_compute_fits_every_job(job: str, choice: str) -> None:
    """Each task names compute that exists: a cluster of the job, or one of the workspace."""
    document = with_compute(rendered(FOLDER / f"{job}.json"), rendered(FOLDER / "clusters" / f"{choice}.json"))
    clusters = {cluster["job_cluster_key"] for cluster in document["job_clusters"]}

    assert JobSettings.from_dict(document).as_dict() == {k: v for k, v in document.items() if v != []}
    for task in document["tasks"]:
        assert ("existing_cluster_id" in task) != (task.get("job_cluster_key") in clusters)


@pytest.mark.parametrize("job", JOBS)
def test_no_placeholder_survives_rendering(job: str) -> None:
    """The values of a release are enough for a template as it is."""
    text = (FOLDER / f"{job}.json").read_text(encoding="utf-8")

    assert set(re.findall(r"\$\{([^}]*)\}", text)) == {"environment", "release"}
    assert "$" not in json.dumps(rendered(FOLDER / f"{job}.json"))


@pytest.mark.parametrize("job", JOBS)
def test_limits_are_explicit(job: str) -> None:
    """R25: a job that waits for ever, or retries behind our back, would break what the control plane promises."""
    document = rendered(FOLDER / f"{job}.json")

    assert document["timeout_seconds"] > 0
    assert document["max_concurrent_runs"] >= 1
    assert document["queue"] == {"enabled": True}
    assert [(task["max_retries"], task["retry_on_timeout"]) for task in document["tasks"]] == [(0, False)]
    assert all(0 < task["timeout_seconds"] <= document["timeout_seconds"] for task in document["tasks"])


@pytest.mark.parametrize("job", JOBS)
def test_names_and_places_follow_the_release(job: str) -> None:
    """The control plane finds a job by its name; a run reads the release that it was decided with."""
    document = rendered(FOLDER / f"{job}.json")
    [task] = document["tasks"]

    assert document["name"] == f"tidegate-local-{job}"
    assert (
        task["notebook_task"]["notebook_path"] == f"/Workspace/Tidegate/local/releases/0.1.0+gabcdef1/notebooks/{job}"
    )
    assert {p["name"]: p["default"] for p in document["parameters"]}["release"] == "0.1.0+gabcdef1"
    assert document["tags"] == {
        "project": "tidegate",
        "environment": "local",
        "release": "0.1.0+gabcdef1",
        "kind": job,
    }


@pytest.mark.parametrize("job", JOBS)
def test_the_runtime_is_the_one_the_wheels_are_tested_on(job: str) -> None:
    """Databricks Runtime 18 LTS ML: the packages of locks/cluster.txt."""
    [cluster] = rendered(FOLDER / f"{job}.json")["job_clusters"]

    assert cluster["new_cluster"]["spark_version"] == "18.x-cpu-ml-scala2.13"
