"""Loads the Functions app as Azure does, and puts a control plane in memory behind all of its functions."""

import importlib.util
import io
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote

import azure.functions as func

from functions import wiring
from functions.services.plane import ControlPlane
from tests.fuzz.case import Case

__all__ = ["SECRET", "SETTINGS", "App", "Log", "captured_log", "loaded_app"]

SECRET: Final = "bWFya2VkIHNlY3JldCBvZiB0aWRlZ2F0ZQ=="
SETTINGS: Final = {
    "TIDEGATE_ENVIRONMENT": "local",
    "TIDEGATE_STORAGE": (
        f"DefaultEndpointsProtocol=http;AccountName=tidegatelocal;AccountKey={SECRET};"
        "BlobEndpoint=http://127.0.0.1:1/tidegatelocal;QueueEndpoint=http://127.0.0.1:1/tidegatelocal;"
        "TableEndpoint=http://127.0.0.1:1/tidegatelocal;"
    ),
    "DATABRICKS_HOST": "http://127.0.0.1:1",
    "EVENTGRID_TOPIC_ENDPOINT": "http://127.0.0.1:1/topics/t/api/events",
    "EVENTGRID_TOPIC_KEY": SECRET,
}
_FILE: Final = Path(__file__).parents[2] / "function_app.py"
_BASE: Final = "https://tidegate.azurewebsites.net/api"
# A caller's credentials: every request carries them, and nobody has any business repeating them.
_CREDENTIALS: Final = {"x-functions-key": SECRET, "authorization": f"Bearer {SECRET}", "cookie": f"session={SECRET}"}


class _Handoff(func.Out[str]):
    """Takes what the host would send after the function has succeeded."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def set(self, val: str) -> None:
        self.sent.append(val)

    def get(self) -> str:
        return self.sent[-1] if self.sent else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a caller gets."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class App:
    """The app's functions, found as the host finds them."""

    def __init__(self, functions: list[Any]) -> None:
        self.http: dict[str, dict[str, Any]] = {}
        self.queues: list[str] = []
        self._by_name: dict[str, Any] = {}
        for function in functions:
            name, trigger = function.get_function_name(), function.get_trigger()
            self._by_name[name] = function.get_user_function()
            if trigger.get_binding_name() == "httpTrigger":
                self.http[name] = trigger.get_dict_repr()
            elif trigger.get_binding_name() == "queueTrigger":
                self.queues.append(name)

    def receive(self, name: str, body: bytes) -> None:
        """Have a queue function handle a message, whose text the host has decoded."""
        message = func.QueueMessage(id="message-1", body=body.decode(errors="replace").encode())
        function = self._by_name[name]
        arguments = [_Handoff() for _ in range(function.__code__.co_argcount - 1)]
        function(message, *arguments)

    def answer(self, name: str, case: Case) -> Answer:
        """Have an HTTP function answer a request as the host hands it over."""
        route = str(self.http[name]["route"])
        values = case.below("route.")
        path = re.sub(r"\{(\w+)[^}]*\}", lambda match: quote(values.get(match[1], ""), safe=""), route)
        query = f"{case.text('query')}&code={SECRET}".lstrip("&")
        method = self.http[name]["methods"][0]
        request = func.HttpRequest(
            method=getattr(method, "value", method),
            url=f"{_BASE}/{path}?{query}",
            params=_params(query),
            route_params=values,
            headers={**case.below("header."), **_CREDENTIALS},
            body=case.get("body") or b"",
        )
        response = self._by_name[name](request)
        return Answer(status=response.status_code, headers=dict(response.headers), body=response.get_body())


def _params(query: str) -> dict[str, str]:
    """Return a query as the host does: repeated values joined by commas, blank ones dropped."""
    params: dict[str, str] = {}
    for name, value in parse_qsl(query):
        params[name] = f"{params[name]},{value}" if name in params else value
    return params


@contextmanager
def loaded_app() -> Iterator[App]:
    """Yield the app, indexed with settings that hold a marked secret."""
    before = dict(os.environ)
    os.environ.update(SETTINGS)
    wiring.configuration.cache_clear()
    try:
        spec = importlib.util.spec_from_file_location("fuzzed_function_app", _FILE)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield App(module.app.get_functions())
    finally:
        os.environ.clear()
        os.environ.update(before)
        wiring.configuration.cache_clear()
        wiring._plane = None


def put_behind(plane: ControlPlane) -> None:
    """Have every function find this control plane, as if it had been built from the settings."""
    wiring._plane = plane


class Log:
    """Everything that was logged since it was last looked at."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        self.handler = logging.StreamHandler(self._stream)

    def take(self) -> str:
        """Return it, and forget it."""
        text = self._stream.getvalue()
        if text:
            self._stream.seek(0)
            self._stream.truncate()
        return text


@contextmanager
def captured_log() -> Iterator[Log]:
    """Capture what any logger says, at every level."""
    log, root = Log(), logging.getLogger()
    level = root.level
    root.addHandler(log.handler)
    root.setLevel(logging.DEBUG)
    try:
        yield log
    finally:
        root.removeHandler(log.handler)
        root.setLevel(level)
