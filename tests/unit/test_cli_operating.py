"""Tests the commands that operate the control plane: what they send, what they print, how they end."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.api import Api
from cli.failures import CommandError
from cli.main import app
from cli.times import instant_of, moment_of

RUN = "flight_delay_scoring-20260301T120000Z-0123456789ab"
ARRIVAL = "0" * 64


BACKFILL = {
    "id": "0123456789abcdef",
    "pipeline": "flight_delay_scoring",
    "prefix": "",
    "since": "1970-01-01T00:00:00.000000Z",
    "until": "2026-03-01T00:00:00.000000Z",
    "note": None,
    "places": ["input/flights/new/"],
    "plan": None,
    "counts": {"seen": 3, "outside": 0, "unwanted": 1, "known": 0, "new": 2, "again": 0},
    "confirm": None,
    "state": "counting",
    "created_at": "2026-03-01T00:00:00.000000Z",
}


LETTER = {
    "name": "poison/x[1].json",
    "at": "2026-03-01T00:00:00.000000Z",
    "queue": "arrivals",
    "reason": "no JSON",
    "replayed": None,
}


@dataclass
class Plane:
    """A control plane that answers as it was told, and remembers what it was asked."""

    url: str
    answers: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    asked: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)

    def tell(self, request: str, *answers: tuple[int, Any]) -> None:
        self.answers[request] = list(answers)


@pytest.fixture
def plane() -> Iterator[Plane]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            self._answer(json.loads(self.rfile.read(length)))

        def do_GET(self) -> None:
            self._answer(None)

        def _answer(self, body: Any) -> None:
            request = f"{self.command} {self.path}"
            found.asked.append((request, body, {name.lower(): value for name, value in self.headers.items()}))
            answers = found.answers.get(request, [(404, {"error": f"nothing at {request}"})])
            status, document = answers.pop(0) if len(answers) > 1 else answers[0]
            content = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Plane(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def tidegate(plane: Plane, *arguments: str, **environ: str) -> Result:
    settings = {"TIDEGATE_API_URL": plane.url, "TIDEGATE_API_KEY": "the-key", "NO_COLOR": "1", **environ}
    return CliRunner().invoke(app, list(arguments), env=settings)


def test_help_lists_the_commands_of_an_operator() -> None:
    done = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})

    for command in (
        "arrivals",
        "dead-letters",
        "retry",
        "cancel",
        "repair",
        "replay",
        "dismiss",
        "backfill",
        "backfills",
    ):
        assert f" {command} " in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        ("arrivals", "--since", "7d"),
        ("explain", "0" * 64),
        ("signals",),
        ("dead-letters",),
        ("cancel", RUN),
        ("replay", ARRIVAL),
        ("dismiss", "A/x.json", "--reason", "ours"),
        ("backfill", "flight_delay_scoring"),
        ("backfills",),
    ],
)
def test_commands_that_need_a_cloud_say_how_to_start_it(tmp_path: Path, command: tuple[str, ...]) -> None:
    environ = {"TIDEGATE_LOCAL_DIR": str(tmp_path), "TIDEGATE_API_URL": ""}

    done = CliRunner().invoke(app, list(command), env=environ)

    assert done.exit_code == 1
    assert done.stderr == "Error: the local cloud is not running; start it with `make up` (or `tidegate up`)\n"


LISTED_RUN = {
    "id": RUN,
    "state": "decided",
    "outcome": None,
    "waits": "paused",
    "attempt": 1,
    "model_version": "7",
    "databricks_run_id": None,
    "run_page_url": None,
    "created_at": "2026-03-01T12:00:00.000000Z",
    "finished_at": None,
}
LISTED_ARRIVAL = {
    "id": ARRIVAL,
    "url": "https://acct.blob.core.windows.net/input/flights/new/a%20b%5B1%5D.parquet",
    "state": "held",
    "waits": "budget_spent",
    "reason": None,
    "pipeline": "flight_delay_scoring",
    "run_id": None,
    "recorded_at": "2026-03-01T12:00:00.000000Z",
}


def test_runs_are_what_the_control_plane_lists_and_say_what_they_wait_for(plane: Plane) -> None:
    """The same command for the local cloud and for the app that TIDEGATE_API_URL names."""
    query = (
        "pipeline=flight_delay_scoring&since=2026-03-01T00%3A00%3A00.000000Z&state=decided"
        "&blob=https%3A%2F%2Facct.blob.core.windows.net%2Finput%2Fa%2520b.parquet&model=main.m%2F7&limit=5"
    )
    plane.tell(f"GET /api/runs?{query}", (200, {"runs": [LISTED_RUN]}))
    command = [
        "runs", "--pipeline", "flight_delay_scoring", "--since", "2026-03-01", "--state", "decided",
        "--blob", "abfss://input@acct.dfs.core.windows.net/a%20b.parquet", "--model", "main.m/7", "--limit", "5",
    ]  # fmt: skip

    text, document = tidegate(plane, *command), tidegate(plane, *command, "--json")

    assert text.stdout.splitlines()[1].split()[:5] == [RUN, "decided", "(paused)", "1", "7"]
    assert json.loads(document.stdout) == LISTED_RUN


def test_runs_of_a_release_that_says_not_yet_what_they_wait_for_are_listed(plane: Plane) -> None:
    """The command and the app are not deployed in the same moment."""
    older = {name: value for name, value in LISTED_RUN.items() if name != "waits"}
    plane.tell("GET /api/runs?limit=100", (200, {"runs": [older]}))

    assert RUN in tidegate(plane, "runs").stdout


@pytest.mark.parametrize(
    ("arguments", "query", "said"),
    [
        ((), "limit=100", "There is no run yet"),
        (("--state", "failed"), "state=failed&limit=100", "No run is known that is like this."),
    ],
)
def test_no_run_yet_and_none_like_this_are_two_things(
    plane: Plane, arguments: tuple[str, ...], query: str, said: str
) -> None:
    plane.tell(f"GET /api/runs?{query}", (200, {"runs": []}))

    assert tidegate(plane, "runs", *arguments).stdout.startswith(said)


LISTED_SIGNAL = {
    "id": "2026-W09",
    "source": "/monitors/weekly",
    "type": "tidegate.model.drift_detected.v1",
    "time": "2026-03-01T12:00:01.250000Z",
    "model": "main.tidegate.flight_delay",
    "window": {"start": "2026-02-22T12:00:00.000000Z", "end": "2026-03-01T12:00:00.000000Z"},
    "pipeline": None,
    "reason": "no_signal_rule",
    "what": "no rule for [drift] of this model",
}


def test_signals_are_what_the_control_plane_lists(plane: Plane) -> None:
    plane.tell("GET /api/signals?limit=100", (200, {"signals": [LISTED_SIGNAL]}))
    plane.tell("GET /api/signals?limit=1", (200, {"signals": []}))

    printed, listed = tidegate(plane, "signals").stdout, tidegate(plane, "signals", "--json").stdout
    nothing = tidegate(plane, "signals", "--limit", "1").stdout

    assert printed.splitlines()[1].split("  ")[0] == "2026-03-01 12:00:01"
    assert "drift_detected.v1" in printed
    assert "2026-03-01 12:00  " in printed
    assert "no rule for [drift] of this model" in printed
    assert json.loads(listed) == LISTED_SIGNAL
    assert nothing == "There was no signal yet; docs/events.md says what a monitor publishes.\n"


TRACED = "https://tidegatelocal.blob.core.windows.net/input/flights/new/a%20b.parquet"
TRACED_RUN = {
    **LISTED_RUN,
    "state": "ended",
    "outcome": "completed",
    "reason": None,
    "run_page_url": "https://adb-1.azuredatabricks.net/jobs/1/runs/7",
    "databricks_run_id": 7,
    "manifest_url": "https://tidegatelocal.blob.core.windows.net/tidegate/m.json",
    "scores_url": "https://tidegatelocal.blob.core.windows.net/scores/x",
    "completion_event_id": f"{RUN}.1.completed",
    "model": "main.tidegate.flight_delay",
    "mlflow_run_id": None,
    "rows_scored": 500,
    "inputs": [{"url": TRACED, "etag": "0x1", "arrival_id": ARRIVAL}],
}


def test_a_blob_is_followed_by_the_control_plane_however_it_is_called(plane: Plane) -> None:
    query = "blob=https%3A%2F%2Ftidegatelocal.blob.core.windows.net%2Finput%2Fflights%2Fnew%2Fa%2520b.parquet"
    answer = {"url": TRACED, "arrivals": [], "runs": [TRACED_RUN], "made_by": []}
    plane.tell(f"GET /api/lineage?{query}", (200, answer))

    printed = tidegate(plane, "trace", "abfss://input@tidegatelocal.dfs.core.windows.net/flights/new/a%20b.parquet")
    document = json.loads(tidegate(plane, "trace", TRACED, "--json").stdout)

    assert printed.stdout.splitlines() == [
        TRACED,
        f"└── read by run {RUN}: completed",
        "    ├── 1 input file, manifest https://tidegatelocal.blob.core.windows.net/tidegate/m.json",
        f"    │   └── {TRACED} (ETag 0x1)",
        "    ├── model main.tidegate.flight_delay version 7, MLflow run -",
        "    ├── Databricks run 7 https://adb-1.azuredatabricks.net/jobs/1/runs/7",
        "    ├── scores https://tidegatelocal.blob.core.windows.net/scores/x (500 rows)",
        f"    └── completion event {RUN}.1.completed",
    ]
    assert document == answer


def test_a_blob_that_nobody_knows_ends_the_command_with_what_the_control_plane_says(plane: Plane) -> None:
    query = "blob=https%3A%2F%2Ftidegatelocal.blob.core.windows.net%2Finput%2Fx"
    plane.tell(f"GET /api/lineage?{query}", (404, {"error": "following a blob: nothing is known of it"}))

    done = tidegate(plane, "trace", "https://tidegatelocal.blob.core.windows.net/input/x")

    assert done.exit_code == 4
    assert done.stderr == "Error: GET /api/lineage: 404, following a blob: nothing is known of it\n"


def test_arrivals_are_listed_with_ids_that_can_be_copied(plane: Plane) -> None:
    plane.tell("GET /api/arrivals?state=held&limit=100", (200, {"arrivals": [LISTED_ARRIVAL]}))
    plane.tell("GET /api/arrivals?outputs=1&limit=100", (200, {"arrivals": []}))

    text, document = (
        tidegate(plane, "arrivals", "--state", "held"),
        tidegate(plane, "arrivals", "--state", "held", "--json"),
    )
    none = tidegate(plane, "arrivals", "--outputs")
    plane.tell("GET /api/arrivals?since=2026-01-01T00%3A00%3A00.000000Z&limit=100", (200, {"arrivals": []}))
    none_since = tidegate(plane, "arrivals", "--since", "2026-01-01")

    assert text.stdout.splitlines()[1].startswith(f"{ARRIVAL}  2026-03-01T12:00:00.000000Z  held (budget_spent)")
    assert "flights/new/a b[1].parquet" in text.stdout
    assert json.loads(document.stdout) == LISTED_ARRIVAL
    assert none.stdout == "No arrival is known that is like this in the last month; --since looks further back.\n"
    assert none_since.stdout == "No arrival is known that is like this.\n"


def test_an_arrivals_story_is_told_with_its_run_and_what_would_be_decided_now(plane: Plane) -> None:
    run = {"id": RUN, "state": "ended", "outcome": "failed", "run_page_url": "http://127.0.0.1:1/jobs/1/runs/5"}
    now = {"decision_now": {"action": "hold"}, "routes_tried": [{"route": "new", "matches": True, "why": "it does"}]}
    path = f"GET /api/arrivals/{ARRIVAL}?at=2026-01-01T00%3A00%3A00.000000Z"
    history = [{"state": "held", "at": "2026-03-01", "note": ""}]
    plane.tell(path, (200, {**LISTED_ARRIVAL, "history": history, "run": run, **now}))

    text = tidegate(plane, "explain", ARRIVAL, "--at", "2026-01-01")
    document = tidegate(plane, "explain", ARRIVAL, "--at", "2026-01-01", "--json")

    assert json.loads(document.stdout) == {"arrival": {**LISTED_ARRIVAL, "history": history}, "run": run, **now}
    assert "  waits: budget_spent\n" in text.stdout
    assert "    - state held, at 2026-03-01\n" in text.stdout
    assert text.stdout.endswith("routes_tried:\n  - route new, matches yes, why it does\n")


def test_a_run_that_was_put_back_tells_why_and_when_it_is_tried_next(plane: Plane) -> None:
    setback = {"last_error": "starting: throttled for 42 s", "tries": 3, "next_try_by": "2026-03-01T12:00:42.000000Z"}
    plane.tell(f"GET /api/runs/{RUN}", (200, {**LISTED_RUN, "setback": setback}))

    text = tidegate(plane, "explain", RUN)

    told = ["  setback:", *(f"    {name}: {value}" for name, value in setback.items())]
    assert "\n".join(told) in text.stdout


def test_a_runs_story_is_told(plane: Plane) -> None:
    plane.tell(f"GET /api/runs/{RUN}", (200, LISTED_RUN))

    assert json.loads(tidegate(plane, "explain", RUN, "--json").stdout) == {"run": LISTED_RUN}
    assert tidegate(plane, "explain", RUN.replace("0123", "9999")).exit_code == 4


def test_a_page_is_where_the_local_workspace_is_now() -> None:
    """Its port may have changed since the run; a page on Azure stays what Databricks said."""
    api = Api(url="http://127.0.0.1:1", key="k", workspace_url="http://127.0.0.1:20002")

    moved = api.with_present_page({"run_page_url": "http://127.0.0.1:20001/jobs/1/runs/5"})
    azure = api.with_present_page({"run_page_url": "https://adb-1.2.azuredatabricks.net/?o=1#job/1/run/5"})
    none = api.with_present_page({"run_page_url": None})

    assert moved["run_page_url"] == "http://127.0.0.1:20002/jobs/1/runs/5"
    assert azure["run_page_url"] == "https://adb-1.2.azuredatabricks.net/?o=1#job/1/run/5"
    assert none["run_page_url"] is None


@pytest.mark.parametrize("action", ["retry", "cancel", "repair"])
def test_acting_on_a_run_says_what_it_did_and_did_not_do(plane: Plane, action: str) -> None:
    answer = {"id": RUN, "did": ["began attempt 2"], "did_not": ["nothing else"], "status_url": f"{plane.url}/api/x"}
    plane.tell(f"POST /api/runs/{RUN}/{action}", (202, answer))

    text, document = tidegate(plane, action, RUN), tidegate(plane, action, RUN, "--json")

    assert (text.exit_code, document.exit_code) == (0, 0)
    assert text.stdout.splitlines()[:2] == ["did: began attempt 2", "did not: nothing else"]
    assert json.loads(document.stdout) == answer
    assert plane.asked[0][2]["x-functions-key"] == "the-key"


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (ARRIVAL, {"arrival": ARRIVAL}),
        (RUN, {"run": RUN}),
        ("poison/2026-03-01/arrivals-1.json", {"dead_letter": "poison/2026-03-01/arrivals-1.json"}),
        ("http://127.0.0.1:10000/tidegatelocal/deadletter/A/x.json", {"dead_letter": "A/x.json"}),
    ],
)
def test_a_replay_knows_what_its_target_is(plane: Plane, target: str, body: dict[str, str]) -> None:
    plane.tell("POST /api/replays", (200, {"id": "r", "did": ["held it"], "did_not": []}))

    done = tidegate(plane, "replay", target, "--key", "ticket-17")

    assert (done.exit_code, done.stdout) == (0, "did: held it\n")
    ((_, sent, headers),) = plane.asked
    assert sent == body
    assert headers["idempotency-key"] == "ticket-17"


@pytest.mark.parametrize("name", ["A/x.json", "http://127.0.0.1:10000/tidegatelocal/deadletter/A/x.json"])
def test_a_dead_letter_is_dismissed_with_a_reason(plane: Plane, name: str) -> None:
    answer = {"dead_letter": "A/x.json", "did": ["dismissed it"], "did_not": []}
    plane.tell("POST /api/dismissals", (200, answer))

    text = tidegate(plane, "dismiss", name, "--reason", "a probe")
    document = tidegate(plane, "dismiss", name, "--reason", "a probe", "--json")

    assert (text.exit_code, text.stdout) == (0, "did: dismissed it\n")
    assert json.loads(document.stdout) == answer
    assert [body for _, body, _ in plane.asked] == [{"dead_letter": "A/x.json", "reason": "a probe"}] * 2


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("A/x.json",), 2, "--reason"),
        (("A/x.json", "--reason", " "), 1, "--reason: got nothing, expected why"),
        (("A/x.txt", "--reason", "ours"), 1, "got 'A/x.txt', expected the name of a dead letter"),
    ],
)
def test_a_dismissal_without_a_reason_or_of_no_letter_is_not_sent(
    plane: Plane, arguments: tuple[str, ...], exit_code: int, said: str
) -> None:
    done = tidegate(plane, "dismiss", *arguments)

    assert (done.exit_code, plane.asked) == (exit_code, [])
    assert said in done.stderr


def test_a_replay_that_was_refused_in_part_tells_both_and_fails(plane: Plane) -> None:
    """It ended with 0, and a script took the message for handled."""
    answer = {"error": "1 of its 2 messages were refused again: b: no", "did": ["a: held"], "did_not": ["b: no"]}
    plane.tell("POST /api/replays", (409, answer))

    text, document = tidegate(plane, "replay", "A/x.json"), tidegate(plane, "replay", "A/x.json", "--json")

    assert (text.exit_code, document.exit_code) == (4, 4)
    assert text.stdout.splitlines() == ["did: a: held", "did not: b: no"]
    assert json.loads(document.stdout) == answer
    assert "409, 1 of its 2 messages were refused again: b: no" in text.stderr


@pytest.mark.parametrize("text", ["2026-03-01T12:30Z", "2026-03-01T12:30:00.000000Z"])
def test_a_replay_takes_the_times_that_explain_takes(plane: Plane, text: str) -> None:
    plane.tell("POST /api/replays", (200, {"id": "r", "did": [], "did_not": []}))

    done = tidegate(plane, "replay", ARRIVAL, "--at", text)

    assert done.exit_code == 0
    assert plane.asked[0][1] == {"arrival": ARRIVAL, "at": "2026-03-01T12:30:00.000000Z"}


@pytest.mark.parametrize("key", ["", "ticket 17", "ticket\n17", "\u0431", "x" * 129])
def test_a_key_that_no_header_can_carry_or_that_stands_for_none_is_refused(plane: Plane, key: str) -> None:
    """An empty one would be no key at all, and the app would be said not to answer to another alphabet's."""
    done = tidegate(plane, "replay", ARRIVAL, "--key", key)

    assert (done.exit_code, plane.asked) == (1, [])
    assert "--key: got" in done.stderr


def test_what_is_no_target_is_not_sent(plane: Plane) -> None:
    replayed, cancelled = tidegate(plane, "replay", "something"), tidegate(plane, "cancel", "something")

    assert (replayed.exit_code, cancelled.exit_code) == (1, 1)
    assert "expected an arrival's id, a run's id, or the name of a dead letter" in replayed.stderr
    assert plane.asked == []


@pytest.mark.parametrize(
    ("status", "exit_code"), [(400, 4), (401, 4), (403, 4), (404, 4), (409, 4), (429, 5), (500, 5), (503, 5)]
)
def test_a_refusal_and_a_not_now_have_exit_codes_of_their_own(plane: Plane, status: int, exit_code: int) -> None:
    plane.tell(f"POST /api/runs/{RUN}/cancel", (status, {"error": "for this reason"}))

    done = tidegate(plane, "cancel", RUN)

    assert done.exit_code == exit_code
    assert f"{status}, for this reason" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_answer_is_a_not_now(plane: Plane) -> None:
    done = tidegate(plane, "cancel", RUN, TIDEGATE_API_URL="http://127.0.0.1:9")

    assert done.exit_code == 5
    assert "did not answer" in done.stderr


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"TIDEGATE_API_URL": "http://tidegate.example"}, "TIDEGATE_API_URL"),
        ({"TIDEGATE_API_URL": "https://"}, "TIDEGATE_API_URL"),
        ({"TIDEGATE_API_URL": "https://[tidegate"}, "TIDEGATE_API_URL"),
        ({"TIDEGATE_API_URL": "https://tidegate.example:port"}, "TIDEGATE_API_URL"),
        ({"TIDEGATE_API_URL": "https://tide gate.example"}, "TIDEGATE_API_URL"),
        ({"TIDEGATE_API_KEY": ""}, "TIDEGATE_API_KEY"),
    ],
)
def test_a_key_goes_nowhere_unencrypted(plane: Plane, environ: dict[str, str], told: str) -> None:
    done = tidegate(plane, "cancel", RUN, **environ)

    assert done.exit_code == 1
    assert told in done.stderr
    assert "the-key" not in done.stderr


@pytest.mark.parametrize("name", ["TIDEGATE_API_KEY", "TIDEGATE_API_TOKEN"])
@pytest.mark.parametrize("value", ["a\rsecret", "a\nsecret", "a-secret\u20ac"])
def test_a_secret_that_no_header_can_have_is_not_shown(plane: Plane, name: str, value: str) -> None:
    """The error of the header shows what it got."""
    done = tidegate(plane, "runs", **{name: value})

    assert done.exit_code == 1
    assert done.stderr == f"Error: {name}: got characters that no header can have, expected one line of ASCII\n"
    assert plane.asked == []


def test_a_secret_from_a_file_of_windows_is_taken_without_its_lines_end(plane: Plane) -> None:
    plane.tell("GET /api/runs?limit=100", (200, {"runs": []}))

    done = tidegate(plane, "runs", TIDEGATE_API_KEY="the-key\r\n", TIDEGATE_API_TOKEN="the-token\r")

    assert done.exit_code == 0
    (_, _, headers) = plane.asked[0]
    assert (headers["x-functions-key"], headers["authorization"]) == ("the-key", "Bearer the-token")


def test_a_key_that_the_host_does_not_take_is_said_to_be_the_cause(plane: Plane) -> None:
    """The host answers without words; each function has keys of its own."""
    plane.tell("GET /api/runs?limit=100", (401, None))

    done = tidegate(plane, "runs")

    assert done.exit_code == 4
    assert "401, Unauthorized; expected in TIDEGATE_API_KEY a key of the function that is called" in done.stderr


def test_a_backfill_is_followed_to_its_plan_and_says_how_to_go_on(plane: Plane) -> None:
    begun = {**BACKFILL, "did": ["began a dry run, which changes nothing"], "did_not": []}
    counted = {**BACKFILL, "state": "counted", "plan": BACKFILL["counts"], "confirm": "89abcdef"}
    plane.tell("POST /api/backfills", (202, begun))
    plane.tell(f"GET /api/backfills/{BACKFILL['id']}", (200, BACKFILL), (200, counted))

    done = tidegate(
        plane, "backfill", "flight_delay_scoring", "--prefix", "flights/new/", "--since", "2026-01-01", "--again"
    )

    assert done.exit_code == 0, done.stderr
    assert plane.asked[0][1] == {
        "pipeline": "flight_delay_scoring",
        "prefix": "flights/new/",
        "since": "2026-01-01T00:00:00.000000Z",
        "again": True,
    }
    assert "2 new: would be recorded" in done.stdout
    assert "--confirm 89abcdef" in done.stdout


def test_a_backfill_as_json_is_one_document(plane: Plane) -> None:
    plane.tell("POST /api/backfills", (202, {**BACKFILL, "state": "done", "did": [], "did_not": ["it is done"]}))

    done = tidegate(plane, "backfill", "flight_delay_scoring", "--yes", "--json")

    assert json.loads(done.stdout)["did_not"] == ["it is done"]
    assert plane.asked[0][1] == {"pipeline": "flight_delay_scoring", "prefix": "", "yes": True}


def test_backfills_are_listed(plane: Plane) -> None:
    plane.tell("GET /api/backfills?limit=20", (200, {"backfills": [BACKFILL]}))

    text, document = tidegate(plane, "backfills"), tidegate(plane, "backfills", "--json")

    assert "0123456789abcdef" in text.stdout
    assert json.loads(document.stdout) == BACKFILL


def test_dead_letters_are_listed(plane: Plane) -> None:
    plane.tell("GET /api/dead-letters?limit=100", (200, {"dead_letters": [LETTER]}))

    text, document = tidegate(plane, "dead-letters"), tidegate(plane, "dead-letters", "--json")

    assert "poison/x[1].json" in text.stdout
    assert json.loads(document.stdout) == LETTER


def test_dead_letters_that_were_replayed_are_listed_on_demand(plane: Plane) -> None:
    replayed = {"at": "2026-03-02T08:30:00.000000Z", "did": ["e-1: arrival [1] is held"]}
    letter = {"name": "A/x.json", "at": "2026-03-01T00:00:00.000000Z", "queue": None, "reason": None}
    dismissed = {"at": "2026-03-03T09:45:00.000000Z", "by": "ann", "reason": "a [probe]"}
    letters = [
        {**letter, "replayed": replayed, "dismissed": None},
        {**letter, "name": "A/y.json", "replayed": None},
        {**letter, "name": "A/z.json", "replayed": None, "dismissed": dismissed},
    ]
    plane.tell("GET /api/dead-letters?limit=100", (200, {"dead_letters": []}))
    plane.tell("GET /api/dead-letters?all=1&limit=100", (200, {"dead_letters": letters}))

    waiting, text = tidegate(plane, "dead-letters"), tidegate(plane, "dead-letters", "--all")
    documents = tidegate(plane, "dead-letters", "--all", "--json")

    assert (
        waiting.stdout
        == "Nothing that was given up waits for anybody; --all lists what was replayed or dismissed, too.\n"
    )
    assert "2026-03-02T08:30:00" in text.stdout
    assert "replayed: e-1: arrival [1] is held" in text.stdout
    assert "2026-03-03T09:45:00" in text.stdout
    assert "dismissed by ann: a [probe]" in text.stdout
    assert [json.loads(line) for line in documents.stdout.splitlines()] == letters


@pytest.mark.parametrize(
    ("command", "entry", "narrowed"),
    [
        ("runs", LISTED_RUN, ": narrow it with --pipeline, --state, --blob or --model"),
        ("arrivals", LISTED_ARRIVAL, ": narrow it with --pipeline, --state or --blob"),
        ("signals", LISTED_SIGNAL, ""),
        ("backfills", BACKFILL, ""),
        ("dead-letters", LETTER, ": narrow it with --prefix"),
    ],
)
def test_a_list_that_was_cut_says_so_and_how_to_see_more(
    plane: Plane, command: str, entry: dict[str, Any], narrowed: str
) -> None:
    """On standard error, so what reads the list finds the same in it as before."""
    for limit, has_more in (("2", True), ("600", True), ("1000", True), ("3", False)):
        answer = {command.replace("-", "_"): [entry], "has_more": has_more}
        plane.tell(f"GET /api/{command}?limit={limit}", (200, answer))

    text, further, most, whole = (tidegate(plane, command, "--limit", limit) for limit in ("2", "600", "1000", "3"))
    document = tidegate(plane, command, "--limit", "2", "--json")

    assert [done.exit_code for done in (text, further, most, whole, document)] == [0] * 5
    assert text.output.splitlines()[-1] == "showing 2, there are more: --limit 4"  # where it is seen
    assert text.stderr == document.stderr == "showing 2, there are more: --limit 4\n"
    assert further.stderr == "showing 600, there are more: --limit 1000\n"
    assert most.stderr == f"showing 1000, there are more than one answer has{narrowed}\n"
    assert (whole.stderr, text.stdout) == ("", whole.stdout)
    assert json.loads(document.stdout) == entry


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "7x", "", "2026-03-01T12:30"])
def test_a_time_that_is_none_is_refused_with_how_to_write_it(text: str) -> None:
    with pytest.raises(CommandError, match="expected a time as"):
        instant_of("--since", text)


def test_a_backfills_time_is_the_same_whenever_it_is_said() -> None:
    """So long ago, as 7d, would be another backfill at each call."""
    assert instant_of("--since", "7d") is not None
    with pytest.raises(CommandError):
        moment_of("--since", "7d")
