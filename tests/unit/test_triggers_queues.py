"""Tests which messages are quarantined at once, and which the host delivers again."""

import azure.functions as func
import pytest

from functions.core.errors import AccessRefusedError
from functions.settings import parse_settings
from functions.triggers import queues
from tests.support.control_plane import World, blob_message, make_blob
from tests.support.in_memory import Faults
from tests.unit.test_settings import APP, LOCAL


class RefusedTables(Faults):
    """Answers every write of an arrival as storage does while a role propagates."""

    def before(self, call: str) -> None:
        if call == "tables.arrivals.insert":
            raise AccessRefusedError("recording an arrival", "HttpResponseError 403")


class Handoff(func.Out[str]):
    """Takes what the host would send."""

    def set(self, val: str) -> None:
        del val

    def get(self) -> str:
        return ""


def receive_arrival(world: World, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the arrivals function handle a message as the host would."""
    monkeypatch.setattr(queues, "control_plane", lambda: world.plane)
    app = func.FunctionApp()
    app.register_functions(queues.queue_functions(parse_settings(LOCAL, app_dir=APP)))
    arrivals = next(found for found in app.get_functions() if found.get_function_name() == "arrivals")
    arrivals.get_user_function()(func.QueueMessage(id="m-1", body=message.encode()), Handoff())


def test_a_message_that_meets_a_missing_role_is_delivered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(faults=RefusedTables())

    with pytest.raises(AccessRefusedError):
        receive_arrival(world, blob_message(make_blob()), monkeypatch)

    assert world.quarantine.documents == {}


def test_a_message_that_cannot_be_read_is_quarantined_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    receive_arrival(world, "no event", monkeypatch)

    assert len(world.quarantine.documents) == 1
