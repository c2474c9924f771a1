"""Tests how pipelines are listed, paused, resumed and allowed more over HTTP."""

import json
from dataclasses import replace
from typing import Any

import azure.functions as func
import pytest

from functions.core.access import PRINCIPAL_HEADER, Role
from functions.triggers import answers, http, pipelines
from tests.support.control_plane import SCORING, TRAINING, World
from tests.support.training import TRAIN, with_training_data
from tests.unit.test_core_access import principal


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = with_training_data(World())
    monkeypatch.setattr(answers, "control_plane", lambda: world.plane)
    return world


def call(function: str, key: str = "", body: bytes = b"", *, principal_header: str = "") -> tuple[int, dict[str, Any]]:
    """Have a function answer a request as the host hands it over."""
    app = func.FunctionApp()
    for functions in (http.http_functions, pipelines.pipeline_functions):
        app.register_functions(functions())
    found = next(item for item in app.get_functions() if item.get_function_name() == function)
    request = func.HttpRequest(
        method="POST",
        url=f"https://tidegate.azurewebsites.net/api/pipelines/{key}",
        route_params={"key": key},
        headers={PRINCIPAL_HEADER: principal_header} if principal_header else {},
        body=body,
    )
    response = found.get_user_function()(request)
    return response.status_code, json.loads(response.get_body())


def test_a_pipeline_is_paused_and_resumed(world: World) -> None:
    """R76."""
    said = json.dumps({"reason": "the schema changes", "by": "ada"}).encode()

    paused = call("pause_pipeline", SCORING, said)
    _, listed = call("list_pipelines")
    resumed = call("resume_pipeline", SCORING)

    assert (paused[0], paused[1]["did"], paused[1]["status"]["is_paused"]) == (
        200,
        [f"paused pipeline {SCORING}"],
        True,
    )
    assert [item["pipeline"] for item in listed["pipelines"]] == ["all", TRAINING, SCORING]
    assert listed["pipelines"][2]["paused_by"] == "ada, as a holder of the function's key says"
    assert listed["pipelines"][2]["pause_reason"] == "the schema changes"
    assert (resumed[0], resumed[1]["status"]["is_paused"]) == (200, False)
    assert world.turnstile().pauses == ()


def test_a_long_name_does_not_hide_that_it_is_only_said(world: World) -> None:
    """Nothing vouches for it, and the note that says so was cut off by the name's padding."""
    said = json.dumps({"by": "ann@contoso.com".ljust(80)}).encode()

    call("pause_pipeline", SCORING, said)

    by = world.turnstile().pauses[0].by
    assert by.startswith("ann@contoso.com")
    assert by.endswith("…, as a holder of the function's key says")
    assert len(by) <= 80


def test_all_are_paused_by_their_common_name(world: World) -> None:
    status, document = call("pause_pipeline", "all")

    assert (status, document["did"]) == (200, ["paused all pipelines"])
    assert [pause.pipeline for pause in world.turnstile().pauses] == ["all"]


def test_more_runs_are_allowed_for_today(world: World) -> None:
    """R77."""
    status, document = call("allow_runs", SCORING, b'{"runs_today": 7}')

    assert (status, document["status"]["max_runs_today"]) == (200, 7)
    assert world.turnstile().allowances[0].by == "a holder of the function's key"


def test_a_request_to_a_paused_pipeline_says_that_it_waits(world: World) -> None:
    call("pause_pipeline", TRAINING)

    status, document = call("request_run", body=TRAIN)

    assert (status, document["waits"]) == (202, "paused")
    assert world.databricks_runs() == []


@pytest.mark.parametrize(
    ("function", "key", "body", "status"),
    [
        ("pause_pipeline", "nobody", b"", 404),
        ("resume_pipeline", "nobody", b"", 404),
        ("allow_runs", "x" * 500, b'{"runs_today": 1}', 404),
        ("pause_pipeline", SCORING, b"{", 400),
        ("allow_runs", SCORING, b"", 400),
    ],
)
def test_what_cannot_be_meant_is_refused(world: World, function: str, key: str, body: bytes, status: int) -> None:
    answered, document = call(function, key, body)

    assert answered == status
    assert len(str(document["error"])) < 400
    assert "marks" not in world.tables.rows or world.tables.rows["marks"] == {}


def test_where_roles_are_required_a_reader_looks_and_does_not_act(world: World) -> None:
    """And who acts is whom App Service signed in, whatever the body says."""
    world.plane = replace(world.plane, are_roles_required=True)
    reader = principal(("name", "Rita"), ("roles", Role.READER))
    operator = principal(("name", "Ann"), ("roles", Role.OPERATOR))

    assert call("list_pipelines")[0] == 401
    assert call("list_pipelines", principal_header=reader)[0] == 200
    for function, body in (("pause_pipeline", b""), ("resume_pipeline", b""), ("allow_runs", b'{"runs_today": 1}')):
        assert call(function, SCORING, body, principal_header=reader)[0] == 403
    _, paused = call("pause_pipeline", SCORING, b'{"by": "mallory"}', principal_header=operator)

    assert paused["status"]["paused_by"] == "Ann"
