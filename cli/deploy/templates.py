"""Renders job templates."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from databricks.sdk.service.jobs import JobSettings

from cli.failures import CommandError
from functions.core.drift import PLACEHOLDER, differences

__all__ = ["RenderedJob", "render_jobs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedJob:
    """A template with its placeholders filled, in Jobs API field names."""

    name: str
    settings: Mapping[str, Any]

    def typed(self) -> JobSettings:
        """Return the settings as the SDK's type."""
        return JobSettings.from_dict(dict(self.settings))


def render_jobs(folder: Path, values: Mapping[str, str], compute: str | None = None) -> tuple[RenderedJob, ...]:
    """Return every template of the folder, rendered.

    Args:
        folder: `job_templates/`.
        values: What the placeholders stand for.
        compute: Name of a choice in `clusters/` to take instead of the template's own.

    Raises:
        CommandError: A template has an unknown placeholder or field, or there is no such choice of compute.
    """
    jobs = []
    for path in sorted(folder.glob("*.json")):
        template = _read(path)
        if compute is not None:
            template = _with_compute(template, _read_choice(folder / "clusters", compute))
        settings = _fill(template, values, path.name)
        _refuse_unknown_fields(settings, path.name)
        jobs.append(RenderedJob(name=settings["name"], settings=settings))
    if not jobs:
        raise CommandError(f"there is no job template in {folder.name}/")
    return tuple(jobs)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise CommandError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise CommandError(f"{path.name} must hold one object")
    return document


def _read_choice(folder: Path, compute: str) -> dict[str, Any]:
    path = folder / f"{compute}.json"
    if not path.is_file():
        known = ", ".join(sorted(choice.stem for choice in folder.glob("*.json")))
        raise CommandError(f"no choice of compute {compute!r}; there are: {known}")
    return _read(path)


def _with_compute(template: dict[str, Any], choice: dict[str, Any]) -> dict[str, Any]:
    tasks = [
        {**{key: value for key, value in task.items() if key != "job_cluster_key"}, **choice["task"]}
        for task in template["tasks"]
    ]
    return {**template, "job_clusters": choice["job_clusters"], "tasks": tasks}


def _fill(value: Any, values: Mapping[str, str], file_name: str) -> Any:
    if isinstance(value, str):
        unknown = sorted({name for name in PLACEHOLDER.findall(value) if name not in values})
        if unknown:
            raise CommandError(
                f"{file_name}: no value for the placeholder {unknown[0]!r}; give it with --set {unknown[0]}=..."
            )
        return PLACEHOLDER.sub(lambda match: values[match[1]], value)
    if isinstance(value, dict):
        return {key: _fill(element, values, file_name) for key, element in value.items()}
    if isinstance(value, list):
        return [_fill(element, values, file_name) for element in value]
    return value


def _refuse_unknown_fields(settings: dict[str, Any], file_name: str) -> None:
    lost = list(differences(settings, JobSettings.from_dict(settings).as_dict()))
    if lost:
        raise CommandError(f"{file_name} has fields that the Jobs API does not know: {lost[0].partition(':')[0]}")
