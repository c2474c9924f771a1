"""Records one span and one canonical log line per delivery, and exports the spans from a thread of its own.

Importing OpenTelemetry's SDK and the Azure Monitor exporter takes longer than recording an arrival, so a span is
only a few values here; the export thread turns them into OpenTelemetry spans, and imports what it needs for that
once the first deliveries are through.
"""

import atexit
import json
import logging
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["FieldValue", "RecordedSpan", "SpanExport", "SpanTelemetry", "azure_monitor_exporter"]

FieldValue = str | int | float | None

_LOG: Final = logging.getLogger("tidegate")
_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_KEPT_SPANS: Final = 4096  # beyond it the oldest are dropped, and the log says how many
_BATCH: Final = 512
# Switches off what the exporter would send about itself, or fetch for itself: traffic that nobody asked for.
_EXPORTERS_OWN_TRAFFIC: Final = (
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED",
    "APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED",
)


@dataclass(slots=True)
class RecordedSpan:
    """One span: filled in while it is open, exported when it is closed."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    start_ns: int
    end_ns: int = 0
    error: str | None = None
    fields: dict[str, FieldValue] = field(default_factory=dict[str, FieldValue])

    @property
    def traceparent(self) -> str:
        """The W3C header that makes what follows a child of this span."""
        return f"00-{self.trace_id}-{self.span_id}-01"

    def set(self, **fields: FieldValue) -> None:
        """Add fields to the span and to its canonical log line."""
        self.fields.update(fields)


class SpanExport(Protocol):
    """Sends finished spans somewhere; called from the export thread only."""

    def __call__(self, spans: Sequence[RecordedSpan]) -> None:
        """Send them, or raise."""
        ...


class SpanTelemetry:
    """Implements `Telemetry`.

    The parent of a span is the traceparent that came with the event or was stored with the run, never the
    host's own context: azure-functions-runtime 1.3.0 does not carry that into the threads of sync functions.

    Args:
        make_export: Makes the exporter, in the export thread; None: spans only become log lines.
        first_export_after_s: How long the first export waits, so that its imports do not slow a cold start.
        export_every_s: How often finished spans are sent after that.
    """

    def __init__(
        self,
        make_export: Callable[[], SpanExport] | None,
        *,
        first_export_after_s: float = 5.0,
        export_every_s: float = 1.0,
    ) -> None:
        self._make_export = make_export
        self._first_after_s = first_export_after_s
        self._every_s = export_every_s
        self._finished: deque[RecordedSpan] = deque()
        self._dropped = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def span(self, name: str, *, traceparent: str | None = None, **fields: FieldValue) -> Iterator[RecordedSpan]:
        """Record what happens within: a child of `traceparent`, or the root of a new trace."""
        parent = _TRACEPARENT.fullmatch(traceparent or "")
        span = RecordedSpan(
            name=name,
            trace_id=parent[1] if parent else f"{random.getrandbits(128) or 1:032x}",
            span_id=f"{random.getrandbits(64) or 1:016x}",
            parent_id=parent[2] if parent else None,
            start_ns=time.time_ns(),
            fields=dict(fields),
        )
        try:
            yield span
        except BaseException as error:
            span.error = f"{type(error).__name__}: {error}"[:1000]
            raise
        finally:
            span.end_ns = time.time_ns()
            _log(span)
            self._hand_over(span)

    def alert(self, name: str, *, traceparent: str | None = None, **fields: FieldValue) -> None:
        """Record what a person must look at: a failed span and a line at error level, both called `alert`.

        An alert rule matches on the span's name, or on the log line's text, and reads the kind in the field `alert`.
        """
        parent = _TRACEPARENT.fullmatch(traceparent or "")
        span = RecordedSpan(
            name="alert",
            trace_id=parent[1] if parent else f"{random.getrandbits(128) or 1:032x}",
            span_id=f"{random.getrandbits(64) or 1:016x}",
            parent_id=parent[2] if parent else None,
            start_ns=time.time_ns(),
            fields={"alert": name, **fields},
        )
        span.end_ns = span.start_ns
        span.error = f"alert: {name}"
        _log(span, level=logging.ERROR)
        self._hand_over(span)

    def close(self, *, timeout_s: float = 5.0) -> None:
        """Export what is finished, waiting at most `timeout_s`."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _hand_over(self, span: RecordedSpan) -> None:
        if self._make_export is None:
            return
        with self._lock:
            if len(self._finished) >= _KEPT_SPANS:
                self._finished.popleft()
                self._dropped += 1
            self._finished.append(span)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tidegate-telemetry", daemon=True)
                self._thread.start()
                atexit.register(self.close)

    def _run(self) -> None:
        """Export in batches until closed; a batch that cannot be sent is dropped, never the work it tells of."""
        self._closing.wait(self._first_after_s)
        export: SpanExport | None = None
        while True:
            is_last = self._closing.is_set()
            try:
                while batch := self._take():
                    if export is None and self._make_export is not None:
                        export = self._make_export()
                    if export is not None:
                        export(batch)
            except Exception:  # noqa: BLE001 - the edge of a thread: telemetry must not end because one batch failed
                _LOG.warning("telemetry.batch_dropped", exc_info=True)
            if is_last:
                return
            self._closing.wait(self._every_s)

    def _take(self) -> list[RecordedSpan]:
        with self._lock:
            batch = [self._finished.popleft() for _ in range(min(_BATCH, len(self._finished)))]
            dropped, self._dropped = self._dropped, 0
        if dropped:
            _LOG.warning("telemetry.spans_dropped %s", json.dumps({"count": dropped}))
        return batch


def _log(span: RecordedSpan, *, level: int | None = None) -> None:
    """Write the canonical line: constant text, then every field as JSON."""
    line = {
        "duration_ms": round((span.end_ns - span.start_ns) / 1e6, 1),
        "trace_id": span.trace_id,
        **{name: value for name, value in span.fields.items() if value is not None},
    }
    if span.error is not None:
        line["error"] = span.error
    usual = logging.INFO if span.error is None else logging.WARNING
    _LOG.log(usual if level is None else level, "%s %s", span.name, json.dumps(line))


def azure_monitor_exporter(connection_string: str, *, client_id: str | None, is_signed_in: bool) -> SpanExport:
    """Return what sends spans to Application Insights; imports the exporter, so call it off the hot path.

    Args:
        connection_string: As the portal shows it.
        client_id: The user-assigned identity, if any.
        is_signed_in: Whether to authenticate with the managed identity, as a component without local
            authentication demands.
    """
    import os

    for name in _EXPORTERS_OWN_TRAFFIC:
        os.environ.setdefault(name, "True")
    from azure.monitor.opentelemetry.exporter import AzureMonitorTraceExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    credential = None
    if is_signed_in:
        from azure.identity import ManagedIdentityCredential

        credential = ManagedIdentityCredential(client_id=client_id)
    exporter = AzureMonitorTraceExporter(
        connection_string=connection_string, credential=credential, disable_offline_storage=True
    )

    def export(spans: Sequence[RecordedSpan]) -> None:
        if exporter.export([_to_opentelemetry(span) for span in spans]) is not SpanExportResult.SUCCESS:
            _LOG.warning("telemetry.export_refused %s", json.dumps({"count": len(spans)}))

    return export


def _to_opentelemetry(span: RecordedSpan) -> "ReadableSpan":
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    def context(span_id: str, *, is_remote: bool) -> SpanContext:
        return SpanContext(int(span.trace_id, 16), int(span_id, 16), is_remote, TraceFlags(TraceFlags.SAMPLED))

    events = (
        [Event("exception", {"exception.message": span.error, "exception.type": span.error.split(":", 1)[0]})]
        if span.error is not None
        else []
    )
    return ReadableSpan(
        name=span.name,
        context=context(span.span_id, is_remote=False),
        parent=context(span.parent_id, is_remote=True) if span.parent_id is not None else None,
        resource=Resource({"service.name": "tidegate-control-plane"}),
        attributes={f"tidegate.{name}": value for name, value in span.fields.items() if value is not None},
        events=events,
        kind=SpanKind.CONSUMER,
        status=Status(StatusCode.ERROR, span.error) if span.error is not None else Status(StatusCode.OK),
        start_time=span.start_ns,
        end_time=span.end_ns,
    )
