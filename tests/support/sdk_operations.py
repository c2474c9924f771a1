"""Reads out of databricks-sdk which workspace operations there are."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import databricks.sdk.service

__all__ = ["sdk_operations"]

_VAGUE = re.compile(r"/api/[^/]+/\{")
"""Paths that are one placeholder would match everything."""


def sdk_operations() -> list[str]:
    """Return `METHOD /path/{} service.operation` for every operation of the SDK's workspace clients, sorted."""
    folder = Path(next(iter(databricks.sdk.service.__path__)))
    found = {line for file in sorted(folder.glob("*.py")) for line in _operations(file)}
    return sorted(found, key=lambda line: line.split(" ")[1:])


def _operations(file: Path) -> Iterator[str]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("API"):
            for function in node.body:
                if isinstance(function, ast.FunctionDef):
                    yield from _calls(function, f"{file.stem}.{function.name}")


def _calls(function: ast.FunctionDef, operation: str) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "do":
            method, path = (*map(_text, node.args[:2]), "", "")[:2]
            if method and path.startswith("/api/") and "/accounts/" not in path and not _VAGUE.match(path):
                yield f"{method} {path} {operation}"


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) if isinstance(part, ast.Constant) else "{}" for part in parts)
        case _:
            return ""
