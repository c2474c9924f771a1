"""Tests how the API reads its query parameters."""

import json
from datetime import UTC, datetime
from typing import cast

import azure.functions as func
import pytest

from functions.triggers import acting, answers, http, reading
from tests.support.control_plane import ACCOUNT, SCORING, World, make_blob

BODY = {"pipeline": SCORING, "files": [f"https://{ACCOUNT}.blob.core.windows.net/input/{make_blob().path}"]}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    world.inputs.put(make_blob())
    monkeypatch.setattr(answers, "control_plane", lambda: world.plane)
    return world


def call(function: str, method: str, query: str, params: dict[str, str]) -> tuple[int, dict[str, object]]:
    """Have a function answer a request as the host hands it over."""
    app = func.FunctionApp()
    for functions in (http.http_functions, reading.reading_functions, acting.acting_functions):
        app.register_functions(functions())
    found = next(item for item in app.get_functions() if item.get_function_name() == function)
    url = f"https://tidegate.azurewebsites.net/api/runs{query}"
    request = func.HttpRequest(
        method=method, url=url, params=params, headers={"Idempotency-Key": "k"}, body=json.dumps(BODY).encode()
    )
    response = found.get_user_function()(request)
    return response.status_code, cast("dict[str, object]", json.loads(response.get_body()))


@pytest.mark.parametrize("value", [None, "0", "false", "False"])
def test_a_request_without_dry_run_starts_a_run(world: World, value: str | None) -> None:
    query, params = ("", {}) if value is None else (f"?dry_run={value}", {"dry_run": value})

    status, _ = call("request_run", "POST", query, params)

    assert (status, len(world.runs())) == (202, 1)


@pytest.mark.parametrize("value", ["1", "true", "TRUE", "True"])
def test_a_dry_run_starts_nothing(world: World, value: str) -> None:
    status, document = call("request_run", "POST", f"?dry_run={value}", {"dry_run": value})

    assert (status, world.runs()) == (200, [])
    assert "decision" in document


@pytest.mark.parametrize(
    ("query", "params"),
    [
        ("?dry_run=yes", {"dry_run": "yes"}),
        ("?dry_run=", {}),
        ("?dry_run=1&dry_run=1", {"dry_run": "1"}),
        ("?dry_run=1&dry_run=0", {"dry_run": "1,0"}),
        ("", {"dry_run": "on"}),
    ],
)
def test_a_mistyped_dry_run_is_refused_and_starts_nothing(world: World, query: str, params: dict[str, str]) -> None:
    status, document = call("request_run", "POST", query, params)

    assert (status, world.runs()) == (400, [])
    (error,) = cast("list[dict[str, str]]", document["errors"])
    assert error["field"] == "dry_run"


def test_runs_of_long_ago_are_not_looked_for(world: World) -> None:
    """A walk through thousands of months would take the app minutes."""
    status, document = call("list_runs", "GET", "", {"since": "0001-01-01T00:00:00Z"})

    assert status == 400
    (error,) = cast("list[dict[str, str]]", document["errors"])
    assert error["field"] == "since"
    assert world.tables.calls.counts["tables.runs.query"] == 0


def test_runs_of_the_last_five_years_are_looked_for(world: World) -> None:
    assert world.clock.now() == datetime(2026, 3, 1, 12, tzinfo=UTC)

    status, _ = call("list_runs", "GET", "", {"since": "2021-03-02T00:00:00Z"})

    assert status == 200
