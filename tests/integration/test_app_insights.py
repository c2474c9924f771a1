"""Telemetry as the vendor's exporter sends it: kept, found again, and shown as one trace."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from local.app_insights.items import parse_item
from local.app_insights.storage import Storage
from tests.support.app_insights import INSTRUMENTATION_KEY, AppInsights, running_app_insights

pytestmark = pytest.mark.integration

# The exporter configures the whole process, so it gets one of its own; live metrics are on, as on Azure.
_TELLING = """
import logging, sys
from azure.monitor.opentelemetry import configure_azure_monitor
from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider
from opentelemetry.propagate import extract

configure_azure_monitor(
    connection_string=sys.argv[1], sampling_ratio=1.0, enable_live_metrics=True, logger_name="tidegate",
    disable_offline_storage=True,
)
logger = logging.getLogger("tidegate")
logger.setLevel(logging.INFO)
tracer = trace.get_tracer("tidegate")
parent = extract({"traceparent": sys.argv[2]})
facts = {"run_id": "r"}
with tracer.start_as_current_span("arrival <b>", context=parent, kind=trace.SpanKind.CONSUMER, attributes=facts):
    with tracer.start_as_current_span("submit run", kind=trace.SpanKind.CLIENT) as call:
        logger.info("submitted", extra={"token": "t"})
        call.set_status(trace.StatusCode.ERROR)
    try:
        raise ValueError("no such model")
    except ValueError:
        logger.exception("failed")
metrics.get_meter("tidegate").create_counter("runs").add(2)
trace.get_tracer_provider().force_flush()
get_logger_provider().force_flush()
metrics.get_meter_provider().force_flush()
"""
OPERATION = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def insights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppInsights]:
    with running_app_insights(tmp_path_factory.mktemp("insights")) as running:
        yield running


@pytest.fixture(scope="module")
def told(insights: AppInsights) -> list[dict[str, Any]]:
    """Everything that the exporter told about one operation."""
    subprocess.run(
        [sys.executable, "-c", _TELLING, insights.connection_string, f"00-{OPERATION}-b7ad6b7169203331-01"],
        env={"APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "True", "OTEL_SERVICE_NAME": "control-plane"},
        check=True,
        timeout=60,
        capture_output=True,
    )
    return found_in(insights, operation_id=OPERATION)


def found_in(insights: AppInsights, **query: str) -> list[dict[str, Any]]:
    answer = requests.get(f"{insights.url}/telemetry", params=query, timeout=10)
    answer.raise_for_status()
    items: list[dict[str, Any]] = answer.json()
    return items


def make_envelope(**changes: Any) -> dict[str, Any]:
    data = {"baseType": "MessageData", "baseData": {"ver": 2, "message": "hello"}}
    return {
        "name": "m",
        "time": "2026-01-01T00:00:00Z",
        "iKey": INSTRUMENTATION_KEY,
        "tags": {},
        "data": data,
        **changes,
    }


def test_one_trace_is_found_with_its_spans_logs_and_exceptions(told: list[dict[str, Any]]) -> None:
    by_type = {
        kind: [item for item in told if item["itemType"] == kind]
        for kind in ("request", "dependency", "trace", "exception")
    }
    (request,), (dependency,), (log,), (exception,) = by_type.values()

    assert (request["name"], request["customDimensions"]["run_id"]) == ("arrival <b>", "r")
    assert request["operation_ParentId"] == "b7ad6b7169203331"
    assert (dependency["operation_ParentId"], dependency["success"]) == (request["id"], False)
    assert (log["message"], log["operation_ParentId"], log["customDimensions"]["token"]) == (
        "submitted",
        dependency["id"],
        "t",
    )
    assert (exception["name"], exception["operation_ParentId"]) == ("ValueError", request["id"])
    assert {item["cloud_RoleName"] for item in told} == {"control-plane"}


def test_metrics_are_kept_apart_from_traces(insights: AppInsights, told: list[dict[str, Any]]) -> None:
    assert told
    metrics = found_in(insights, item_type="customMetrics")

    assert [
        item["envelope"]["data"]["baseData"]["metrics"][0]["value"] for item in metrics if item["name"] == "runs"
    ] == [2]


def test_a_trace_is_shown_as_a_page(insights: AppInsights, told: list[dict[str, Any]]) -> None:
    assert told

    index = requests.get(f"{insights.url}/", timeout=10).text
    page = requests.get(f"{insights.url}/trace/{OPERATION}", timeout=10).text

    assert f"/trace/{OPERATION}" in index
    for word in ("arrival &lt;b&gt;", "submit run", "submitted", "ValueError", "control-plane", "Traceback"):
        assert word in page
    assert "arrival <b>" not in page
    assert requests.get(f"{insights.url}/trace/unknown", timeout=10).status_code == 404


@pytest.mark.parametrize("path", ["/v2.1/track", "//v2.1/track", "/v2/track"])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_all_ways_of_sending_are_taken(path: str, encoding: str, insights: AppInsights) -> None:
    operation = f"{path}-{encoding}"
    body = json.dumps([make_envelope(tags={"ai.operation.id": operation})]).encode()
    headers = {"Content-Encoding": encoding} if encoding == "gzip" else {}

    answer = requests.post(
        f"{insights.url}{path}", data=gzip.compress(body) if headers else body, headers=headers, timeout=10
    )

    assert (answer.status_code, answer.json()) == (200, {"itemsReceived": 1, "itemsAccepted": 1, "errors": []})
    assert [item["message"] for item in found_in(insights, operation_id=operation)] == ["hello"]


def test_items_can_be_asked_for_since_a_time(insights: AppInsights) -> None:
    times = ("2031-01-01T00:00:00Z", "2031-01-02T00:00:00Z")
    envelopes = [make_envelope(time=time, tags={"ai.operation.id": "since"}) for time in times]
    requests.post(f"{insights.url}/v2.1/track", json=envelopes, timeout=10).raise_for_status()

    found = found_in(insights, operation_id="since", since="2031-01-02T00:00:00+00:00")

    assert [item["timestamp"] for item in found] == ["2031-01-02T00:00:00+00:00"]
    assert requests.get(f"{insights.url}/telemetry?since=soon", timeout=10).status_code == 400


def test_good_items_are_kept_and_bad_ones_named(insights: AppInsights) -> None:
    good = make_envelope(tags={"ai.operation.id": "mixed"})
    mixed = [good, {"data": 3}, "text", make_envelope(time="yesterday"), make_envelope(tags=7, data={"baseType": 1})]

    answer = requests.post(f"{insights.url}/v2.1/track", json=mixed, timeout=10)

    assert answer.status_code == 206
    assert (answer.json()["itemsReceived"], answer.json()["itemsAccepted"]) == (5, 1)
    assert [error["index"] for error in answer.json()["errors"]] == [1, 2, 3, 4]
    assert len(found_in(insights, operation_id="mixed")) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b'[{"time":NaN}]',
        json.dumps([make_envelope(data={"baseData": []})]).encode(),
    ],
)
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_garbage_is_refused_and_nothing_breaks(body: bytes, encoding: str, insights: AppInsights) -> None:
    answer = requests.post(
        f"{insights.url}/v2.1/track",
        data=body,
        headers={"Content-Encoding": encoding, "Connection": "close"},
        timeout=10,
    )

    assert 400 <= answer.status_code < 500
    assert requests.get(f"{insights.url}/health", timeout=10).status_code == 200


def test_odd_telemetry_is_shown_without_breaking_the_page(insights: AppInsights) -> None:
    """Spans that name each other as parents, lone surrogates, absurd numbers and names."""

    def span(key: str, parent: str, **base: Any) -> dict[str, Any]:
        data = {
            "baseType": "RemoteDependencyData",
            "baseData": {"id": key, "name": "<script>", "duration": "1.00:00:00.5", **base},
        }
        return make_envelope(tags={"ai.operation.id": "odd", "ai.operation.parentId": parent}, data=data)

    odd = [
        span("a", "b"),
        span("b", "a"),
        span("c", "c"),
        span("d", "a", name="\ud800", duration=5, properties={"x": None}),
    ]
    odd.append(make_envelope(tags={"ai.operation.id": "odd", "ai.operation.parentId": "nobody"}))
    requests.post(f"{insights.url}/v2.1/track", json=odd, timeout=10).raise_for_status()

    page = requests.get(f"{insights.url}/trace/odd", timeout=10)

    assert page.status_code == 200
    assert page.text.count("<details") == 5
    assert "<script>" not in page.text
    assert requests.get(f"{insights.url}/", timeout=10).status_code == 200


@pytest.mark.parametrize("call", ["ping", "post"])
def test_live_metrics_are_told_that_nobody_watches(call: str, insights: AppInsights) -> None:
    answer = requests.post(f"{insights.url}/QuickPulseService.svc/{call}?ikey=x", json={}, timeout=10)

    assert (answer.status_code, answer.headers["x-ms-qps-subscribed"]) == (200, "false")


def test_other_calls_are_not_implemented(insights: AppInsights) -> None:
    answer = requests.get(f"{insights.url}/v1/apps/x/query", timeout=10)

    assert answer.status_code == 501
    assert "/v1/apps/x/query" in answer.text


def test_telemetry_survives_a_crash_and_a_restart(tmp_path: Path) -> None:
    with running_app_insights(tmp_path) as insights:
        envelope = make_envelope(tags={"ai.operation.id": "kept"})
        requests.post(f"{insights.url}/v2.1/track", json=[envelope], timeout=10).raise_for_status()
        insights.process.kill()
        insights.process.wait()
    with (tmp_path / "items.jsonl").open("ab") as file:
        file.write(b'{"cut off')

    with running_app_insights(tmp_path) as insights:
        assert len(found_in(insights, operation_id="kept")) == 1
        insights.process.terminate()
        assert insights.process.wait(timeout=5) == 0


def test_files_stay_bounded_and_the_latest_items_are_kept(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    try:
        for number in range(400):
            data = {"baseType": "MessageData", "baseData": {"message": "x" * 100_000, "properties": {"n": number}}}
            storage.keep([parse_item(make_envelope(data=data))])

        numbers = {item.dimensions["n"] for item in storage.find()}
    finally:
        storage.close()

    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 17 * 1024 * 1024
    assert 399 in numbers
    assert 0 not in numbers
    assert len(numbers) > 80
