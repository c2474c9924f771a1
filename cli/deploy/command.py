"""Deploys a release and tells what it changed."""

import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rich.console import Console

from cli.deploy.environment import SCOPE, Target, azure_target, local_target
from cli.deploy.release import ENVIRONMENT, REQUIREMENTS, Release, assemble, folder_of
from cli.deploy.templates import RenderedJob, render_jobs
from cli.deploy.upload import upload_release
from cli.deploy.version import release_version, with_digest
from cli.deploy.wheels import build_wheels, third_party_wheels
from cli.deploy.workspace import Workspace
from cli.failures import CommandError
from cli.wording import counted, make_console
from functions.core.drift import differences
from local.cloud import Cloud
from local.supervisor.folders import REPOSITORY

__all__ = ["Deployed", "deploy", "deploy_release"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What a deployment left in the workspace."""

    version: str
    jobs: dict[str, int]  # id by name
    changes: int


def deploy_release(
    *, environment: str, dry_run: bool, compute: str | None = None, settings: tuple[str, ...] = ()
) -> None:
    """Deploy to an environment from the command line."""
    values = dict(_pair(text) for text in settings)
    target = local_target(Cloud().running_settings()) if environment == "local" else azure_target(environment)
    deploy(target, console=make_console(), dry_run=dry_run, compute=compute, values=values)


def deploy(  # what a deployment may be told
    target: Target,
    *,
    console: Console,
    root: Path = REPOSITORY,
    dry_run: bool = False,
    compute: str | None = None,
    values: dict[str, str] | None = None,
) -> Deployed:
    """Bring a workspace to the state of these sources; return what is there then.

    The jobs come last: they never name a release that is not whole.
    """
    began = time.monotonic()
    workspace = Workspace(target)
    version = _version(workspace, target, root)
    console.print(f"Release {version} to {target.environment} at {workspace.host}", highlight=False)
    jobs = render_jobs(
        root / "job_templates", {**(values or {}), "environment": target.environment, "release": version}, compute
    )
    wheels = (*build_wheels(root, version), *third_party_wheels(root / ".tools" / "release-wheels"))
    release = assemble(root, target, version, wheels)
    changes = _ship(workspace, release, console, dry_run=dry_run)
    if target.secrets and not dry_run:
        changed = workspace.put_secrets(SCOPE, target.secrets)
        changes += len(changed)
        if changed:
            console.print(f"  secrets in scope {SCOPE}: {', '.join(changed)}")
    if not dry_run:  # MLflow creates an experiment only in a folder that is there
        workspace.make_folder(str(PurePosixPath(str(target.document["experiment"])).parent))
    ids = {}
    for job in jobs:
        ids[job.name], count = _bring_job(workspace, job, console, dry_run=dry_run)
        changes += count
    done = "would change" if dry_run else "changed"
    console.print(
        f"  {f'{counted(changes, "thing")} {done}' if changes else 'no changes'} ({time.monotonic() - began:.1f} s)",
        highlight=False,
    )
    return Deployed(version=version, jobs=ids, changes=changes)


def _version(workspace: Workspace, target: Target, root: Path) -> str:
    """Return the release's version; the same sources in changed surroundings (new ports, say) are another release."""
    version = release_version(root)
    folder = folder_of(target.environment, version)
    if REQUIREMENTS not in workspace.files_below(folder):
        return version
    wanted = target.environment_json(version)
    return version if workspace.read(f"{folder}/{ENVIRONMENT}") == wanted else with_digest(version, wanted)


def _ship(workspace: Workspace, release: Release, console: Console, *, dry_run: bool) -> int:
    """Upload the release; return how many files that took."""
    if dry_run:
        is_there = REQUIREMENTS in workspace.files_below(release.folder)
        written = [] if is_there else [file.path for file in release.files]
    else:
        written = upload_release(workspace, release)
    if written:
        notebooks = [path for path in written if path.startswith("notebooks/")]
        wheels = [path for path in written if path.endswith(".whl")]
        parts = [counted(len(wheels), "wheel"), counted(len(notebooks), "notebook")]
        parts.append(f"{counted(len(written), 'file')} in all")
        console.print(f"  {release.folder}: {', '.join(parts)}", highlight=False, soft_wrap=True)
    return len(written)


def _bring_job(workspace: Workspace, job: RenderedJob, console: Console, *, dry_run: bool) -> tuple[int, int]:
    """Create or reset a job; return its id and 1 if that was needed, else 0."""
    there = workspace.job(job.name)
    if there is None or there.job_id is None:
        job_id = 0 if dry_run else workspace.create_job(job)
        console.print(f"  job {job.name}: created{f', id {job_id}' if job_id else ''}", highlight=False)
        return job_id, 1
    actual = there.settings.as_dict() if there.settings is not None else {}
    lines = list(differences(dict(job.settings), actual))
    if not lines:
        return there.job_id, 0
    if not dry_run:
        workspace.reset_job(there.job_id, job)
    console.print(f"  job {job.name}: {counted(len(lines), 'difference')}", highlight=False)
    for line in lines:
        console.print(f"    {line}", highlight=False, markup=False, soft_wrap=True)
    return there.job_id, 1


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise CommandError(f"--set takes NAME=VALUE, got {text!r}")
    return name, value
