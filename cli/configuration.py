"""Reads pipelines.toml as the control plane does, and tells what is wrong with it."""

import os
from pathlib import Path
from typing import Final

import typer

from cli.failures import CommandError
from functions.core.errors import InvalidConfigurationError
from functions.core.model import JobKey
from functions.core.pipelines import Pipelines
from functions.core.pipelines_toml import parse_pipelines
from local.supervisor.folders import REPOSITORY

__all__ = ["check_configuration", "chosen_file", "read_pipelines"]

_SETTING: Final = "TIDEGATE_PIPELINES_FILE"
_OWN: Final = REPOSITORY / "pipelines.toml"


def chosen_file(named: Path | None) -> Path:
    """Return the file that the command line names, else what the setting does, which the app reads from its folder."""
    return named or REPOSITORY / (os.environ.get(_SETTING) or _OWN)


def read_pipelines(path: Path = _OWN) -> Pipelines:
    """Return a configuration; the repository's own is what the local cloud works with, whatever the setting says here.

    Raises:
        CommandError: It cannot be read, or it has mistakes; all of them are told.
    """
    known_jobs = {JobKey(template.stem) for template in (REPOSITORY / "job_templates").glob("*.json")}
    try:
        return parse_pipelines(path.read_bytes(), file=path.name, known_jobs=known_jobs)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    except InvalidConfigurationError as error:
        raise CommandError(f"in {path}: {error}") from error


def check_configuration(path: Path | None) -> None:
    """Print what the configuration starts and which file it is, or fail with every mistake."""
    chosen = chosen_file(path)
    pipelines = read_pipelines(chosen)
    for pipeline in pipelines.pipelines:
        causes = [f"route {route.name}" for route in pipeline.routes]
        causes += [
            f"schedule {schedule.name} ({schedule.cron.expression}, {schedule.timezone})"
            for schedule in pipeline.schedules
        ]
        typer.echo(
            f"{pipeline.key}: {pipeline.kind.value}, job {pipeline.job}, {', '.join(causes) or 'on request only'}"
        )
    typer.echo(f"The configuration is valid: {chosen}")
