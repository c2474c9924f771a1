"""Deaths and failures on the local Functions host: worker, host, app."""

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from azure.storage.queue import QueueClient

from local.functions_host.errors import ConfigurationError
from local.functions_host.index import index_app
from tests.support.azurite import Azurite, azurite_running
from tests.support.functions_host import functions_host_running, until
from tests.support.functions_host_records import LISTENERS_APP, Records, listener_settings

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    with azurite_running() as running:
        yield running


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "records.jsonl")


@pytest.fixture
def settings(azurite: Azurite, records: Records) -> dict[str, str]:
    return listener_settings(azurite, records, f"work-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def queue(azurite: Azurite, settings: dict[str, str]) -> Iterator[QueueClient]:
    client = QueueClient.from_connection_string(azurite.connection_string, settings["WORK_QUEUE"])
    client.create_queue()
    with closing(client):
        yield client


def _send(queue: QueueClient, text: str) -> None:
    queue.send_message(base64.b64encode(text.encode()).decode())


def _make_app(folder: Path, source: str, host_json: object = None) -> Path:
    (folder / "host.json").write_text(json.dumps(host_json or {"version": "2.0"}), encoding="utf-8")
    (folder / "function_app.py").write_text(source, encoding="utf-8")
    return folder


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_message_whose_worker_is_killed_is_delivered_again(
    settings: dict[str, str], queue: QueueClient, records: Records
) -> None:
    with functions_host_running(LISTENERS_APP, settings) as host:
        _send(queue, "linger 60")
        until(lambda: records.all("work", text="linger 60"), what="the first attempt")

        os.kill(host.worker_pid, signal.SIGKILL)

        until(lambda: records.all("work", text="linger 60", done=True), what="the second attempt's success")
        attempts = [entry for entry in records.all("work", text="linger 60") if "id" in entry]
        assert [entry["attempt"] for entry in attempts] == [1, 2]
        assert attempts[0]["pid"] != attempts[1]["pid"]
        status = host.status()
        assert status["worker"]["starts"] == 2
        assert status["worker"]["lastExit"] == "killed by SIGKILL"


def test_a_message_that_kills_the_worker_is_poisoned_in_the_end(
    azurite: Azurite, settings: dict[str, str], queue: QueueClient, records: Records
) -> None:
    with (
        functions_host_running(LISTENERS_APP, settings),
        closing(
            QueueClient.from_connection_string(azurite.connection_string, f"{settings['WORK_QUEUE']}-poison")
        ) as poison,
    ):
        _send(queue, "die 99")
        until(lambda: [e["attempt"] for e in records.all("work", text="die 99")] == [1, 2, 3], what="three attempts")

        _send(queue, "afterwards")

        until(lambda: records.all("work", text="afterwards", done=True), what="the next message")
        assert [message.content for message in poison.peek_messages()] == [base64.b64encode(b"die 99").decode()]


def test_a_call_whose_worker_is_killed_fails_and_the_next_one_waits_for_the_next_worker(
    settings: dict[str, str], records: Records
) -> None:
    with functions_host_running(LISTENERS_APP, settings) as host:
        statuses: list[int] = []

        def call() -> None:
            statuses.append(host.request("POST", "/api/sleep", key=host.default_key, body=b"60").status)

        caller = threading.Thread(target=call)
        caller.start()
        until(lambda: records.all("sleep"), what="the running function")
        os.kill(host.worker_pid, signal.SIGKILL)
        caller.join(20)

        assert statuses == [500]
        assert host.request("POST", "/api/sleep", key=host.default_key, body=b"0").status == 200


def test_a_killed_worker_takes_the_processes_with_it_that_its_functions_started(settings: dict[str, str]) -> None:
    with functions_host_running(LISTENERS_APP, settings) as host:
        child = int(host.request("POST", "/api/spawn", key=host.default_key).body)

        assert host.stop() == 0

        until(lambda: _is_gone(child), what="the end of the function's process")


def test_nothing_is_left_when_the_host_is_killed(settings: dict[str, str], records: Records) -> None:
    """Not even a worker whose event loop is blocked, nor what a function started."""
    with functions_host_running(LISTENERS_APP, settings) as host:
        worker = host.worker_pid
        child = int(host.request("POST", "/api/spawn", key=host.default_key).body)
        caller = threading.Thread(target=_ignore_failure, args=(host.port, host.default_key))
        caller.start()
        until(lambda: records.all("block"), what="the blocked event loop")

        host.kill()

        until(lambda: _is_gone(worker), what="the worker's end")
        until(lambda: _is_gone(child), what="the end of the function's process")
        caller.join(20)


def _ignore_failure(port: int, key: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with closing(connection):
        connection.request("POST", "/api/block", body=b"60", headers={"x-functions-key": key})
        try:
            connection.getresponse()
        except OSError:
            return


def test_a_message_in_work_when_the_host_is_killed_comes_back_after_its_lease(
    settings: dict[str, str], queue: QueueClient, records: Records
) -> None:
    options = {"QueueLease": "00:00:02"}
    with functions_host_running(LISTENERS_APP, settings, host_options=options) as host:
        _send(queue, "linger 60")
        until(lambda: records.all("work", text="linger 60"), what="the first attempt")
        host.kill()

    with functions_host_running(LISTENERS_APP, settings, host_options=options):
        until(lambda: records.all("work", text="linger 60", done=True), what="the second attempt's success")

    assert [e["attempt"] for e in records.all("work", text="linger 60") if "id" in e] == [1, 2]


def test_a_message_in_work_when_the_host_stops_is_visible_at_once(
    settings: dict[str, str], queue: QueueClient, records: Records
) -> None:
    with functions_host_running(LISTENERS_APP, settings) as host:
        _send(queue, "linger 60")
        until(lambda: records.all("work", text="linger 60"), what="the first attempt")
        assert host.stop() == 0

    assert [message.content for message in queue.peek_messages()] == [base64.b64encode(b"linger 60").decode()]


def test_a_function_that_takes_too_long_fails_and_restarts_the_worker(tmp_path: Path) -> None:
    source = (
        "import time, azure.functions as func\n"
        "app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)\n"
        "@app.route('slow')\n"
        "def slow(req: func.HttpRequest) -> func.HttpResponse:\n"
        "    time.sleep(float(req.params['s']))\n"
        "    return func.HttpResponse('done')\n"
    )
    app = _make_app(tmp_path, source, {"version": "2.0", "functionTimeout": "00:00:01"})
    with functions_host_running(app, {}) as host:
        first = host.worker_pid

        reply = host.request("GET", "/api/slow?s=60")

        assert reply.status == 500
        assert host.request("GET", "/api/slow?s=0").body == b"done"
        assert host.worker_pid != first
        assert "timeout of 1 s was exceeded by function 'slow'" in host.log_text()


APP = "import azure.functions as func\napp = func.FunctionApp()\n"
HTTP = f"{APP}@app.route('a')\n"
BLOB = f"{APP}@app.blob_trigger(arg_name='blob', path='in/{{name}}', connection='S')\n"
QUEUE = f"{APP}@app.queue_trigger(arg_name='m', queue_name='q', connection='Nowhere')\n"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no such thing as a default')", "RuntimeError: no such thing as a default"),
        ("import not_installed_anywhere", "not_installed_anywhere"),
        ("def broken(:", "SyntaxError"),
        ("import sys; sys.exit(4)", "SystemExit: 4"),
        ("import os; os._exit(4)", "the worker process ended while it imported the app: exit code 4"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("x = 1", "Could not find top level function app instances"),
        (APP, "the app has no functions"),
        (f"{HTTP}def a(request: func.HttpRequest) -> func.HttpResponse: ...", "cannot load the a function"),
        (f"{BLOB}def a(blob: func.InputStream) -> None: ...", "'blob' of type 'blobTrigger': not implemented locally"),
        (f"{QUEUE}def a(m: func.QueueMessage) -> None: ...", "no connection string: set 'Nowhere'"),
    ],
)
def test_a_bad_app_is_an_error_state_with_the_real_reason(tmp_path: Path, source: str, reason: str) -> None:
    app = _make_app(tmp_path, source)
    with functions_host_running(app, {}, wait_running=False) as host:
        status = until(lambda: [s for s in [host.status()] if s["state"] == "Error"], what="the state Error")[0]

        assert reason in status["errors"][0]
        assert host.request("GET", "/admin/host/ping").status == 200
        assert host.request("GET", "/api/a", key=host.master_key).status == 503


def test_the_error_of_a_bad_app_has_the_traceback_and_a_mended_app_is_served(tmp_path: Path) -> None:
    app = _make_app(tmp_path, "def helper():\n    raise KeyError('colour')\nhelper()")
    with functions_host_running(app, {}, wait_running=False) as host:
        status = until(lambda: [s for s in [host.status()] if s["state"] == "Error"], what="the state Error")[0]
        assert f'File "{app / "function_app.py"}", line 2, in helper' in status["errors"][0]

        _make_app(
            tmp_path,
            "import azure.functions as func\napp = func.FunctionApp(http_auth_level='ANONYMOUS')\n"
            "@app.route('a')\ndef a(req: func.HttpRequest) -> func.HttpResponse:\n    return func.HttpResponse('ok')",
        )

        until(lambda: host.status()["state"] == "Running", what="the state Running")
        assert host.request("GET", "/api/a").body == b"ok"


def test_a_restart_picks_up_new_code(tmp_path: Path) -> None:
    source = f"{HTTP}def a(req: func.HttpRequest) -> func.HttpResponse: return func.HttpResponse('%s')"
    app = _make_app(tmp_path, source % "old")
    with functions_host_running(app, {}) as host:
        assert host.request("GET", "/api/a", key=host.default_key).body == b"old"
        first = host.worker_pid

        _make_app(tmp_path, source % "a new one")
        assert host.request("POST", "/admin/host/restart", key=host.master_key).status == 202

        until(lambda: host.worker_pid != first, what="another worker")
        assert host.request("GET", "/api/a", key=host.default_key).body == b"a new one"
        assert "errors" not in host.status()


def test_workers_that_keep_dying_are_reported(tmp_path: Path) -> None:
    app = _make_app(tmp_path, f"import os\n{HTTP}def a(req: func.HttpRequest) -> func.HttpResponse: os._exit(7)")
    with functions_host_running(app, {}) as host:
        for _ in range(3):
            assert host.request("GET", "/api/a", key=host.default_key).status == 500

        (error,) = until(lambda: host.status().get("errors", []), what="an error in the status")
        assert error == "the worker process keeps dying, last: exit code 7"
        until(lambda: host.status()["worker"]["isReady"], what="yet another worker")


def test_without_keys_the_host_does_not_start_unless_told_to(tmp_path: Path) -> None:
    file = tmp_path / "local.settings.json"
    file.write_text('{"IsEncrypted": false, "Values": {}}', encoding="utf-8")

    outcome = _run("local.functions_host", "--app-dir", str(LISTENERS_APP), "--port", "1", "--settings", str(file))

    assert outcome.returncode == 1
    assert "Host.Keys.master" in outcome.stderr


def test_a_taken_port_is_told(tmp_path: Path, settings: dict[str, str]) -> None:
    with functions_host_running(LISTENERS_APP, settings) as host:
        file = tmp_path / "local.settings.json"
        file.write_text(json.dumps({"Values": settings, "Host": {"Keys": {"master": "m"}}}), encoding="utf-8")
        port = str(host.port)

        outcome = _run("local.functions_host", "--app-dir", str(LISTENERS_APP), "--port", port, "--settings", str(file))

    assert outcome.returncode == 1
    assert f"port {port} is taken" in outcome.stderr


def _run(module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_index_is_what_microsofts_runtime_finds() -> None:
    outcome = _run("local.functions_host.index", "--app-dir", str(LISTENERS_APP))

    listed = {entry["name"]: entry["trigger"]["type"] for entry in json.loads(outcome.stdout)}
    assert outcome.returncode == 0
    assert listed == {
        "at_start": "timerTrigger",
        "binary": "queueTrigger",
        "block": "httpTrigger",
        "enqueue": "httpTrigger",
        "nightly": "timerTrigger",
        "sleep": "httpTrigger",
        "spawn": "httpTrigger",
        "tick": "timerTrigger",
        "work": "queueTrigger",
    }


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import azure.functions as func\napp = func.FunctionApp()", "has no functions"),
        ("import not_installed_anywhere", "not_installed_anywhere"),
    ],
)
def test_the_index_of_a_bad_app_is_an_error(tmp_path: Path, source: str, reason: str) -> None:
    app = _make_app(tmp_path, source)

    with pytest.raises(ConfigurationError, match=reason):
        index_app(app)


def test_an_app_cannot_lean_on_the_folder_of_the_host(tmp_path: Path) -> None:
    """A deployed app has only its own folder and the installed packages."""
    app = _make_app(tmp_path, "import sys\nraise RuntimeError([path for path in sys.path if not path])")

    with pytest.raises(ConfigurationError, match=r"RuntimeError: \[\]"):
        index_app(app)
