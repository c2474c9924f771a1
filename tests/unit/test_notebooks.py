"""Holds the notebooks to their shape: orchestrators without logic, whose widgets are the job's parameters."""

import ast
import json
import re
from dataclasses import fields
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
INSTALL = "%pip install --quiet --no-deps --no-index --require-hashes -r ../requirements.txt"
KINDS = ("training", "scoring")
PLATFORM_WIDGETS = {"databricks_run_id"}  # filled in by the task, not by whoever starts the run
# What a cell may consist of: no function, loop, condition, `try`, comprehension or f-string.
ALLOWED = (
    *(ast.Module, ast.Expr, ast.Call, ast.Attribute, ast.Name, ast.Load, ast.Store, ast.Constant, ast.keyword),
    *(ast.Assign, ast.ImportFrom, ast.alias, ast.List),
)


def source(kind: str) -> str:
    return (ROOT / "notebooks" / f"{kind}.py").read_text(encoding="utf-8")


def cells(kind: str) -> list[str]:
    header, _, body = source(kind).partition("\n")
    assert header == "# Databricks notebook source"
    return [cell.strip() for cell in body.split("# COMMAND ----------")]


def python_of(cell: str) -> ast.Module:
    return ast.parse("\n".join(line for line in cell.splitlines() if not line.startswith("# MAGIC")))


def widgets(kind: str) -> dict[str, str]:
    """Return each widget's default by its name."""
    found = {}
    for node in ast.walk(python_of("\n".join(cells(kind)))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"text", "dropdown"}
        ):
            name, default = (argument.value for argument in node.args[:2] if isinstance(argument, ast.Constant))
            found[str(name)] = str(default)
    return found


def template(kind: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / "job_templates" / f"{kind}.json").read_text(encoding="utf-8"))
    return document


def schema(kind: str) -> dict[str, Any]:
    document = json.loads((ROOT / "docs/contracts/parameters.schema.json").read_text(encoding="utf-8"))
    [found] = [variant for variant in document["oneOf"] if variant["properties"]["kind"]["const"] == kind]
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def parameters_module() -> ModuleType:
    """The wheel's parameters module, without the cluster's libraries that its package imports."""
    folder = ROOT / "databricks_runtime/mlops/src/tidegate_mlops"
    package = ModuleType("tidegate_mlops")
    package.__path__ = [str(folder)]
    import sys

    before = {name: module for name, module in sys.modules.items() if name.startswith("tidegate_mlops")}
    sys.modules["tidegate_mlops"] = package
    try:
        spec = spec_from_file_location("tidegate_mlops.parameters", folder / "parameters.py")
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        for name in [name for name in sys.modules if name.startswith("tidegate_mlops")]:
            del sys.modules[name]
        sys.modules.update(before)
    return module


def dataclass_fields(module: ModuleType, kind: str) -> list[str]:
    return [field.name for field in fields(getattr(module, f"{kind.capitalize()}Parameters"))]


@pytest.mark.parametrize("kind", KINDS)
def test_widgets_templates_dataclass_and_schema_agree(kind: str, parameters_module: ModuleType) -> None:
    """A parameter that one of the four does not know would be lost or refused on the way."""
    of_template = [parameter["name"] for parameter in template(kind)["parameters"]]
    of_widgets = [name for name in widgets(kind) if name not in PLATFORM_WIDGETS]

    assert len(of_template) > 10
    assert of_widgets == of_template
    assert set(of_template) == set(dataclass_fields(parameters_module, kind))
    assert set(of_template) == set(schema(kind)["properties"]) == set(schema(kind)["required"])


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_platform_fills_in_is_a_task_parameter(kind: str) -> None:
    """It is no job parameter, so the control plane cannot set it and need not know it."""
    [task] = template(kind)["tasks"]

    assert set(widgets(kind)) - {parameter["name"] for parameter in template(kind)["parameters"]} == PLATFORM_WIDGETS
    assert task["notebook_task"]["base_parameters"] == {"databricks_run_id": "{{job.run_id}}"}


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_the_same_in_notebook_and_template(kind: str) -> None:
    """A run by hand in the notebook does what a run of the job does; only the release's own values are filled in."""
    filled_in = {"environment", "release"}
    of_template = {parameter["name"]: parameter["default"] for parameter in template(kind)["parameters"]}

    assert {name: value for name, value in widgets(kind).items() if name not in filled_in | PLATFORM_WIDGETS} == {
        name: value for name, value in of_template.items() if name not in filled_in
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_wheel_accepts_exactly_what_the_schema_accepts(kind: str, parameters_module: ModuleType) -> None:
    """The two say it in different languages, so they are compared on examples of every field."""
    samples: tuple[str, ...] = (
        "",
        "true",
        "false",
        "True",
        "0",
        "1",
        "0.5",
        ".05",
        "1.0",
        "1.5",
        "-1",
        "13",
        "99999",
        "10000000000",
    )
    samples += ("a" * 64, "0123456789abcdef", "main.tidegate.flight_delay", "main.tidegate", "training", "scoring")
    samples += ("0.1.0+gabcdef1", "0.1.0+gabcdef1.d01234567", "0.1.0", "local", "Local", "flight_delay", "x\n", "1\n")
    samples += ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "flight-20130701T030000Z-0123456789ab")
    samples += ("https://acc.blob.core.windows.net/c/p", "https://acc.blob.core.windows.net/c/p?sig=1", "http://x/y")
    patterns = {**parameters_module.FIELD_PATTERNS, **parameters_module._PATTERNS_BY_KIND[kind]}

    differences = [
        (name, sample)
        for name, rule in schema(kind)["properties"].items()
        for sample in samples
        if bool(re.fullmatch(patterns[name], sample)) != _schema_accepts(rule, sample)
    ]

    assert differences == []


def _schema_accepts(rule: dict[str, Any], value: str) -> bool:
    if "const" in rule:
        return bool(value == rule["const"])
    if "enum" in rule:
        return value in rule["enum"]
    # JSON Schema's `$` is the end of the text; Python's also matches before a last line break.
    return re.search(rule["pattern"].replace("$", r"\Z"), value) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_cells_have_no_logic(kind: str) -> None:
    """Logic is in the wheels, where it is tested."""
    nodes = [node for cell in cells(kind) for node in ast.walk(python_of(cell))]

    assert len(nodes) > 50
    assert [type(node).__name__ for node in nodes if not isinstance(node, ALLOWED)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_one_titled_cell_per_stage_in_order(kind: str) -> None:
    """Header, parameters, install, start, stages, finish; every cell after the header says what it is."""
    stages = [name for name, rule in schema(kind)["properties"].items() if rule.get("enum") == ["true", "false"]]
    header, parameters, install, begin, *middle, finish = cells(kind)

    assert header.startswith("# MAGIC %md\n# MAGIC # ")
    assert all(cell.startswith("# DBTITLE 1,") for cell in (parameters, install, begin, *middle, finish))
    assert [cell.splitlines()[1] for cell in middle] == [f'run.stage("{stage}")' for stage in stages]
    assert f'run = start("{kind}", FLIGHT_DELAY, dbutils=dbutils, spark=spark)' in begin
    assert finish.splitlines()[1:] == ["dbutils.notebook.exit(run.finish())"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_only_magic_is_the_install_of_the_release(kind: str) -> None:
    """The line is literal, so no caller's text can reach %pip; no shell, SQL or other notebook is run."""
    magics = [line.removeprefix("# MAGIC ") for line in source(kind).splitlines() if line.startswith("# MAGIC ")]

    assert [line for line in magics if line.startswith(("%", "!")) and line != "%md"] == [INSTALL]


@pytest.mark.parametrize("kind", KINDS)
def test_notebooks_hold_no_secret_and_no_address(kind: str) -> None:
    """What differs between environments is in environment.json, and secrets are in the workspace's scopes."""
    words = ("http", "dapi", "AccountKey", "secret", "password", "abfss", "/dbfs", "token=")

    assert [word for word in words if word in source(kind)] == []
