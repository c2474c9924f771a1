"""Tells whether the jobs of a workspace still fit their surroundings."""

from pathlib import Path

from cli.deploy.environment import Target
from cli.deploy.release import ENVIRONMENT, folder_of
from cli.deploy.workspace import Workspace
from local.supervisor.folders import REPOSITORY

__all__ = ["is_stale"]


def is_stale(target: Target, root: Path = REPOSITORY) -> bool:
    """Return whether a deployed job runs a release that was made for other surroundings, such as other ports."""
    workspace = Workspace(target)
    names = [f"tidegate-{target.environment}-{template.stem}" for template in (root / "job_templates").glob("*.json")]
    jobs = [job for name in names if (job := workspace.job(name)) is not None]
    releases = {str((job.settings.tags or {}).get("release", "")) for job in jobs if job.settings is not None}
    return any(
        workspace.read(f"{folder_of(target.environment, release)}/{ENVIRONMENT}") != target.environment_json(release)
        for release in releases
        if release
    )
