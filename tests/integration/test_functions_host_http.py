"""HTTP functions on the local Functions host: routes, keys, status codes, administration."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.functions_host import FunctionsHost, functions_host_running, until

pytestmark = pytest.mark.integration

APP = Path(__file__).parent / "apps/functions_host_http"


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records") / "records.jsonl"


@pytest.fixture(scope="module")
def host(records: Path) -> Iterator[FunctionsHost]:
    """A running host whose app has HTTP functions and a timer that never fires, so it needs no storage."""
    settings = {
        "SOME_SETTING": "its value",
        "RECORD_FILE": str(records),
        "PYTHON_THREADPOOL_THREAD_COUNT": "2",
        "PYTHON_ENABLE_OPENTELEMETRY": "true",
        "AzureWebJobs.switched_off.Disabled": "true",
    }
    with functions_host_running(APP, settings, host_options={"FunctionKeys": {"echo": {"own": "echo-key"}}}) as running:
        yield running


def test_a_function_gets_the_request_as_on_azure(host: FunctionsHost) -> None:
    reply = host.request(
        "POST",
        "/API/Echo/007?b=2&a=1&a=3&empty=",
        key=host.default_key,
        body="größe".encode(),
        headers={"X-Mixed-Case": "Yes"},
    )

    assert reply.status == 200
    received = reply.json()
    assert received["method"] == "POST"
    assert received["url"] == f"{host.url}/API/Echo/007?b=2&a=1&a=3&empty="
    assert received["params"] == {"id": "007"}
    assert received["query"] == {"b": "2", "a": "1,3"}
    assert received["body"] == "größe"
    assert received["headers"]["x-mixed-case"] == "Yes"
    assert received["setting"] == "its value"
    assert Path(received["path"]) == APP


def test_a_response_keeps_status_headers_and_cookies(host: FunctionsHost) -> None:
    reply = host.request("GET", "/api/echo/special")

    assert (reply.status, reply.body) == (201, b"special")
    assert reply.all("x-extra") == ["GET"]
    assert reply.all("content-type") == ["text/plain; charset=utf-8"]
    assert reply.all("set-cookie") == ["a=1; HttpOnly; Path=/", "b=2; Max-Age=60; SameSite=Lax"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/nothing"), ("DELETE", "/api/echo/1"), ("GET", "/api/echo/text"), ("GET", "/echo/1")],
)
def test_no_route_no_method_and_no_constraint_are_all_404(host: FunctionsHost, method: str, path: str) -> None:
    reply = host.request(method, path, key=host.master_key)

    assert (reply.status, reply.body) == (404, b"")


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/api/echo/1", None, 401),
        ("/api/echo/1", "wrong", 401),
        ("/api/echo/1", "the-default-function-key", 200),
        ("/api/echo/1", "echo-key", 200),
        ("/api/echo/1", "the-master-key", 200),
        ("/api/admin-only", "the-default-function-key", 401),
        ("/api/admin-only", "echo-key", 401),
        ("/api/admin-only", "the-master-key", 200),
        ("/api/switched-off", "the-default-function-key", 404),
        ("/api/switched-off", "the-master-key", 200),
        ("/admin/host/status", None, 401),
        ("/admin/host/status", "the-default-function-key", 403),
        ("/admin/host/status", "the-master-key", 200),
        ("/admin/host/ping", None, 200),
    ],
)
def test_a_key_opens_what_it_is_for(host: FunctionsHost, path: str, key: str | None, status: int) -> None:
    assert host.request("GET", path, key=key).status == status


def test_the_key_may_be_in_the_query_and_the_header_wins(host: FunctionsHost) -> None:
    path = f"/api/echo/1?code={host.default_key}"

    assert host.request("GET", path).status == 200
    assert host.request("GET", path, key="wrong").status == 401


def test_a_function_that_raises_is_500_without_a_body_and_logged_with_its_traceback(host: FunctionsHost) -> None:
    reply = host.request("GET", "/api/broken", key=host.default_key)

    assert (reply.status, reply.body) == (500, b"")
    until(lambda: "ValueError: boom on GET" in host.log_text(), what="the exception in the log")


def test_a_function_that_returns_nonsense_is_500(host: FunctionsHost) -> None:
    assert host.request("GET", "/api/nonsense", key=host.default_key).status == 500


def test_the_trace_context_is_the_caller_s_or_a_new_one(host: FunctionsHost) -> None:
    given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    kept = host.request("GET", "/api/echo", key=host.default_key, headers={"traceparent": given}).json()
    made = host.request("GET", "/api/echo", key=host.default_key, headers={"traceparent": "garbage"}).json()

    assert kept["traceparent"] == given
    assert len(made["traceparent"]) == len(given)
    assert made["traceparent"][3:35] != given[3:35]


def test_logs_carry_the_invocation_that_wrote_them(host: FunctionsHost) -> None:
    """Also from the thread of a sync function."""
    invocation_id = host.request("GET", "/api/context", key=host.default_key).json()["invocation_id"]

    line = f"Function.context_of_sync_function.User [{invocation_id}] test: seen by GET"
    until(lambda: line in host.log_text(), what="the log line")


def test_context_variables_reach_the_thread_of_a_sync_function(host: FunctionsHost) -> None:
    """azure-functions-runtime 1.3.0 alone would lose the trace context there."""
    given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    seen = host.request("GET", "/api/otel", key=host.default_key, headers={"traceparent": given}).json()

    assert seen == {"trace_id": given[3:35], "span_id": given[36:52]}


def test_sync_functions_share_as_many_threads_as_the_setting_says(host: FunctionsHost) -> None:
    def call(_: int) -> str:
        return str(host.request("GET", "/api/slow?s=0.1", key=host.default_key).json()["thread"])

    with ThreadPoolExecutor(6) as pool:
        threads = set(pool.map(call, range(6)))

    assert len(threads) == 2


def test_async_functions_run_at_the_same_time(host: FunctionsHost) -> None:
    """Each of the two waits for the other."""
    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(lambda _: host.request("GET", "/api/meet", key=host.default_key), range(2)))

    assert [reply.status for reply in replies] == [200, 200]


def test_a_large_body_comes_back_whole(host: FunctionsHost) -> None:
    body = b"0123456789abcdef" * 65536 * 4

    reply = host.request("POST", "/api/mirror", key=host.default_key, body=body)

    assert reply.body == body


def test_the_status_names_the_state_and_the_worker(host: FunctionsHost) -> None:
    status = host.status()

    assert status["state"] == "Running"
    assert status["worker"]["pid"] == host.worker_pid
    assert "errors" not in status
    assert "azure-functions-runtime 1.3.0" in status["versionDetails"]


def test_functions_are_listed_with_their_bindings(host: FunctionsHost) -> None:
    listed = {entry["name"]: entry for entry in host.request("GET", "/admin/functions", key=host.master_key).json()}

    assert listed["echo"]["invoke_url_template"] == f"{host.url}/api/echo/{{id:int?}}"
    assert listed["echo"]["config"]["bindings"][0]["type"] == "httpTrigger"
    assert listed["switched_off"]["isDisabled"] is True
    assert listed["never"]["invoke_url_template"] is None
    one = host.request("GET", "/admin/functions/NEVER", key=host.master_key)
    assert one.json()["name"] == "never"
    assert host.request("GET", "/admin/functions/unknown", key=host.master_key).status == 404


def test_a_timer_can_be_fired_by_hand(host: FunctionsHost, records: Path) -> None:
    reply = host.request("POST", "/admin/functions/never", key=host.master_key, body=b'{"input": ""}')

    assert reply.status == 202
    until(records.exists, what="the timer's record")
    assert json.loads(records.read_text().splitlines()[0]) == {"function": "never", "past_due": False}


def test_firing_by_hand_needs_a_known_function_and_a_body(host: FunctionsHost) -> None:
    path = "/admin/functions/never"

    assert host.request("POST", path, body=b"{}").status == 401
    assert host.request("POST", path, key=host.master_key, body=b"").status == 400
    assert host.request("POST", "/admin/functions/unknown", key=host.master_key, body=b"{}").status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/admin/host/keys"), ("POST", "/admin/host/drain"), ("POST", "/runtime/webhooks/EventGrid")],
)
def test_what_is_not_implemented_says_so(host: FunctionsHost, method: str, path: str) -> None:
    reply = host.request(method, path, key=host.master_key)

    assert reply.status == 501
    assert path in reply.body.decode()


def test_the_root_answers(host: FunctionsHost) -> None:
    assert host.request("GET", "/").status == 200
