"""Tells how a job in the workspace differs from its template."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["PLACEHOLDER", "differences", "drift_of"]

PLACEHOLDER: Final = re.compile(r"\$\{([a-z_]+)\}")
_NAMED_BY: Final = ("task_key", "job_cluster_key", "name", "key")  # what makes an element of a list findable
_OURS: Final = frozenset({"environment", "release"})  # parts of a path; `--set` gives the others, and any text
_MISSING: Final = "(absent)"
# What a workspace may choose for itself: it changes when runs start and what they cost, not what they do.
_FREE: Final = frozenset({"description", "job_clusters", "max_concurrent_runs"})
_FREE_IN_TASKS: Final = frozenset({"job_cluster_key"})


def drift_of(template: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """Return one line for each place where a job does something else than its template says.

    Args:
        template: The template as it is in `job_templates/`; a placeholder stands for anything.
        actual: The job's settings, in Jobs API field names.
    """
    wanted = {key: value for key, value in template.items() if key not in _FREE}
    wanted["tasks"] = [
        {key: value for key, value in task.items() if key not in _FREE_IN_TASKS} for task in template["tasks"]
    ]
    return [*differences(wanted, actual)]


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
    elif wanted != actual and not _is_filled(wanted, actual):
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


def _is_filled(wanted: Any, actual: Any) -> bool:
    """Tell whether this is the template's text with something for its placeholders."""
    if not isinstance(wanted, str) or not isinstance(actual, str) or PLACEHOLDER.search(wanted) is None:
        return False
    parts = PLACEHOLDER.split(wanted)  # text, name, text, name, text
    values = ("[^/]+" if name in _OURS else ".*" for name in parts[1::2])
    texts = (re.escape(text) for text in parts[::2])
    pattern = "".join(text + value for text, value in zip(texts, (*values, ""), strict=True))
    return re.fullmatch(pattern, actual, re.DOTALL) is not None


def _is_nothing(value: Any) -> bool:
    """Tell whether a field says no more than its absence: the API leaves out what is empty or zero."""
    return value is None or value in ({}, [], "", 0, False)


def _short(value: Any) -> str:
    text = _MISSING if value is None else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004 - a line of a terminal
