"""Holds the packages to the direction of their imports, and the Functions app to doing nothing at import."""

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Packages that requirements.txt brings along, by the name that is imported.
IMPORTABLE = {
    "azure-data-tables": "azure.data.tables",
    "azure-eventgrid": "azure.eventgrid",
    "azure-functions": "azure.functions",
    "azure-identity": "azure.identity",
    "azure-monitor-opentelemetry": "azure.monitor.opentelemetry",
    "azure-storage-blob": "azure.storage.blob",
    "azure-storage-queue": "azure.storage.queue",
    "databricks-sdk": "databricks.sdk",
}
# What those depend on and hand to their callers.
ALSO_IMPORTABLE = {"azure.core", "opentelemetry", "requests", "urllib3"}
INWARDS = {
    "functions.core": (),
    "functions.ports": ("functions.core",),
    "functions.settings": ("functions.core",),
    "functions.services": ("functions.core", "functions.ports"),
    "functions.adapters": ("functions.core", "functions.ports", "functions.settings"),
}
HEAVY = ("databricks.sdk", "azure.monitor", "azure.identity", "azure.eventgrid", "azure.data.tables")


def modules_of(package: str) -> list[Path]:
    place = ROOT / package.replace(".", "/")
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def imports_of(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""


def is_within(module: str, packages: tuple[str, ...] | set[str]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def is_standard(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] in sys.stdlib_module_names


def function_app_modules() -> list[Path]:
    app = ROOT / "function_app.py"
    return [*modules_of("functions"), *([app] if app.exists() else [])]


def test_core_imports_the_standard_library_only() -> None:
    modules = modules_of("functions.core")
    assert len(modules) > 20

    foreign = {
        f"{path.name}: {module}"
        for path in modules
        for module in imports_of(path)
        if not is_standard(module) and not is_within(module, ("functions.core",))
    }

    assert foreign == set()


def test_core_has_no_clock_no_dice_and_no_environment() -> None:
    """Time, ids and settings are arguments; `os`, `random`, `time` and `uuid` have no business there."""
    banned = {"os", "random", "secrets", "time", "uuid", "socket", "subprocess", "threading", "logging", "pathlib"}
    used = {
        f"{path.name}: {module}"
        for path in modules_of("functions.core")
        for module in imports_of(path)
        if module.split(".")[0] in banned
    }
    calls = {
        f"{path.name}: {node.func.attr}"
        for path in modules_of("functions.core")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr in {"now", "utcnow", "today"}
    }

    assert used == set()
    assert calls == set()


@pytest.mark.parametrize("package", INWARDS)
def test_imports_point_inwards(package: str) -> None:
    """Triggers → wiring → adapters, services → ports → core."""
    assert all(path.exists() for path in modules_of(package))
    allowed = (package, *INWARDS[package])

    outward = {
        f"{path.name}: {module}"
        for path in modules_of(package)
        for module in imports_of(path)
        if is_within(module, ("functions",)) and not is_within(module, allowed)
    }

    assert outward == set()


def test_control_plane_imports_nothing_of_the_cluster_the_command_line_or_the_local_cloud() -> None:
    """The contract between the two sides is documents, never code."""
    outsiders = ("databricks_runtime", "tidegate_ml", "tidegate_mlops", "cli", "local", "tests", "bench")

    assert [
        f"{path}: {module}"
        for path in function_app_modules()
        for module in imports_of(path)
        if is_within(module, outsiders)
    ] == []


def test_control_plane_imports_only_what_azure_installs() -> None:
    """requirements.txt is compiled from these dependencies; anything else is missing on Azure."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {item.split("[")[0].split(">")[0].split("=")[0].strip() for item in project["dependencies"]}
    installed = {line.split("==")[0] for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line}
    assert declared <= installed
    importable = {IMPORTABLE[name] for name in declared if name in IMPORTABLE} | ALSO_IMPORTABLE

    foreign = {
        f"{path.name}: {module}"
        for path in function_app_modules()
        for module in imports_of(path)
        if not is_standard(module) and not is_within(module, ("functions",))
        and not is_within(module, importable)
        and not any(package.startswith(module + ".") for package in importable)
    }  # fmt: skip

    assert foreign == set()


def test_environment_is_read_in_one_place() -> None:
    """Settings are parsed once, in the wiring; nothing else looks at the environment."""
    readers = {
        path.relative_to(ROOT).as_posix()
        for path in function_app_modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    }

    # The telemetry adapter writes one variable, because the exporter it sets up cannot be told otherwise.
    assert readers <= {"functions/wiring.py", "functions/adapters/telemetry.py"}


def test_nothing_polls_for_blobs_and_no_timer_fires_because_the_app_started() -> None:
    """R01, R05: files come by push; a polling trigger is late and may miss some, and a start is no slot."""
    calls = [
        node
        for path in (ROOT / "functions/triggers").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    triggers = {node.func.attr for node in calls if isinstance(node.func, ast.Attribute)}
    named = {keyword.arg for node in calls for keyword in node.keywords}

    assert {name for name in triggers if name.endswith("trigger")} == {"queue_trigger", "timer_trigger"}
    assert "use_monitor" in named
    assert "run_on_startup" not in named


IMPORT_PROBE = """
import json, os, socket, sys, threading

def refuse(*args, **kwargs):
    raise AssertionError("something connects at import")

socket.socket.connect = refuse
import azure.functions  # its own start-up is not ours
before, threads = set(sys.modules), threading.active_count()
for name in ("TIDEGATE_ENVIRONMENT", "TIDEGATE_STORAGE", "DATABRICKS_HOST", "EVENTGRID_TOPIC_ENDPOINT"):
    os.environ.pop(name, None)
os.environ["TIDEGATE_ENVIRONMENT"] = "Not An Environment"
import function_app
print(json.dumps({"modules": sorted(set(sys.modules) - before), "threads": threading.active_count() - threads}))
"""


def test_nothing_happens_when_the_app_is_imported() -> None:
    """R68: no client, no connection, no thread, no heavy SDK, and wrong settings leave no app of zero functions."""
    probe = subprocess.run(
        [sys.executable, "-c", IMPORT_PROBE], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert probe.returncode == 0, probe.stderr
    seen = json.loads(probe.stdout)
    assert "function_app" in seen["modules"]
    assert [module for module in seen["modules"] if is_within(module, HEAVY)] == []
    assert seen["threads"] == 0


@pytest.mark.parametrize("path", function_app_modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module_says_in_its_first_sentence_what_it_does(path: Path) -> None:
    """A newcomer who opens any file can say what it guarantees within a minute."""
    tree = ast.parse(path.read_text())
    if not tree.body:
        return

    docstring = ast.get_docstring(tree)

    assert docstring is not None
    assert docstring.split("\n\n")[0].strip().endswith(".")
