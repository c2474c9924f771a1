"""Renders job templates and tells how a job in the workspace differs from its template."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from databricks.sdk.service.jobs import JobSettings

from cli.failures import CommandError

__all__ = ["RenderedJob", "differences", "render_jobs"]

_PLACEHOLDER = re.compile(r"\$\{([a-z_]+)\}")
_NAMED_BY = ("task_key", "job_cluster_key", "name", "key")  # what makes an element of a list findable
_MISSING = "(absent)"


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


def differences(wanted: Any, actual: Any, place: str = "") -> Iterator[str]:
    """Yield one line for each place where the job is not what its template says.

    Fields that only the workspace knows (its defaults) are not differences; additional elements of lists are.
    """
    if isinstance(wanted, Mapping) and isinstance(actual, Mapping):
        for key, value in wanted.items():
            if _is_nothing(value) and _is_nothing(actual.get(key)):
                continue
            yield from differences(value, actual.get(key), f"{place}.{key}" if place else key)
    elif isinstance(wanted, list) and isinstance(actual, list):
        yield from _list_differences(wanted, actual, place)
    elif wanted != actual:
        yield f"{place}: {_short(actual)} -> {_short(wanted)}"


def _list_differences(wanted: list[Any], actual: list[Any], place: str) -> Iterator[str]:
    wanted_by_name, actual_by_name = _by_name(wanted), _by_name(actual)
    for name, value in wanted_by_name.items():
        yield from differences(value, actual_by_name.get(name), f"{place}[{name}]")
    for name in actual_by_name.keys() - wanted_by_name.keys():
        yield f"{place}[{name}]: removed"


def _by_name(elements: list[Any]) -> dict[str, Any]:
    named = {}
    for index, element in enumerate(elements):
        name = next((element[key] for key in _NAMED_BY if isinstance(element, Mapping) and key in element), index)
        named[str(name)] = element
    return named


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
        unknown = sorted({name for name in _PLACEHOLDER.findall(value) if name not in values})
        if unknown:
            raise CommandError(
                f"{file_name}: no value for the placeholder {unknown[0]!r}; give it with --set {unknown[0]}=..."
            )
        return _PLACEHOLDER.sub(lambda match: values[match[1]], value)
    if isinstance(value, dict):
        return {key: _fill(element, values, file_name) for key, element in value.items()}
    if isinstance(value, list):
        return [_fill(element, values, file_name) for element in value]
    return value


def _refuse_unknown_fields(settings: dict[str, Any], file_name: str) -> None:
    lost = list(differences(settings, JobSettings.from_dict(settings).as_dict()))
    if lost:
        raise CommandError(f"{file_name} has fields that the Jobs API does not know: {lost[0].partition(':')[0]}")


def _is_nothing(value: Any) -> bool:
    """Tell whether a field says no more than its absence: the API leaves out what is empty or zero."""
    return value is None or value in ({}, [], "", 0, False)


def _short(value: Any) -> str:
    text = _MISSING if value is None else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004 - a line of a terminal
