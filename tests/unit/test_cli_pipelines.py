"""Tests what the commands about pipelines ask of the control plane, and what they print."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cli.failures import CommandError
from cli.pipeline_commands import allow_runs, list_pipelines, pause_pipeline, resume_pipeline

ALL = {
    "pipeline": "all", "is_paused": False, "paused_by": None, "paused_at": None, "pause_reason": None,
    "are_all_paused": False, "waits": None, "in_flight": 3, "max_in_flight": 50, "begun_today": 12,
    "max_runs_today": None, "held_arrivals": None,
}  # fmt: skip
PAUSED = ALL | {
    "pipeline": "flight_delay_scoring", "is_paused": True, "paused_by": "ada", "waits": "paused",
    "paused_at": "2026-03-01T12:00:00.000000Z", "pause_reason": "[bold]the schema changes", "max_in_flight": 4,
    "max_runs_today": 20, "held_arrivals": 7,
}  # fmt: skip


class _Stub(ThreadingHTTPServer):
    """A control plane that notes what it is asked and answers what it is told."""

    asked: list[tuple[str, str, str | None, object]]
    answer: tuple[int, object]


class _Handler(BaseHTTPRequestHandler):
    server: _Stub

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.asked.append((self.command, self.path, self.headers.get("x-functions-key"), body))
        status, document = self.server.answer
        payload = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the standard library
        """Say nothing."""


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Stub]:
    with _Stub(("127.0.0.1", 0), _Handler) as server:
        server.asked, server.answer = [], (200, {})
        monkeypatch.setenv("TIDEGATE_API_URL", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("TIDEGATE_API_KEY", "secret")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def test_a_pause_says_who_and_why_and_prints_what_was_done(stub: _Stub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.answer = (200, {"did": ["paused pipeline p"], "did_not": ["left 1 run(s) alone"]})

    pause_pipeline("p", reason="costs", as_json=False)

    ((method, path, key, body),) = stub.asked
    assert (method, path, key) == ("POST", "/api/pipelines/p/pause", "secret")
    assert isinstance(body, dict)
    assert (body["reason"], bool(body["by"])) == ("costs", True)
    assert capsys.readouterr().out == "did: paused pipeline p\ndid not: left 1 run(s) alone\n"


def test_the_answer_is_printed_as_json_when_asked_for(stub: _Stub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.answer = (200, {"did": [], "did_not": ["resumed nothing"], "status": PAUSED})

    resume_pipeline("p", reason="", as_json=True)
    resumed = capsys.readouterr().out
    allow_runs("p", 9, as_json=True)

    assert json.loads(resumed) == json.loads(capsys.readouterr().out) == stub.answer[1]
    assert [path for _, path, _, _ in stub.asked] == ["/api/pipelines/p/resume", "/api/pipelines/p/allow"]


def test_pipelines_are_listed_for_people_and_for_machines(stub: _Stub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.answer = (200, {"pipelines": [ALL, PAUSED]})

    list_pipelines(as_json=False)
    table = capsys.readouterr().out
    list_pipelines(as_json=True)
    lines = capsys.readouterr().out.splitlines()

    assert "3 of 50" in table
    assert "by ada since 2026-03-01 12:00: [bold]the schema changes" in table
    assert [json.loads(line) for line in lines] == [ALL, PAUSED]


@pytest.mark.parametrize("name", ["", "p/../all", "P", "p q"])
def test_what_is_no_pipelines_name_is_not_sent(stub: _Stub, name: str) -> None:
    """Nothing at all was answered with the host's own 404, Not Found."""
    with pytest.raises(CommandError, match="expected all, or a pipeline's name as `tidegate pipelines` shows it"):
        pause_pipeline(name, reason="", as_json=False)

    assert stub.asked == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [((404, {"error": "no pipeline 'p'"}), "no pipeline 'p'"), ((500, "broken"), "500, broken")],
)
def test_a_refusal_is_told_in_the_control_planes_words(stub: _Stub, answer: tuple[int, object], words: str) -> None:
    stub.answer = answer

    with pytest.raises(CommandError, match=words):
        pause_pipeline("p", reason="", as_json=False)
