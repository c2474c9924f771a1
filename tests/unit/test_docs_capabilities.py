"""Holds docs/capabilities.md to the tests that it names, and the tests to the numbers that they open with."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| (R\d\d) \| (\S.*\S) \| (.+) \|$", re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")
_OPENING = re.compile(r"(?:[RI]\d+(?:, |(?=[:. ])))+")

_ROWS = [(row[1], row[3]) for row in _ROW.finditer((ROOT / "docs/capabilities.md").read_text())]


def numbers_of(docstring: str) -> set[str]:
    """Return the capabilities that a test's docstring opens with.

    >>> sorted(numbers_of("R14, I2, R26: whatever R99 says."))
    ['R14', 'R26']
    """
    opening = _OPENING.match(docstring)
    return set() if opening is None else set(re.findall(r"R\d\d", opening[0]))


@cache
def _numbers_in(path: Path) -> dict[str, set[str]]:
    """Return the numbers of each test in a file, by its name."""
    found: dict[str, set[str]] = {}
    for node in ast.parse(path.read_text()).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        for function in inner:
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                name = f"{node.name}::{function.name}" if isinstance(node, ast.ClassDef) else function.name
                found[name] = numbers_of(ast.get_docstring(function) or "")
    return found


@pytest.mark.parametrize(("number", "tests"), _ROWS, ids=[number for number, _ in _ROWS])
def test_what_proves_a_capability_exists_and_opens_with_its_number(number: str, tests: str) -> None:
    named = _TEST.findall(tests)

    assert named
    assert [f"{path}::{name}" for path, name in named if number not in _numbers_in(ROOT / path).get(name, set())] == []


def test_every_number_that_a_test_opens_with_is_explained_once_and_in_order() -> None:
    """Whoever reads a test need not know any other list."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path.name != Path(__file__).name]
    used = {number for path in files for numbers in _numbers_in(path).values() for number in numbers}
    explained = [number for number, _ in _ROWS]

    assert len(used) > 30
    assert explained == sorted(set(explained))
    assert used == set(explained)
