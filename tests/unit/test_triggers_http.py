"""Tests how the API reads its query parameters."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import azure.functions as func
import pytest

from functions.core.access import Actor
from functions.core.errors import AccessRefusedError
from functions.core.ledger import Run
from functions.core.model import RunId
from functions.core.signal_records import SignalRecord
from functions.services.pausing import pause_pipeline, resume_pipeline
from functions.services.quarantine import quarantine_message
from functions.services.reconcile import reconcile
from functions.services.requests import request_run
from functions.triggers import acting, answers, http, reading, replays
from tests.support.control_plane import ACCOUNT, SCORING, TRAINING, World, blob_message, make_blob
from tests.support.in_memory import Faults
from tests.support.records import make_signal

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


@pytest.mark.parametrize("function", ["request_run", "replay"])
def test_an_empty_idempotency_key_is_refused_rather_than_ignored(world: World, function: str) -> None:
    """Its caller means to be safe: each repeat would have been a run of its own."""
    world.deliver(make_blob("b.csv"))
    body = BODY if function == "request_run" else {"arrival": world.arrival(make_blob("b.csv")).id}

    status, document = as_caller(None, function, "POST", body=body, headers={"Idempotency-Key": ""})

    (error,) = cast("list[dict[str, str]]", document["errors"])
    assert (status, error["field"], world.runs()) == (400, "Idempotency-Key", [])


@pytest.mark.parametrize("name", ["dryrun", "dry-run", "Dry_Run", "dryRun", "dry_run%20"])
def test_a_mistyped_name_of_dry_run_is_refused_and_starts_nothing(world: World, name: str) -> None:
    status, document = call("request_run", "POST", f"?{name}=1", {})

    assert (status, world.runs()) == (400, [])
    assert "dry_run" in str(document["error"])


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


def ask(
    function: str,
    method: str = "GET",
    *,
    route: dict[str, str] | None = None,
    body: object = None,
    query: dict[str, str] | None = None,
) -> tuple[int, dict[str, object]]:
    """Have any function answer, without a signed-in caller."""
    return as_caller(None, function, method, route=route, body=body, query=query)


def as_caller(
    principal: str | None,
    function: str,
    method: str = "GET",
    *,
    route: dict[str, str] | None = None,
    body: object = None,
    query: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, object]]:
    app = func.FunctionApp()
    modules = (http.http_functions, reading.reading_functions, acting.acting_functions, replays.replay_functions)
    for functions in modules:
        app.register_functions(functions())
    found = next(item for item in app.get_functions() if item.get_function_name() == function)
    request = func.HttpRequest(
        method=method,
        url="https://tidegate.azurewebsites.net/api/x/y",
        params=query or {},
        route_params=route or {},
        headers={**(headers or {}), **({} if principal is None else {"X-MS-CLIENT-PRINCIPAL": principal})},
        body=json.dumps(body).encode(),
    )
    response = found.get_user_function()(request)
    return response.status_code, cast("dict[str, object]", json.loads(response.get_body()))


READING = [
    "list_runs",
    "show_run",
    "list_arrivals",
    "show_arrival",
    "list_dead_letters",
    "list_backfills",
    "show_backfill",
    "list_signals",
    "show_lineage",
]
NEEDED = {"show_lineage": {"blob": make_blob().url}}  # what a function cannot do without
ACTING = ["request_run", "retry_run", "cancel_run", "repair_run", "replay", "dismiss", "request_backfill"]


def signed_in(*roles: str) -> str:
    claims = [{"typ": "name", "val": "Ann"}, *({"typ": "roles", "val": role} for role in roles)]
    document = {"auth_typ": "aad", "claims": claims, "name_typ": "name", "role_typ": "roles"}
    return base64.b64encode(json.dumps(document).encode()).decode()


@pytest.mark.parametrize("function", [*READING, *ACTING])
def test_where_roles_are_required_nobody_gets_in_without(world: World, function: str) -> None:
    """Every function asks; a new one that forgets is found by the lists above and the one of the app."""
    world.plane = replace(world.plane, are_roles_required=True)

    nobody, _ = ask(function)
    stranger, said = as_caller(signed_in("Other.Role"), function)

    assert (nobody, stranger) == (401, 403)
    assert "lacks the app role Tidegate." in str(said["error"])


@pytest.mark.parametrize("function", ACTING)
def test_a_reader_may_not_act(world: World, function: str) -> None:
    world.plane = replace(world.plane, are_roles_required=True)

    status, said = as_caller(signed_in("Tidegate.Reader"), function, "POST")

    assert status == 403
    assert "Tidegate.Operator" in str(said["error"])


@pytest.mark.parametrize("function", READING)
def test_a_reader_may_read(world: World, function: str) -> None:
    world.plane = replace(world.plane, are_roles_required=True)

    status, _ = as_caller(signed_in("Tidegate.Reader"), function, query=NEEDED.get(function))

    assert status in {200, 404}


def test_who_acted_is_in_the_history(world: World) -> None:
    world.plane = replace(world.plane, are_roles_required=True)
    world.deliver(make_blob())
    (run,) = world.runs()

    status, _ = as_caller(signed_in("Tidegate.Operator"), "cancel_run", "POST", route={"id": run.id})

    assert status == 202
    assert any("asked for by Ann" in change.note for change in world.runs()[0].history)


def test_runs_are_found_by_state_model_and_blob(world: World) -> None:
    """R73."""
    for name in ("a.parquet", "b.parquet"):
        world.deliver(make_blob(name))
    world.finish(world.databricks_runs()[0])
    world.settle_submissions()
    world.clock.advance(timedelta(minutes=5))
    reconcile(world.plane)

    def ids(**params: str) -> list[str]:
        status, document = ask("list_runs", query=params)
        assert status == 200, document
        return [str(run["id"]) for run in cast("list[dict[str, object]]", document["runs"])]

    by_name = {world.arrival(make_blob(name)).run_id: name for name in ("a.parquet", "b.parquet")}
    assert [by_name[RunId(run)] for run in ids(state="completed")] == ["a.parquet"]
    assert [by_name[RunId(run)] for run in ids(state="submitted")] == ["b.parquet"]
    assert [by_name[RunId(run)] for run in ids(blob=make_blob("b.parquet").url)] == ["b.parquet"]
    assert len(ids(model="main.tidegate.flight_delay")) == len(ids(model="main.tidegate.flight_delay/7")) == 2
    assert ids(model="main.tidegate.flight_delay/8") == ids(model="main.tidegate.other") == []
    assert ids(since="2026-03-01T12:00:01Z") == []
    assert len(ids(pipeline=SCORING)) == 2
    assert ids(pipeline=TRAINING) == []


def test_arrivals_are_listed_by_state_pipeline_and_blob(world: World) -> None:
    """R73: arrivals as well as runs."""
    world.deliver(make_blob("a.parquet"))
    world.deliver(make_blob("b.csv"))

    def paths(**params: str) -> list[str]:
        status, document = ask("list_arrivals", query=params)
        assert status == 200, document
        urls = [str(item["url"]) for item in cast("list[dict[str, object]]", document["arrivals"])]
        return sorted(url.rpartition("/")[2] for url in urls)

    assert paths() == ["a.parquet", "b.csv"]
    assert paths(state="ignored") == ["b.csv"]
    assert paths(pipeline=SCORING) == ["a.parquet"]
    assert paths(blob=make_blob("b.csv").url) == ["b.csv"]
    assert len(paths(limit="1")) == 1
    assert paths(since="2026-03-02T00:00:00Z") == []


def fill_lists(world: World) -> None:
    """Have two entries in each list that has a limit."""
    for minute, name in enumerate(("a.parquet", "b.parquet")):
        world.deliver(make_blob(name))
        record_signal(world, name, minute=minute)
        world.quarantine.documents[f"A/{name}.json"] = {}
        assert ask("request_backfill", "POST", body={"pipeline": SCORING, "prefix": f"flights/new/{name}"})[0] == 202


LISTS = {
    "list_runs": "runs",
    "list_arrivals": "arrivals",
    "list_signals": "signals",
    "list_backfills": "backfills",
    "list_dead_letters": "dead_letters",
}


@pytest.mark.parametrize(("function", "name"), LISTS.items())
def test_a_list_says_whether_there_are_more_than_it_shows(world: World, function: str, name: str) -> None:
    """It stopped at its limit as if that were all."""
    fill_lists(world)

    answers_by_limit = [ask(function, query={"limit": str(limit)})[1] for limit in (1, 2, 1000)]

    assert [len(cast("list[object]", document[name])) for document in answers_by_limit] == [1, 2, 2]
    assert [document["has_more"] for document in answers_by_limit] == [True, False, False]


@pytest.mark.parametrize(("function", "name"), [("list_runs", "runs"), ("list_arrivals", "arrivals")])
def test_a_list_about_a_blob_says_whether_there_are_more(world: World, function: str, name: str) -> None:
    for etag in ("0x1", "0x2"):
        world.deliver(make_blob("a.parquet", etag=etag))
    query = {"blob": make_blob("a.parquet").url}

    cut, whole = (ask(function, query={**query, "limit": limit})[1] for limit in ("1", "2"))

    assert [len(cast("list[object]", document[name])) for document in (cut, whole)] == [1, 2]
    assert (cut["has_more"], whole["has_more"]) == (True, False)


def test_what_runs_wrote_is_listed_on_demand_only(world: World) -> None:
    """Spark raises a dozen events a run, all ignored; among them nobody finds the file that they look for."""
    scores = f"{SCORING}/batch=0123456789abcdef/model_version=7/part-0.parquet"
    for blob in (
        replace(make_blob(), container="scores", path=scores),
        replace(make_blob(), container="scores", path="_$azuretmpfolder$/x"),
        make_blob("b.csv"),
    ):
        world.deliver(blob)

    def listed(**params: str) -> list[str]:
        _, document = ask("list_arrivals", query={"state": "ignored", **params})
        urls = [str(item["url"]) for item in cast("list[dict[str, object]]", document["arrivals"])]
        return sorted(url.split("/")[3] for url in urls)

    assert listed() == ["input"]
    assert listed(outputs="1") == ["input", "scores", "scores"]


def test_a_run_that_databricks_refuses_says_why_and_when_it_is_tried_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every place where a run is shown; and no more once it was sent."""
    world = World(faults=OneRefusal())
    monkeypatch.setattr(answers, "control_plane", lambda: world.plane)
    world.deliver(make_blob())
    arrival = world.arrival(make_blob())
    expected = {
        "last_error": "starting job 'scoring': no CAN_MANAGE_RUN",
        "last_tried_at": "2026-03-01T12:00:00.000000Z",
        "tries": 1,
    }

    def setbacks() -> list[dict[str, object] | None]:
        run = ask("show_run", route={"id": str(arrival.run_id)})[1]
        (listed,) = cast("list[dict[str, object]]", ask("list_runs")[1]["runs"])
        beside = cast("dict[str, object]", ask("show_arrival", route={"id": arrival.id})[1]["run"])
        (read_by,) = cast("list[dict[str, object]]", ask("show_lineage", query={"blob": make_blob().url})[1]["runs"])
        return [cast("dict[str, object] | None", item["setback"]) for item in (run, listed, beside, read_by)]

    for setback in setbacks():
        assert setback is not None
        assert {key: setback[key] for key in expected} == expected
        assert "2026-03-01T12:01:00" <= str(setback["next_try_by"]) < "2026-03-01T12:01:02"
    world.clock.advance(timedelta(seconds=62))
    world.work()
    assert setbacks() == [None] * 4


class OneRefusal(Faults):
    """Has the first submission refused for want of a role."""

    is_over = False

    def before(self, call: str) -> None:
        if call == "workspace.submit" and not self.is_over:
            self.is_over = True
            raise AccessRefusedError("starting job 'scoring'", "no CAN_MANAGE_RUN")


def test_what_waits_says_so_if_its_whole_pipeline_does(world: World) -> None:
    """Whoever looks at one file or one run sees the pause without knowing that there is such a thing."""
    world.deliver(make_blob("before.parquet"))
    running = world.arrival(make_blob("before.parquet")).run_id
    pause_pipeline(world.plane, SCORING, Actor(name="ada"))
    world.deliver(make_blob("held.parquet"))
    body = json.dumps({**BODY, "pipeline": SCORING}).encode()
    asked = request_run(world.plane, body, idempotency_key="asked")
    assert isinstance(asked, Run)

    def waits(function: str, entry: str) -> object:
        return ask(function, route={"id": entry})[1]["waits"]

    _, arrivals = ask("list_arrivals", query={"state": "held"})
    _, runs = ask("list_runs", query={"state": "decided"})
    held = world.arrival(make_blob("held.parquet")).id

    assert [item["waits"] for item in cast("list[dict[str, object]]", arrivals["arrivals"])] == ["paused"]
    assert [item["waits"] for item in cast("list[dict[str, object]]", runs["runs"])] == ["paused"]
    assert waits("show_arrival", held) == waits("show_run", asked.id) == "paused"
    assert waits("show_run", str(running)) is None
    resume_pipeline(world.plane, SCORING, Actor(name="ada"))
    assert waits("show_arrival", held) is waits("show_run", asked.id) is None


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"state": "lost"}, "state"),
        ({"since": "yesterday"}, "since"),
        ({"limit": "0"}, "limit"),
        ({"pipeline": "a\nb"}, "pipeline"),
        ({"blob": "https://example.org/x?sig=secret"}, "blob"),
        ({"blob": "https://example.org/x?sig=secret\n"}, "blob"),
    ],
)
@pytest.mark.parametrize("function", ["list_runs", "list_arrivals"])
def test_a_wrong_filter_is_named_and_not_repeated(
    world: World, function: str, params: dict[str, str], field: str
) -> None:
    status, document = ask(function, query=params)

    assert status == 400
    (error,) = cast("list[dict[str, str]]", document["errors"])
    assert error["field"] == field
    assert "secret" not in json.dumps(document)


@pytest.mark.parametrize(
    "model", ["x", "main.tidegate", "main.tidegate.flight_delay/v7", "main.tidegate.flight_delay/"]
)
def test_a_model_that_no_run_can_have_is_refused(world: World, model: str) -> None:
    status, document = ask("list_runs", query={"model": model})

    (error,) = cast("list[dict[str, str]]", document["errors"])
    assert (status, error["field"], error["got"]) == (400, "model", repr(model))


def test_an_arrival_is_shown_with_what_would_be_decided_now(world: World) -> None:
    world.deliver(make_blob("b.csv"))
    arrival = world.arrival(make_blob("b.csv"))

    status, document = ask("show_arrival", route={"id": arrival.id})
    unknown, _ = ask("show_arrival", route={"id": "0" * 64})
    nonsense, _ = ask("show_arrival", route={"id": "../x"})

    assert (status, unknown, nonsense) == (200, 404, 404)
    assert cast("dict[str, object]", document["decision_now"])["reason"] == "no_route"
    assert document["run"] is None
    world.deliver(make_blob())
    assigned = world.arrival(make_blob())
    _, shown = ask("show_arrival", route={"id": assigned.id})
    assert cast("dict[str, object]", shown["run"])["id"] == assigned.run_id


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z"])
def test_an_arrival_of_the_first_or_last_moment_is_not_found(world: World, at: str) -> None:
    status, _ = ask("show_arrival", route={"id": "0" * 64}, query={"at": at})
    replayed, _ = ask("replay", "POST", body={"arrival": "0" * 64, "at": at})

    assert (status, replayed) == (404, 404)


def test_what_was_given_up_is_listed_with_its_reason(world: World) -> None:
    quarantine_message(world.plane, "arrivals", "m-1", b"no event", datetime(2026, 3, 1, tzinfo=UTC))
    world.quarantine.documents["ARRIVALS/2026/3/1/12/x.json"] = {}

    status, document = ask("list_dead_letters")

    letters = cast("list[dict[str, object]]", document["dead_letters"])
    assert status == 200
    assert [letter["queue"] for letter in letters] == [None, "arrivals"]
    assert "JSON" in str(letters[1]["reason"])


def test_what_was_replayed_is_listed_over_http_on_demand_only(world: World) -> None:
    quarantine_message(
        world.plane, "arrivals", "m", blob_message(make_blob()).encode(), datetime(2026, 3, 1, tzinfo=UTC)
    )
    (name,) = world.quarantine.documents
    _, replayed = ask("replay", "POST", body={"dead_letter": name})

    _, waiting = ask("list_dead_letters")
    _, everything = ask("list_dead_letters", query={"all": "1"})
    refused, _ = ask("list_dead_letters", query={"all": "yes"})

    (letter,) = cast("list[dict[str, object]]", everything["dead_letters"])
    assert (waiting["dead_letters"], letter["name"], refused) == ([], name, 400)
    assert cast("dict[str, object]", letter["replayed"])["did"] == replayed["did"]


def test_a_dead_letter_is_dismissed_over_http(world: World) -> None:
    quarantine_message(world.plane, "arrivals", "m", b"no event", datetime(2026, 3, 1, tzinfo=UTC))
    world.quarantine.documents["A/other.json"] = {}
    (name,) = (name for name in world.quarantine.documents if name.startswith("poison/"))

    answers_by_body = [
        ask("dismiss", "POST", body=body)
        for body in (
            {"dead_letter": name, "reason": "a probe of ours"},
            {"dead_letter": name, "reason": "again"},
            {"dead_letter": name},
            {"dead_letter": "A/none.json", "reason": "not there"},
        )
    ]
    _, waiting = ask("list_dead_letters")
    _, everything = ask("list_dead_letters", query={"all": "1"})

    (_, first), (_, second) = answers_by_body[:2]
    _, letter = cast("list[dict[str, object]]", everything["dead_letters"])
    assert [status for status, _ in answers_by_body] == [200, 200, 400, 404]
    assert (first["dead_letter"], len(cast("list[str]", first["did"])), first["did_not"]) == (name, 1, [])
    assert second["did"] == []
    assert "a probe of ours" in str(second["did_not"])
    assert [item["name"] for item in cast("list[dict[str, object]]", waiting["dead_letters"])] == ["A/other.json"]
    assert cast("dict[str, object]", letter["dismissed"])["by"] == "a holder of the function's key"


def test_a_replay_is_asked_for_over_http(world: World) -> None:
    world.deliver(make_blob("b.csv"))
    arrival = world.arrival(make_blob("b.csv"))

    status, what = ask("replay", "POST", body={"arrival": arrival.id})
    refused, wrong = ask("replay", "POST", body={"colour": "red"})

    assert (status, what["did"]) == (200, ["decided about it again"])
    assert (refused, "errors" in wrong) == (400, True)


def test_a_dead_letter_that_is_still_unreadable_is_refused_over_http(world: World) -> None:
    """A 200 looked like success to whoever did not read `did_not`."""
    event = json.loads(base64.b64decode(blob_message(make_blob())))
    world.quarantine.documents["A/x.json"] = [event, {"id": "e-2"}]  # type: ignore[assignment] # as Event Grid writes

    status, document = ask("replay", "POST", body={"dead_letter": "A/x.json"})

    (taken,), (refused,) = cast("list[str]", document["did"]), cast("list[str]", document["did_not"])
    assert status == 409
    assert "1 of its 2 messages were refused again: e-2: " in str(document["error"])
    assert ("arrival" in taken, refused.startswith("e-2: ")) == (True, True)


def test_a_backfill_is_asked_for_and_followed_over_http(world: World) -> None:
    begun, backfill = ask("request_backfill", "POST", body={"pipeline": SCORING})
    shown, progress = ask("show_backfill", route={"id": str(backfill["id"])})
    listed, found = ask("list_backfills")
    unknown, _ = ask("show_backfill", route={"id": "none"})
    refused, wrong = ask("request_backfill", "POST", body={"pipeline": "nobody"})

    assert (begun, shown, listed, unknown, refused) == (202, 200, 200, 404, 400)
    assert progress["state"] == "counting"
    assert len(cast("list[object]", found["backfills"])) == 1
    assert str(backfill["status_url"]).endswith(f"/api/backfills/{backfill['id']}")
    assert "a pipeline with routes" in json.dumps(wrong)


def record_signal(world: World, event_id: str, *, minute: int) -> None:
    signal = make_signal(event_id=event_id)
    world.signals.record(
        SignalRecord(
            source=signal.source,
            event_id=signal.event_id,
            event_time=signal.time + timedelta(minutes=minute),
            type=signal.type.value,
            model_name=signal.model_name,
            window_start=signal.window_start,
            window_end=signal.window_end,
            recorded_at=world.clock.now(),
            pipeline=None,
            rule="",
            run_id=None,
            reason="no_signal_rule",
            what="it says why",
            config_version="0123",
        )
    )


def test_signals_are_listed_newest_first(world: World) -> None:
    for minute, event_id in ((1, "b"), (0, "a"), (2, "c")):
        record_signal(world, event_id, minute=minute)

    status, document = ask("list_signals", query={"limit": "2"})
    _, everything = ask("list_signals")

    signals = cast("list[dict[str, object]]", document["signals"])
    assert (status, [signal["id"] for signal in signals]) == (200, ["c", "b"])
    assert list(signals[0]) == [
        "id",
        "source",
        "type",
        "time",
        "model",
        "window",
        "recorded_at",
        "pipeline",
        "signal",
        "run_id",
        "reason",
        "what",
        "config_version",
    ]
    assert len(cast("list[object]", everything["signals"])) == 3


@pytest.mark.parametrize("limit", ["0", "1001", "many", "-1"])
def test_no_more_signals_are_listed_than_an_answer_may_have(world: World, limit: str) -> None:
    record_signal(world, "a", minute=0)

    status, document = ask("list_signals", query={"limit": limit})

    assert status == 400
    (error,) = cast("list[dict[str, str]]", document["errors"])
    assert (error["field"], error["expected"]) == ("limit", "a whole number from 1 to 1000")


def test_a_blob_is_followed_to_its_run_and_back(world: World) -> None:
    """The same question for what went in, for the folder of scores, and for a file in it."""
    world.deliver(make_blob())
    world.finish(world.databricks_runs()[0])
    world.settle()
    (run,) = world.runs()

    forwards, read_by = ask("show_lineage", query={"blob": make_blob().url})
    backwards, written_by = ask("show_lineage", query={"blob": f"{run.output_url}/part-0.parquet"})
    _, folder = ask("show_lineage", query={"blob": f"{run.output_url}/"})

    (user,) = cast("list[dict[str, object]]", read_by["runs"])
    (maker,) = cast("list[dict[str, object]]", written_by["made_by"])
    (arrival,) = cast("list[dict[str, object]]", read_by["arrivals"])
    assert (forwards, backwards, read_by["url"], read_by["made_by"]) == (200, 200, make_blob().url, [])
    assert (arrival["state"], arrival["run_id"], arrival["etag"]) == ("scored", run.id, "0x1")
    assert (user["id"], user["outcome"], user["scores_url"]) == (run.id, "completed", run.output_url)
    assert (user["model"], user["model_version"], user["mlflow_run_id"]) == ("main.tidegate.flight_delay", "7", None)
    assert user["completion_event_id"] == f"{run.id}.1.completed"
    assert user["inputs"] == [{"url": make_blob().url, "etag": "0x1", "arrival_id": arrival["id"]}]
    assert user == maker
    assert (written_by["arrivals"], written_by["runs"], folder["made_by"]) == ([], [], [maker])


@pytest.mark.parametrize(
    ("query", "got"),
    [
        ({}, "nothing"),
        ({"blob": ""}, "nothing"),
        ({"blob": "https://acct.blob.core.windows.net/input/x?sig=secret"}, "another text"),
        ({"blob": "secret"}, "another text"),
    ],
)
def test_what_is_no_blobs_url_is_refused_and_not_repeated(world: World, query: dict[str, str], got: str) -> None:
    """A URL that was copied from a tool may carry a signature."""
    status, document = ask("show_lineage", query=query)

    assert status == 400
    (error,) = cast("list[dict[str, str]]", document["errors"])
    assert (error["field"], error["got"]) == ("blob", got)
    assert error["expected"].startswith("https://<account>.blob.core.windows.net/<container>/<path>")
    assert "secret" not in json.dumps(document)
    assert world.tables.calls.counts["tables.runs.query"] == 0


def test_a_blob_of_which_nothing_is_known_is_answered_with_what_to_do(world: World) -> None:
    world.deliver(make_blob())

    status, document = ask("show_lineage", query={"blob": make_blob("another.parquet").url})

    assert status == 404
    assert "nothing is known of it" in str(document["error"])
    assert "`tidegate dead-letters`" in str(document["error"])
    assert "`tidegate backfill`" in str(document["error"])
