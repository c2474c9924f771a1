"""Tests that the app is built lazily from its configuration, and says everything that is wrong with it."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from functions.wiring import load_configuration, reconcile_schedule

_REPOSITORY = Path(__file__).parents[2]
SETTINGS = {
    "TIDEGATE_ENVIRONMENT": "local",
    "TIDEGATE_STORAGE__accountName": "tidegatelocal",
    "DATABRICKS_HOST": "https://adb-1.1.azuredatabricks.net",
    "EVENTGRID_TOPIC_ENDPOINT": "https://topic.westeurope-1.eventgrid.azure.net/api/events",
}
INDEX = """
import json
import function_app
names = sorted(function.get_function_name() for function in function_app.app.get_functions())
print(json.dumps(names))
"""


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    return SETTINGS


def test_a_right_configuration_has_no_problems(settings: dict[str, str]) -> None:
    configuration = load_configuration()

    found, pipelines = configuration.require()
    assert configuration.problems == ()
    assert found.storage.account == "tidegatelocal"
    assert {pipeline.key for pipeline in pipelines.pipelines} >= {"flight_delay_training", "flight_delay_scoring"}


def test_every_mistake_of_settings_and_pipelines_is_in_one_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R20: what is wrong never loads."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pipelines.toml").write_text("schema = 1\ncolour = 'red'\n")

    places = [problem.place for problem in load_configuration(tmp_path).problems]

    assert "DATABRICKS_HOST" in places
    assert "EVENTGRID_TOPIC_ENDPOINT" in places
    assert any("pipelines.toml" in place for place in places)


def test_a_pipelines_file_that_is_not_there_is_a_problem(tmp_path: Path, settings: dict[str, str]) -> None:
    (problem,) = load_configuration(tmp_path).problems

    assert problem.place == "pipelines.toml"


def test_the_reconciler_looks_each_minute_and_more_often_locally(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    local, _ = load_configuration().require()
    monkeypatch.setenv("TIDEGATE_ENVIRONMENT", "prod")
    prod, _ = load_configuration().require()

    assert reconcile_schedule(local) == "*/15 * * * * *"
    assert reconcile_schedule(prod) == "0 * * * * *"
    monkeypatch.setenv("TIDEGATE_RECONCILE_SCHEDULE", "*/5 * * * * *")
    assert reconcile_schedule(prod) == "*/5 * * * * *"


@pytest.mark.parametrize("is_configured", [True, False])
def test_the_app_can_be_imported_whatever_its_configuration(*, is_configured: bool) -> None:
    """With a mistake it answers over HTTP and listens to nothing."""
    done = subprocess.run(
        [sys.executable, "-c", INDEX],
        cwd=_REPOSITORY,
        env=SETTINGS if is_configured else {},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    names = set(done.stdout.strip().strip('[]"').split('", "'))
    assert {"health", "request_run", "show_run"} <= names
    assert ("arrivals" in names, "reconciler" in names) == (is_configured, is_configured)


def test_libraries_do_not_log_every_request() -> None:
    """At the host's level, INFO, the Azure SDKs would write every header of every call."""
    code = (
        "import logging; from functions.wiring import control_plane; control_plane();"
        "print(logging.getLogger('azure.core.pipeline.policies.http_logging_policy').isEnabledFor(logging.INFO))"
    )

    done = subprocess.run(
        [sys.executable, "-c", f"import logging; logging.basicConfig(level={logging.INFO}); {code}"],
        cwd=_REPOSITORY,
        env=SETTINGS,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert done.stdout.strip() == "False"


MENDED = """
import os
import shutil
os.environ["TIDEGATE_PIPELINES_FILE"] = file = {file!r}
import azure.functions as func
import function_app
health = next(item for item in function_app.app.get_functions() if item.get_function_name() == "health_details")
shutil.copy({mended!r}, file)
request = func.HttpRequest(method="GET", url="http://localhost/api/health/details", body=b"")
print(health.get_user_function()(request).get_body().decode())
"""


def test_an_app_that_started_with_a_mistake_is_red_until_it_is_restarted(tmp_path: Path) -> None:
    """It was green as soon as the file was mended, and listened to nothing: no queue, no timer."""
    file = tmp_path / "pipelines.toml"
    file.write_text("schema = 1\ncolour = 'red'\n")
    code = MENDED.format(file=str(file), mended=str(_REPOSITORY / "pipelines.toml"))

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=_REPOSITORY,
        env=SETTINGS,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    shown = json.loads(done.stdout)
    assert shown["status"] == "red"
    assert "pipelines.toml: colour" in shown["problems"]
