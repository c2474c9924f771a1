"""Holds the two wheels to their borders: who imports whom, and that a build is versioned, typed and reproducible."""

import ast
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHEELS = {"ml": "tidegate_ml", "mlops": "tidegate_mlops"}
FORBIDDEN = {
    "ml": {"tidegate_mlops", "functions", "cli", "local", "mlflow", "pyspark", "azure", "opentelemetry"},
    "mlops": {"tidegate_ml", "functions", "cli", "local", "lightgbm", "sklearn", "matplotlib"},
}


def imported(folder: Path) -> set[str]:
    """Return the top-level packages that any module of the folder imports, wherever in it."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names


def build(project: str, target: Path, version: str) -> Path:
    environ = {**os.environ, "TIDEGATE_VERSION": version, "SOURCE_DATE_EPOCH": "1577836800"}
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
    folder = ROOT / "databricks_runtime" / project
    subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=True)
    [wheel] = target.glob("*.whl")
    return wheel


@pytest.mark.parametrize("project", sorted(WHEELS))
def test_imports_keep_to_the_borders(project: str) -> None:
    """The model knows no platform, the platform knows no model, and neither knows the control plane."""
    names = imported(ROOT / "databricks_runtime" / project / "src" / WHEELS[project])

    assert "pandas" in names
    assert names & FORBIDDEN[project] == set()


@pytest.mark.parametrize("project", sorted(WHEELS))
def test_wheels_carry_the_release_s_version_and_their_types(project: str, tmp_path: Path) -> None:
    """The version comes from one place, and the same sources give the same bytes."""
    version = "1.2.3+gabcdef1.d01234567"

    first, second = (build(project, tmp_path / name, version) for name in ("first", "second"))

    assert first.name == f"{WHEELS[project]}-1.2.3+gabcdef1.d01234567-py3-none-any.whl"
    assert hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(second.read_bytes()).digest()
    with zipfile.ZipFile(first) as wheel:
        names = wheel.namelist()
        [metadata] = [wheel.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
    assert f"{WHEELS[project]}/py.typed" in names
    assert "Requires-Python: <3.14,>=3.12" in metadata
    needs = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    assert len(needs) >= 5
    assert all("<" in line and ">=" in line for line in needs)
