"""Tests how job templates are rendered and compared with what a workspace has."""

import json
from pathlib import Path

import pytest

from cli.deploy.templates import render_jobs
from cli.failures import CommandError
from functions.core.drift import differences
from local.supervisor.folders import REPOSITORY

_VALUES = {"environment": "dev", "release": "1.2.3+gabcdef0"}


def test_the_repositorys_templates_render_without_a_placeholder_left() -> None:
    jobs = render_jobs(REPOSITORY / "job_templates", _VALUES)

    assert [job.name for job in jobs] == ["tidegate-dev-scoring", "tidegate-dev-training"]
    assert all("${" not in json.dumps(job.settings) for job in jobs)


@pytest.mark.parametrize(
    "compute", sorted(path.stem for path in (REPOSITORY / "job_templates/clusters").glob("*.json"))
)
def test_every_choice_of_compute_renders(compute: str) -> None:
    values = {**_VALUES, "existing_cluster_id": "0123-456789-abcdefgh", "instance_pool_id": "pool-1"}

    jobs = render_jobs(REPOSITORY / "job_templates", values, compute)

    for job in jobs:
        keys = {cluster["job_cluster_key"] for cluster in job.settings.get("job_clusters", [])}
        for task in job.settings["tasks"]:
            assert task.get("job_cluster_key") in keys or "existing_cluster_id" in task


def test_a_placeholder_without_a_value_is_refused() -> None:
    with pytest.raises(CommandError, match="--set existing_cluster_id="):
        render_jobs(REPOSITORY / "job_templates", _VALUES, "existing_cluster")


def test_an_unknown_choice_of_compute_names_the_known_ones() -> None:
    with pytest.raises(CommandError, match=r"no choice of compute 'gpu'; there are: .*existing_cluster"):
        render_jobs(REPOSITORY / "job_templates", _VALUES, "gpu")


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ({"name": "a", "max_concurent_runs": 1}, "fields that the Jobs API does not know: max_concurent_runs"),
        ({"name": "a-${nonsense}"}, "no value for the placeholder 'nonsense'"),
    ],
)
def test_a_mistake_in_a_template_is_told_before_anything_is_sent(
    tmp_path: Path, template: dict[str, object], told: str
) -> None:
    (tmp_path / "broken.json").write_text(json.dumps(template))

    with pytest.raises(CommandError, match=told):
        render_jobs(tmp_path, _VALUES)


def test_a_template_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")

    with pytest.raises(CommandError, match=r"broken\.json is not JSON"):
        render_jobs(tmp_path, _VALUES)


def test_what_the_workspace_adds_is_no_difference() -> None:
    wanted = {"name": "a", "tasks": [{"task_key": "t", "max_retries": 0}], "job_clusters": []}
    actual = {"name": "a", "tasks": [{"task_key": "t", "run_if": "ALL_SUCCESS"}], "format": "MULTI_TASK"}

    assert list(differences(wanted, actual)) == []


def test_differences_name_their_place_and_both_values() -> None:
    wanted = {"max_concurrent_runs": 4, "parameters": [{"name": "a", "default": "2"}, {"name": "b", "default": ""}]}
    actual = {"max_concurrent_runs": 1, "parameters": [{"name": "a", "default": "1"}, {"name": "c", "default": ""}]}

    assert sorted(differences(wanted, actual)) == [
        "max_concurrent_runs: 1 -> 4",
        'parameters[a].default: "1" -> "2"',
        'parameters[b]: (absent) -> {"name": "b", "default": ""}',
        "parameters[c]: removed",
    ]
