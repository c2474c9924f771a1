"""Tests what a person is told when the local cloud runs but its Functions cannot work."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from cli.functions_health import health_lines, problems_of
from local.supervisor.ports import PORT_NAMES
from local.supervisor.settings import CloudSettings, make_settings


@contextmanager
def functions_answering(status: int, body: bytes) -> Iterator[CloudSettings]:
    """Yield the settings of a cloud whose Functions give one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name is theirs
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield make_settings(dict.fromkeys(PORT_NAMES, server.server_port))
        finally:
            server.shutdown()
            thread.join()


def test_red_functions_tell_every_problem() -> None:
    details = [{"name": "a.b", "problem": "a.b: got 3, expected text"}, {"name": "c", "problem": "c: got nothing"}]

    with functions_answering(503, json.dumps({"status": "red", "details": details}).encode()) as settings:
        problems = problems_of(settings)

    assert health_lines(problems) == [
        "The Functions start nothing, what arrives waits:",
        "  a.b: got 3, expected text",
        "  c: got nothing",
        "Mend that, then `make down` and `make up`.",
    ]


def test_green_functions_need_no_words() -> None:
    with functions_answering(200, b'{"status": "green", "problems": [], "details": []}') as settings:
        assert health_lines(problems_of(settings)) == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"details": [1]}'])
def test_an_answer_that_cannot_be_read_is_a_problem(body: bytes) -> None:
    with functions_answering(500, body) as settings:
        problems = problems_of(settings)

    assert problems == [("functions", "no answer about their health; see `tidegate logs functions_host`")]


def test_functions_that_do_not_listen_are_a_problem() -> None:
    with functions_answering(200, b"{}") as settings:
        pass

    ((name, problem),) = problems_of(settings)

    assert name == "functions"
    assert problem.startswith("no answer about their health: ")


def test_an_answer_that_refuses_in_words_is_passed_on() -> None:
    """With app roles required the Functions work, and a key alone is not told how they are."""
    with functions_answering(401, b'{"error": "got no signed-in caller; sign in"}') as settings:
        problems = problems_of(settings)

    assert health_lines(problems) == [
        "Whether the Functions can work is not known:",
        "  no answer about their health: got no signed-in caller; sign in",
    ]


def test_nothing_is_to_be_restarted_because_storage_does_not_answer() -> None:
    assert health_lines([("ledger", "reading from marks: ServiceResponseError")]) == [
        "The Functions start nothing, what arrives waits:",
        "  reading from marks: ServiceResponseError",
        "They go on by themselves when it answers.",
    ]


def test_missing_jobs_are_a_matter_of_deploying() -> None:
    lines = health_lines([("job:scoring", "no job 'x'"), ("job:training", "no job 'y'")])

    assert lines == [
        "The Functions start nothing yet: no job 'x'; no job 'y'. Deploy with `.venv/bin/tidegate deploy`."
    ]
