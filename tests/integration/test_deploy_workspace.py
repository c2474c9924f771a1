"""Tests the deployment against the local workspace, through the SDK, as against Azure."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import JobSettings
from rich.console import Console

from cli.deploy.command import Deployed, deploy
from cli.deploy.environment import SCOPE, Target
from cli.deploy.freshness import is_stale
from cli.failures import CommandError
from local.supervisor.folders import REPOSITORY
from tests.support.workspace import TOKEN, Workspace

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    started = Workspace(tmp_path_factory.mktemp("workspace")).start()
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def client(workspace: Workspace) -> WorkspaceClient:
    return workspace.client()


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """This repository's own sources, to be changed freely, with one small wheel for all third-party ones."""
    root = tmp_path / "sources"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("databricks_runtime", "notebooks", "job_templates"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=ignore)
    for name in ("pyproject.toml", "locks/cluster-release.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    (root / ".tools" / "release-wheels").mkdir(parents=True)
    (root / ".tools" / "release-wheels" / "other-1-py3-none-any.whl").write_bytes(b"a wheel")
    return root


def _target(workspace: Workspace, environment: str, topic: str = "http://127.0.0.1:1/topics/t/api/events") -> Target:
    return Target(
        environment=environment,
        document={
            "environment": environment,
            "eventgrid_topic_endpoint": topic,
            "experiment": f"/Shared/tidegate/{environment}",
        },
        secrets={"eventgrid-topic-key": "c2VjcmV0"},
        host=workspace.url,
        token=TOKEN,
    )


def _deploy(target: Target, sources: Path, *, dry_run: bool = False) -> tuple[Deployed, str]:
    said = io.StringIO()
    deployed = deploy(target, console=Console(file=said, width=200), root=sources, dry_run=dry_run)
    return deployed, said.getvalue()


def _files(client: WorkspaceClient, environment: str, version: str) -> set[str]:
    folder = f"/Tidegate/{environment}/releases/{version}"
    return {str(item.path).removeprefix(f"{folder}/") for item in client.workspace.list(folder, recursive=True)}


def test_a_deployment_leaves_release_jobs_and_secrets(
    workspace: Workspace, client: WorkspaceClient, sources: Path
) -> None:
    deployed, said = _deploy(_target(workspace, "first"), sources)

    version = deployed.version
    files = _files(client, "first", version)
    assert {"notebooks/scoring", "notebooks/training", "environment.json", "requirements.txt"} <= files
    assert {f"wheels/tidegate_{name}-{version}-py3-none-any.whl" for name in ("ml", "mlops")} <= files
    jobs = {job.settings.name: job.job_id for job in client.jobs.list() if job.settings}
    for name in ("tidegate-first-scoring", "tidegate-first-training"):
        assert jobs[name] == deployed.jobs[name]
    scoring = client.jobs.get(deployed.jobs["tidegate-first-scoring"]).settings
    assert scoring is not None
    assert scoring.tasks is not None
    assert scoring.tasks[0].notebook_task is not None
    wanted = f"/Workspace/Tidegate/first/releases/{version}/notebooks/scoring"
    assert scoring.tasks[0].notebook_task.notebook_path == wanted
    assert {secret.key for secret in client.secrets.list_secrets(SCOPE)} == {"eventgrid-topic-key"}
    assert "created" in said


def test_the_second_deployment_changes_nothing(workspace: Workspace, client: WorkspaceClient, sources: Path) -> None:
    first, _ = _deploy(_target(workspace, "second"), sources)
    before = _files(client, "second", first.version)

    again, said = _deploy(_target(workspace, "second"), sources)

    assert again.changes == 0
    assert "no changes" in said
    assert (again.version, again.jobs) == (first.version, first.jobs)
    assert _files(client, "second", again.version) == before


def test_a_job_changed_by_hand_is_brought_back_and_the_difference_told(
    workspace: Workspace, client: WorkspaceClient, sources: Path
) -> None:
    first, _ = _deploy(_target(workspace, "third"), sources)
    job_id = first.jobs["tidegate-third-scoring"]
    client.jobs.update(job_id, new_settings=JobSettings(max_concurrent_runs=1))

    again, said = _deploy(_target(workspace, "third"), sources)

    settings = client.jobs.get(job_id).settings
    assert again.changes == 1
    assert "max_concurrent_runs: 1 -> 4" in said
    assert settings is not None
    assert settings.max_concurrent_runs == 4


def test_changed_sources_are_another_release_beside_the_first(
    workspace: Workspace, client: WorkspaceClient, sources: Path
) -> None:
    first, _ = _deploy(_target(workspace, "fourth"), sources)
    with (sources / "notebooks" / "scoring.py").open("a") as notebook:
        notebook.write("# changed\n")

    second, _ = _deploy(_target(workspace, "fourth"), sources)

    assert second.version != first.version
    assert second.jobs == first.jobs
    assert "requirements.txt" in _files(client, "fourth", first.version)
    assert "requirements.txt" in _files(client, "fourth", second.version)


def test_the_same_sources_in_changed_surroundings_are_another_release(workspace: Workspace, sources: Path) -> None:
    """New ports of the local cloud, say: a release is immutable, with all that its jobs read from it."""
    first, _ = _deploy(_target(workspace, "fifth"), sources)

    second, _ = _deploy(_target(workspace, "fifth", topic="http://127.0.0.1:2/topics/t/api/events"), sources)
    third, _ = _deploy(_target(workspace, "fifth", topic="http://127.0.0.1:2/topics/t/api/events"), sources)

    assert second.version != first.version
    assert third.version == second.version
    assert third.changes == 0


def test_a_dry_run_changes_nothing(workspace: Workspace, client: WorkspaceClient, sources: Path) -> None:
    deployed, said = _deploy(_target(workspace, "sixth"), sources, dry_run=True)

    assert deployed.changes > 0
    assert "would change" in said
    assert not [job for job in client.jobs.list() if job.settings and "sixth" in str(job.settings.name)]


def test_two_jobs_of_one_name_are_an_error_and_nothing_is_guessed(
    workspace: Workspace, client: WorkspaceClient, sources: Path
) -> None:
    for _ in range(2):
        client.jobs.create(name="tidegate-seventh-scoring")

    with pytest.raises(CommandError, match="2 jobs are called 'tidegate-seventh-scoring'"):
        _deploy(_target(workspace, "seventh"), sources)


def test_every_wheel_is_there_as_its_hash_says(workspace: Workspace, client: WorkspaceClient, sources: Path) -> None:
    deployed, _ = _deploy(_target(workspace, "eighth"), sources)

    folder = f"/Tidegate/eighth/releases/{deployed.version}"
    with client.workspace.download(f"{folder}/requirements.txt") as file:
        requirements = file.read().decode().splitlines()
    with client.workspace.download(f"{folder}/environment.json") as file:
        environment = json.load(file)
    assert len(requirements) == 3
    assert all(line.startswith("../wheels/") and " --hash=sha256:" in line for line in requirements)
    assert environment["release"] == deployed.version


def test_jobs_deployed_to_other_ports_are_stale(workspace: Workspace, sources: Path) -> None:
    """Their release names endpoints at which nothing listens any more."""
    here, elsewhere = _target(workspace, "moved"), _target(workspace, "moved", topic="http://127.0.0.1:2/api/events")
    assert not is_stale(here, sources)

    _deploy(here, sources)
    assert not is_stale(here, sources)
    assert is_stale(elsewhere, sources)

    _deploy(elsewhere, sources)
    assert not is_stale(elsewhere, sources)
