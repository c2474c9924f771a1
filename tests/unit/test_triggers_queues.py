"""Tests which messages are quarantined at once, and which the host delivers again."""

import base64
import json
from pathlib import Path

import azure.functions as func
import pytest

from functions.core.errors import AccessRefusedError, InvalidSettingsError, MlopsError, Problem
from functions.settings import parse_settings
from functions.triggers import queues
from tests.support.control_plane import World, blob_message, make_blob
from tests.support.in_memory import Faults
from tests.unit.test_settings import APP, LOCAL


class FailingTables(Faults):
    """Answers every write of an arrival with an error."""

    def __init__(self, error: MlopsError) -> None:
        self.error = error

    def before(self, call: str) -> None:
        if call == "tables.arrivals.insert":
            raise self.error


class Handoff(func.Out[str]):
    """Takes what the host would send."""

    def set(self, val: str) -> None:
        del val

    def get(self) -> str:
        return ""


def receive(world: World, name: str, body: bytes, monkeypatch: pytest.MonkeyPatch, *outputs: func.Out[str]) -> None:
    """Have a function handle a message as the host would."""
    monkeypatch.setattr(queues, "control_plane", lambda: world.plane)
    app = func.FunctionApp()
    app.register_functions(queues.queue_functions(parse_settings(LOCAL, app_dir=APP)))
    function = next(found for found in app.get_functions() if found.get_function_name() == name)
    function.get_user_function()(func.QueueMessage(id="m-1", body=body), *outputs)


def receive_arrival(world: World, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    receive(world, "arrivals", message.encode(), monkeypatch, Handoff())


@pytest.mark.parametrize(
    "error",
    [
        AccessRefusedError("recording an arrival", "HttpResponseError 403"),
        InvalidSettingsError([Problem("HTTPS_PROXY", "'socks5://proxy'", "one of HTTP")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_message_that_meets_a_missing_role_or_a_wrong_setting_is_delivered_again(
    monkeypatch: pytest.MonkeyPatch, error: MlopsError
) -> None:
    """Neither is the message's fault."""
    world = World(faults=FailingTables(error))

    with pytest.raises(type(error)):
        receive_arrival(world, blob_message(make_blob()), monkeypatch)

    assert world.quarantine.documents == {}


def test_the_host_passes_messages_on_as_they_are() -> None:
    """Told to expect base64, it would leave whatever is none in the poison queue, unseen, until it expires."""
    host = json.loads((Path(__file__).parents[2] / "host.json").read_text())

    assert host["extensions"]["queues"]["messageEncoding"] == "none"


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_an_event_is_read_with_and_without_base64(monkeypatch: pytest.MonkeyPatch, *, is_wrapped: bool) -> None:
    world = World()
    blob = make_blob()
    message = blob_message(blob)

    receive_arrival(world, base64.b64encode(message.encode()).decode() if is_wrapped else message, monkeypatch)

    assert world.quarantine.documents == {}
    assert world.arrival(blob).blob == blob


def test_bytes_that_are_no_text_are_kept_as_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a message is lost by reading it."""
    world = World()

    receive_arrival(world, "//4A", monkeypatch)

    (document,) = world.quarantine.documents.values()
    assert document["message"] == "//4A"


def test_a_message_that_cannot_be_read_is_quarantined_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    receive_arrival(world, "no event", monkeypatch)

    assert len(world.quarantine.documents) == 1


@pytest.mark.parametrize("queue", ["dispatch", "completions"])
def test_bytes_that_are_no_text_are_quarantined_at_once(queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the simulation: decoding such a message failed time and again until the host gave it up."""
    world = World()

    receive(world, queue, b"\xff\xfe", monkeypatch)

    (document,) = world.quarantine.documents.values()
    assert document["queue"] == queue
