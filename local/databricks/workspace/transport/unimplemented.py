"""Tells operations that Databricks has and the local workspace lacks from paths that nobody knows."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["KnownOperation", "known_operation"]

_OPERATIONS = Path(__file__).with_name("operations.txt")
"""One operation a line, `METHOD /path/{} service.operation`, as databricks-sdk 0.156 has them; a test compares."""

_FALLBACKS = re.compile(r"^/api/2\.0/fs/(endpoints|create-resumable-upload-url)$|^/api/\d\.\d/mlflow/")
"""Paths for which clients fall back on ENDPOINT_NOT_FOUND and on nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownOperation:
    """An operation of the Databricks API."""

    name: str


def known_operation(method: str, path: str) -> KnownOperation | None:
    """Return the operation that Databricks would carry out there, or None if clients expect a plain 404."""
    if _FALLBACKS.search(path):
        return None
    for known_method, pattern, name in _known():
        if known_method == method and pattern.fullmatch(path):
            return KnownOperation(name=name)
    return None


@cache
def _known() -> tuple[tuple[str, re.Pattern[str], str], ...]:
    """Return the list, most literal paths first; read on first use, as most processes never need it."""
    lines = (line.split(" ") for line in _OPERATIONS.read_text(encoding="utf-8").splitlines())
    ordered = sorted(lines, key=lambda line: line[1].count("{}"))
    return tuple((method, _pattern(path), name) for method, path, name in ordered)


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("[^/]+".join(re.escape(part) for part in path.split("{}")))
