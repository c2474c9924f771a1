"""The routes, keys and response conversion of the local Functions host."""

import pytest

from local.functions_host.errors import ConfigurationError, NotImplementedLocallyError
from local.functions_host.functions import AuthLevel
from local.functions_host.http_wire import to_web_response
from local.functions_host.keys import Keyring
from local.functions_host.messages import Completion, Data, DataKind
from local.functions_host.routes import parse_route
from local.functions_host.trace_context import is_trace_parent, new_trace_parent

KEYS = Keyring(master="m", host={"default": "d"}, functions={"run": {"own": "o"}})


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("api/runs", "api/runs", {}),
        ("api/runs", "API/Runs/", {}),
        ("api/runs", "api/runs/1", None),
        ("api/runs/{id}", "api/runs/A b", {"id": "A b"}),
        ("api/runs/{id}", "api/runs", None),
        ("api/runs/{id?}", "api/runs", {}),
        ("api/runs/{id=last}", "api/runs", {"id": "last"}),
        ("api/runs/{id:int}", "api/runs/007", {"id": "007"}),
        ("api/runs/{id:int}", "api/runs/2147483648", None),
        ("api/runs/{id:long}", "api/runs/2147483648", {"id": "2147483648"}),
        ("api/{name:alpha:maxlength(3)}", "api/abc", {"name": "abc"}),
        ("api/{name:alpha:maxlength(3)}", "api/abcd", None),
        ("api/{n:range(1,5)}", "api/6", None),
        ("api/{n:length(2,3)}", "api/ab", {"n": "ab"}),
        ("api/{v:regex(^v[0-9]+$)}", "api/x", None),
        ("api/{v:regex(^(a|b)$)}", "api/b", {"v": "b"}),
        ("api/{id:guid}", "api/0f8fad5b-d9cb-469f-a165-70867728950e", {"id": "0f8fad5b-d9cb-469f-a165-70867728950e"}),
        ("api/{file}.{ext}", "api/a.csv", {"file": "a", "ext": "csv"}),
        ("api/files/{*path}", "api/files/a/b/c", {"path": "a/b/c"}),
        ("api/files/{*path}", "api/files", {}),
        ("", "", {}),
        ("{page?}", "", {}),
    ],
)
def test_a_path_matches_its_template(template: str, path: str, values: dict[str, str] | None) -> None:
    assert parse_route(template).match(path) == values


def test_the_more_specific_template_comes_first() -> None:
    templates = ["a/{*rest}", "a/{x}", "a/{x:int}", "a/b"]

    ordered = sorted(templates, key=lambda template: parse_route(template).order)

    assert ordered == ["a/b", "a/{x:int}", "a/{x}", "a/{*rest}"]


@pytest.mark.parametrize("template", ["a/{", "a/{x}/{x}", "a/{*x}/b", "a/{x:int", "{1}"])
def test_a_wrong_template_is_refused(template: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_route(template)


def test_an_unknown_constraint_is_refused_by_name() -> None:
    with pytest.raises(NotImplementedLocallyError, match="'file'"):
        parse_route("a/{x:file}")


@pytest.mark.parametrize(
    ("key", "function", "level"),
    [
        (None, "run", AuthLevel.ANONYMOUS),
        ("", "run", AuthLevel.ANONYMOUS),
        ("wrong", "run", AuthLevel.ANONYMOUS),
        ("d", "run", AuthLevel.FUNCTION),
        ("o", "run", AuthLevel.FUNCTION),
        ("o", "other", AuthLevel.ANONYMOUS),
        ("m", "run", AuthLevel.ADMIN),
        ("ключ", "run", AuthLevel.ANONYMOUS),
    ],
)
def test_a_key_opens_what_it_is_for(key: str | None, function: str, level: AuthLevel) -> None:
    assert KEYS.level(key, function) is level


def test_without_enforcement_everyone_is_an_administrator() -> None:
    assert Keyring(master=None, host={}, functions={}, is_enforced=False).level(None, "run") is AuthLevel.ADMIN


def test_new_trace_contexts_are_valid_and_differ() -> None:
    made = {new_trace_parent() for _ in range(10)}

    assert len(made) == 10
    assert all(is_trace_parent(trace_parent) for trace_parent in made)


@pytest.mark.parametrize("text", ["", "00-0-0-01", f"00-{'0' * 32}-{'1' * 16}-01", f"ff-{'1' * 32}-{'1' * 16}-01"])
def test_an_invalid_trace_parent_is_recognised(text: str) -> None:
    assert not is_trace_parent(text)


@pytest.mark.parametrize(
    ("value", "status", "body"),
    [
        (None, 200, b""),
        (Data(DataKind.STRING, "hello"), 200, b"hello"),
        (Data(DataKind.STRING, '{"status": 404, "body": "gone"}'), 404, b"gone"),
        (Data(DataKind.STRING, '{"a": 1}'), 200, b'{"a": 1}'),
        (Data(DataKind.BYTES, b"\xff"), 200, b"\xff"),
    ],
)
def test_a_return_value_that_is_no_response_becomes_one(value: Data | None, status: int, body: bytes) -> None:
    response = to_web_response(Completion(invocation_id="i", return_value=value))

    assert (response.status, response.body or b"") == (status, body)
