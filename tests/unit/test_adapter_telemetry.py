"""Tests that spans keep their trace, reach the exporter off the hot path, and never cost the work they tell of."""

import json
import logging
import threading
from collections.abc import Sequence

import pytest

from functions.adapters.telemetry import RecordedSpan, SpanTelemetry, _to_opentelemetry

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Exported:
    """An exporter that remembers, and may fail at first."""

    def __init__(self, failures: int = 0) -> None:
        self.spans: list[RecordedSpan] = []
        self.threads: set[str] = set()
        self.failures = failures

    def __call__(self, spans: Sequence[RecordedSpan]) -> None:
        self.threads.add(threading.current_thread().name)
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the collector is away")
        self.spans += spans


def test_a_span_continues_the_trace_it_was_given() -> None:
    telemetry = SpanTelemetry(None)

    with telemetry.span("arrival", traceparent=PARENT) as span:
        inner = span.traceparent

    assert inner.split("-")[1] == "0af7651916cd43dd8448eb211c80319c"
    assert inner.split("-")[2] != "b7ad6b7169203331"


@pytest.mark.parametrize("traceparent", [None, "", "nonsense"])
def test_without_a_parent_a_span_begins_a_trace(traceparent: str | None) -> None:
    telemetry = SpanTelemetry(None)

    with telemetry.span("arrival", traceparent=traceparent) as one, telemetry.span("arrival") as other:
        assert one.traceparent.split("-")[1] != other.traceparent.split("-")[1]


def test_the_canonical_line_has_every_field(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = SpanTelemetry(None)

    with caplog.at_level(logging.INFO, logger="tidegate"), telemetry.span("arrival", pipeline="p", route=None) as span:
        span.set(outcome="held")

    (record,) = caplog.records
    name, _, fields = record.getMessage().partition(" ")
    assert name == "arrival"
    assert {key: json.loads(fields)[key] for key in ("pipeline", "outcome")} == {"pipeline": "p", "outcome": "held"}
    assert "route" not in json.loads(fields)


def test_an_error_is_recorded_and_passes() -> None:
    exported = Exported()
    telemetry = SpanTelemetry(lambda: exported, first_export_after_s=0)

    with pytest.raises(KeyError), telemetry.span("arrival"):
        raise KeyError("why")
    telemetry.close()

    assert exported.spans[0].error == "KeyError: 'why'"


def test_spans_are_exported_from_a_thread_of_their_own() -> None:
    exported = Exported()
    made: list[str] = []

    def make() -> Exported:
        made.append(threading.current_thread().name)
        return exported

    telemetry = SpanTelemetry(make, first_export_after_s=0)
    for _ in range(3):
        with telemetry.span("arrival"):
            pass
    telemetry.close()

    assert len(exported.spans) == 3
    assert made == ["tidegate-telemetry"]
    assert exported.threads == {"tidegate-telemetry"}


def test_the_exporter_is_not_made_before_the_first_deliveries_are_through() -> None:
    """A cold start does not pay for the import of the exporter."""
    made: list[bool] = []

    def make() -> Exported:
        made.append(True)
        return Exported()

    telemetry = SpanTelemetry(make, first_export_after_s=60)
    with telemetry.span("arrival"):
        pass

    assert made == []
    telemetry.close()
    assert made == [True]


def test_a_collector_that_is_away_costs_a_batch_not_the_work() -> None:
    exported = Exported(failures=1)
    telemetry = SpanTelemetry(lambda: exported, first_export_after_s=0, export_every_s=0.01)

    with telemetry.span("lost"):
        pass
    deadline = threading.Event()
    for _ in range(500):
        if exported.failures == 0:
            break
        deadline.wait(0.01)
    with telemetry.span("kept"):
        pass
    telemetry.close()

    assert [span.name for span in exported.spans] == ["kept"]


def test_a_span_becomes_an_opentelemetry_span_of_the_same_trace() -> None:
    telemetry = SpanTelemetry(None)
    with telemetry.span("arrival", traceparent=PARENT, pipeline="p") as span:
        pass

    converted = _to_opentelemetry(span)

    context, parent = converted.get_span_context(), converted.parent
    assert context is not None
    assert parent is not None
    assert f"{context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{parent.span_id:016x}" == "b7ad6b7169203331"
    assert dict(converted.attributes or {}) == {"tidegate.pipeline": "p"}


def test_an_alert_is_a_line_at_error_level_and_a_failed_span(caplog: pytest.LogCaptureFixture) -> None:
    """What an alert rule matches on: the name `alert`, and the kind in a field."""
    exported = Exported()
    telemetry = SpanTelemetry(lambda: exported, first_export_after_s=0)

    with caplog.at_level(logging.ERROR, logger="tidegate"):
        telemetry.alert("run_stalled", traceparent=PARENT, run_id="r-1", detail=None)
    telemetry.close()

    (record,) = caplog.records
    name, _, fields = record.getMessage().partition(" ")
    (span,) = exported.spans
    assert (record.levelname, name) == ("ERROR", "alert")
    assert {key: json.loads(fields).get(key) for key in ("alert", "run_id", "detail")} == {
        "alert": "run_stalled",
        "run_id": "r-1",
        "detail": None,
    }
    assert (span.name, span.trace_id, span.error) == ("alert", PARENT.split("-")[1], "alert: run_stalled")
    assert not _to_opentelemetry(span).status.is_ok
