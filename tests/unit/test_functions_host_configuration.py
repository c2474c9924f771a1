"""The settings, bindings and queue rules of the local Functions host."""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from local.functions_host.configuration import LocalSettings, QueueOptions, read_host_json, read_settings
from local.functions_host.errors import ConfigurationError, NotImplementedLocallyError
from local.functions_host.functions import QueueTrigger, read_functions
from local.functions_host.messages import Data, DataKind, FunctionMetadata, RetryOptions
from local.functions_host.queue_listener import PollingDelays
from local.functions_host.queue_messages import decode_body, encode_body, messages_from_output
from local.functions_host.timer_listener import retry_delay_s
from local.functions_host.worker_process import describe_exit, worker_environment
from local.functions_host.worker_supervisor import restart_delay_s

CONNECTION = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;QueueEndpoint=http://127.0.0.1:1/a"


def _settings(**values: str) -> LocalSettings:
    return LocalSettings(values=values, host_keys={}, master_key=None, function_keys={})


def _host_json(folder: Path, content: Any) -> Path:
    (folder / "host.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def _metadata(*bindings: dict[str, Any], name: str = "f") -> FunctionMetadata:
    return FunctionMetadata(
        name=name, function_id="id", raw_bindings=tuple(json.dumps(binding) for binding in bindings), retry=None
    )


def test_host_json_has_azures_defaults(tmp_path: Path) -> None:
    configuration = read_host_json(_host_json(tmp_path, {"version": "2.0"}), {})

    assert configuration.route_prefix == "api"
    assert configuration.function_timeout_s == 1800
    assert configuration.queues == QueueOptions(
        max_polling_interval_s=60,
        visibility_timeout_s=0,
        batch_size=16,
        max_dequeue_count=5,
        new_batch_threshold=8 * (os.cpu_count() or 1),
        base64=True,
    )


def test_settings_override_host_json_as_on_azure(tmp_path: Path) -> None:
    folder = _host_json(
        tmp_path,
        {
            "version": "2.0",
            "functionTimeout": "-1",
            "extensions": {"http": {"routePrefix": ""}, "queues": {"batchSize": 4}},
        },
    )
    overrides = {
        "AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.2",
        "AzureFunctionsJobHost__extensions__queues__batchSize": "1",
    }

    configuration = read_host_json(folder, overrides)

    assert configuration.route_prefix == ""
    assert configuration.function_timeout_s is None
    assert configuration.queues.max_polling_interval_s == 0.2
    assert configuration.queues.new_batch_threshold == 0


def test_every_mistake_of_host_json_is_named_at_once(tmp_path: Path) -> None:
    queues = {"batchSize": 33, "visibilityTimeout": "soon", "messageEncoding": "rot13"}
    folder = _host_json(tmp_path, {"version": "1.0", "functionTimeout": "0", "extensions": {"queues": queues}})

    with pytest.raises(ConfigurationError) as caught:
        read_host_json(folder, {})

    for name in ("version", "batchSize", "visibilityTimeout", "messageEncoding", "functionTimeout"):
        assert name in str(caught.value)


def test_keys_of_host_json_without_effect_are_told(tmp_path: Path) -> None:
    content = {"version": "2.0", "extensions": {"http": {"hsts": {"isEnabled": True}}}, "logging": {"logLevel": {}}}

    assert read_host_json(_host_json(tmp_path, content), {}).ignored == ("extensions.http.hsts.isEnabled",)


def test_a_missing_host_json_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"host\.json"):
        read_host_json(tmp_path, {})


def test_every_mistake_of_the_settings_is_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "local.settings.json"
    host = {"Keys": {"default": 1}, "QueueLease": "long"}
    file.write_text(json.dumps({"IsEncrypted": True, "Values": {"A": 5}, "Host": host}), encoding="utf-8")

    with pytest.raises(ConfigurationError) as caught:
        read_settings(file)

    for name in ("IsEncrypted", "Values.A", "Host.Keys.default", "Host.QueueLease"):
        assert name in str(caught.value)


def test_a_connection_is_looked_up_with_the_prefix_first() -> None:
    settings = _settings(AzureWebJobsData=CONNECTION, Data="other", Plain=CONNECTION, AzureWebJobsStorage=CONNECTION)

    assert settings.connection_string("Data") == CONNECTION
    assert settings.connection_string("Plain") == CONNECTION
    assert settings.connection_string("Storage") == CONNECTION
    assert settings.connection_string("") == CONNECTION


def test_an_identity_based_connection_is_not_implemented_locally() -> None:
    with pytest.raises(NotImplementedLocallyError, match="identity-based connection Data__"):
        _settings(Data__accountName="a").connection_string("Data")


def test_a_missing_connection_names_the_setting() -> None:
    with pytest.raises(ConfigurationError, match="'Data'"):
        _settings().connection_string("Data")


def test_bindings_that_are_not_implemented_are_refused_by_name_and_all_at_once() -> None:
    blob = {"type": "blobTrigger", "name": "blob", "path": "a/{b}", "direction": "IN"}
    http = {"type": "httpTrigger", "name": "req", "direction": "IN"}
    table = {"type": "table", "name": "rows", "direction": "OUT"}

    with pytest.raises(ConfigurationError) as caught:
        read_functions([_metadata(blob, name="one"), _metadata(http, table, name="two")], _settings())

    for part in ("'one'", "'blob'", "blobTrigger", "'two'", "'rows'", "not implemented locally"):
        assert part in str(caught.value)


def test_an_app_without_functions_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="no functions"):
        read_functions([], _settings())


def test_settings_in_bindings_are_resolved() -> None:
    queue = {"type": "queueTrigger", "name": "m", "queueName": "%Q%-x", "connection": "S", "dataType": "BINARY"}

    (function,) = read_functions([_metadata(queue)], _settings(Q="work", S=CONNECTION))

    assert function.trigger == QueueTrigger(name="m", queue="work-x", connection_string=CONNECTION, as_bytes=True)


def test_a_missing_setting_in_a_binding_names_function_and_setting() -> None:
    timer = {"type": "timerTrigger", "name": "t", "schedule": "%EVERY%"}

    with pytest.raises(ConfigurationError, match=r"'f'.*'EVERY'"):
        read_functions([_metadata(timer)], _settings())


@given(body=st.binary())
def test_a_body_survives_base64(body: bytes) -> None:
    assert decode_body(encode_body(body, is_base64=True), is_base64=True) == body


@pytest.mark.parametrize("text", ["hello!", "a", "{}", "////=", "=====", "é"])
def test_a_text_that_is_no_base64_is_undecodable(text: str) -> None:
    assert decode_body(text, is_base64=True) is None


@pytest.mark.parametrize(
    ("value", "bodies"),
    [
        (Data(DataKind.STRING, "plain"), [b"plain"]),
        (Data(DataKind.STRING, '{"a":1}'), [b'{"a":1}']),
        (Data(DataKind.STRING, '"quoted"'), [b'"quoted"']),
        (Data(DataKind.BYTES, b"[1]"), [b"[1]"]),
        (Data(DataKind.JSON, '[{"id": null, "body": "x"}, "y"]'), [b"x", b"y"]),
        (Data(DataKind.JSON, '{"id": null, "body": "x"}'), [b"x"]),
        (Data(DataKind.JSON, '{"id":1}'), [b'{"id":1}']),
    ],
)
def test_an_output_value_becomes_messages(value: Data, bodies: list[bytes]) -> None:
    assert messages_from_output(value) == bodies


@given(longest_s=st.floats(0.1, 60), seed=st.integers(0, 1000))
@example(longest_s=21.0, seed=273)
def test_polling_slows_down_to_the_longest_interval_and_never_beyond(longest_s: float, seed: int) -> None:
    delays = PollingDelays(longest_s, random.Random(seed))

    waits = [delays.next_s() for _ in range(30)]

    assert waits[0] == 0.1
    assert all(0.1 <= wait <= longest_s for wait in waits)
    assert max(waits) == longest_s
    assert waits[-1] >= 0.66 * longest_s  # each wait varies by a fifth up or down before it is cut


def test_polling_is_fast_again_after_a_message() -> None:
    delays = PollingDelays(60, random.Random(1))
    slow = [delays.next_s() for _ in range(20)][-1]

    delays.reset()

    assert delays.next_s() < 0.25 < slow


def test_retry_delays_follow_the_policy() -> None:
    fixed = RetryOptions(strategy="fixed_delay", max_retry_count=3, delay_s=7, minimum_s=0, maximum_s=0)
    growing = RetryOptions(strategy="exponential_backoff", max_retry_count=9, delay_s=0, minimum_s=1, maximum_s=10)
    rng = random.Random(3)

    assert [retry_delay_s(fixed, count, rng) for count in (1, 2, 3)] == [7, 7, 7]
    assert retry_delay_s(growing, 1, rng) == 1
    assert 1.8 <= retry_delay_s(growing, 2, rng) <= 2.2
    assert retry_delay_s(growing, 9, rng) == 10


def test_workers_that_keep_dying_are_restarted_ever_later() -> None:
    assert [restart_delay_s(failures) for failures in (0, 1, 2, 3)] == [0, 0, 0.25, 0.5]
    assert restart_delay_s(1000) == 30


def test_the_worker_sees_app_settings_and_no_credentials_of_the_developer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", "secret")
    monkeypatch.setenv("PATH", "/bin")

    environment = worker_environment({"A": "1", "PATH": "/app"}, tmp_path)

    assert environment["A"] == "1"
    assert environment["PATH"] == "/app"
    assert "DATABRICKS_TOKEN" not in environment


@pytest.mark.parametrize(("code", "words"), [(3, "exit code 3"), (-9, "killed by SIGKILL"), (None, "unknown")])
def test_the_end_of_a_process_is_told_in_words(code: int | None, words: str) -> None:
    assert describe_exit(code) == words
