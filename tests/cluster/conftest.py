# ruff: noqa: E402 - what is set above the imports must be there before MLflow and LightGBM are
"""Gives tests one Spark session, worlds to run in, and one world that already has a champion."""

import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # before MLflow is imported: tests have no network
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # before LightGBM is imported: idle threads leave the cores to others

# The packages that the runtime lacks and a release carries: what a notebook's %pip would install.
_RELEASE = tempfile.TemporaryDirectory(prefix="tidegate-release-")
for _wheel in sorted((Path(__file__).parents[2] / ".tools/release-wheels").glob("*.whl")):
    zipfile.ZipFile(_wheel).extractall(_RELEASE.name)
sys.path.append(_RELEASE.name)

from flights import make_flights
from worlds import Notebook, Widgets, World

from tidegate_ml import FLIGHT_DELAY, FlightDelay
from tidegate_mlops import Run, start

Begin = Callable[..., Run]  # type: ignore[type-arg]
STAGES = {
    "training": ("feature_engineering", "training", "evaluation", "publish"),
    "scoring": ("validation", "feature_engineering", "batch_scoring", "publish"),
}


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """One small local session for all tests."""
    sources = [str(Path(__file__).parents[2] / "databricks_runtime" / name / "src") for name in ("ml", "mlops")]
    os.environ["PYTHONPATH"] = os.pathsep.join([*sources, str(Path(__file__).parent)])  # for Spark's Python workers
    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master("local[2]")
        .appName("tidegate tests")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.fixture(scope="session")
def begin(spark: SparkSession) -> Begin:
    """Start a run from parameter strings, as a notebook's first cells do."""

    def start_in(world: World, values: dict[str, str], code: FlightDelay = FLIGHT_DELAY) -> Run:  # type: ignore[type-arg]
        return start(
            "training" if values["kind"] == "training" else "scoring",
            code,
            dbutils=Notebook(Widgets(values | {"databricks_run_id": "77"})),
            spark=spark,
            environment_file=str(world.environment_file),
            connect_to=world.services,
        )

    return start_in


@pytest.fixture(scope="session")
def run_all(begin: Begin) -> Callable[[World, dict[str, str]], dict[str, Any]]:
    """Run every stage of a job, as a notebook's cells do, and return its result."""

    def run(world: World, values: dict[str, str]) -> dict[str, Any]:
        started = begin(world, values)
        for stage in STAGES[values["kind"]]:
            started.stage(stage)
        result: dict[str, Any] = json.loads(started.finish())
        return result

    return run


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty environment with an MLflow of its own."""
    return World(tmp_path, "/Shared/tidegate/local").open_case()


@pytest.fixture
def scoring(world: World) -> dict[str, str]:
    """The strings of a scoring run over one file."""
    return world.parameters("scoring", [world.upload("june.parquet", b"PAR1")])


@pytest.fixture
def training(world: World) -> dict[str, str]:
    """The strings of a training run over one file."""
    return world.parameters("training", [world.upload("history.parquet", b"PAR1")])


@pytest.fixture(scope="session")
def _first_training(tmp_path_factory: pytest.TempPathFactory, run_all: Any) -> tuple[World, dict[str, Any], Any]:
    shared = World(tmp_path_factory.mktemp("world"), "/Shared/tidegate/local").open_case()
    url = shared.upload("history.parquet", make_flights(4000, months=(1, 2)))
    result = run_all(shared, shared.parameters("training", [url]))
    return shared, result, list(shared.announcements.events)


@pytest.fixture
def trained(_first_training: tuple[World, dict[str, Any], Any]) -> World:
    """A world whose champion is version 1; shared between tests, so they train nothing in it."""
    return _first_training[0].open_case()


@pytest.fixture
def training_result(trained: World, _first_training: tuple[World, dict[str, Any], Any]) -> dict[str, Any]:
    """What the run said that trained version 1."""
    return _first_training[1]


@pytest.fixture
def training_events(_first_training: tuple[World, dict[str, Any], Any]) -> list[dict[str, Any]]:
    """What the run announced that trained version 1."""
    events: list[dict[str, Any]] = _first_training[2]
    return events
