"""Reads pipelines.toml as the control plane does, and tells what is wrong with it."""

from pathlib import Path

import typer

from cli.failures import CommandError
from functions.core.errors import InvalidConfigurationError
from functions.core.model import JobKey
from functions.core.pipelines import Pipelines
from functions.core.pipelines_toml import parse_pipelines
from local.supervisor.folders import REPOSITORY

__all__ = ["check_configuration", "read_pipelines"]


def read_pipelines(path: Path | None = None) -> Pipelines:
    """Return the configuration, the repository's own if no path is given.

    Raises:
        CommandError: It cannot be read, or it has mistakes; all of them are told.
    """
    path = path or REPOSITORY / "pipelines.toml"
    known_jobs = {JobKey(template.stem) for template in (REPOSITORY / "job_templates").glob("*.json")}
    try:
        return parse_pipelines(path.read_bytes(), file=path.name, known_jobs=known_jobs)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    except InvalidConfigurationError as error:
        raise CommandError(str(error)) from error


def check_configuration(path: Path | None) -> None:
    """Print what the configuration starts, or fail with every mistake."""
    pipelines = read_pipelines(path)
    for pipeline in pipelines.pipelines:
        causes = [f"route {route.name}" for route in pipeline.routes]
        causes += [
            f"schedule {schedule.name} ({schedule.cron.expression}, {schedule.timezone})"
            for schedule in pipeline.schedules
        ]
        typer.echo(
            f"{pipeline.key}: {pipeline.kind.value}, job {pipeline.job}, {', '.join(causes) or 'on request only'}"
        )
    typer.echo("The configuration is valid.")
