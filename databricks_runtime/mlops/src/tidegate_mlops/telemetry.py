"""Sends traces and logs of a notebook run to Azure Monitor, as part of the trace that started at the arrival."""

import atexit
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = ["Telemetry"]

_LOGGER: Final = logging.getLogger("tidegate_mlops")
_FLUSH_MS: Final = 5_000
_GIVE_UP_S: Final = 6.0


class Telemetry:
    """The spans of one run: one for the notebook, one for each stage; nothing is sent without `configure`."""

    def __init__(self, attributes: Mapping[str, str | int], traceparent: str) -> None:
        self._attributes = dict(attributes)
        self._traceparent = traceparent
        self._root: Span | None = None
        self._tracer = trace.get_tracer("tidegate_mlops")
        self._is_configured = False

    def configure(self, connection_string: str, *, environment: str, release: str) -> None:
        """Send what is recorded from now on to Application Insights, all of it."""
        # Unless told otherwise, the exporter reports about itself to Microsoft, asks there for its settings, and looks
        # for a virtual machine's metadata service; where these are unreachable they delay a run and fill its log.
        os.environ.setdefault("APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL", "true")
        os.environ.setdefault("APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED", "true")
        os.environ.setdefault("APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED", "true")
        os.environ.setdefault("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "otel")
        from azure.monitor.opentelemetry import configure_azure_monitor
        from opentelemetry.sdk.resources import Resource

        names = ("azure_sdk", "django", "fastapi", "flask", "psycopg2", "requests", "urllib", "urllib3")
        configure_azure_monitor(
            connection_string=connection_string,
            logger_name=_LOGGER.name,
            sampling_ratio=1.0,
            enable_live_metrics=False,
            enable_performance_counters=False,
            disable_offline_storage=True,
            disable_metrics=True,
            instrumentation_options={name: {"enabled": False} for name in names},
            resource=Resource.create(
                {
                    "service.name": "tidegate-notebook",
                    "service.namespace": "tidegate",
                    "service.version": release,
                    "deployment.environment": environment,
                }
            ),
        )
        self._tracer = trace.get_tracer("tidegate_mlops")
        self._is_configured = True

    def open(self, name: str) -> None:
        """Start the notebook's span, child of the traceparent that the run was given."""
        parent = (
            TraceContextTextMapPropagator().extract({"traceparent": self._traceparent})
            if self._traceparent
            else Context()
        )
        self._root = self._tracer.start_span(name, context=parent, kind=SpanKind.CONSUMER, attributes=self._attributes)

    @contextmanager
    def span(self, name: str, **attributes: str | int) -> Iterator[None]:
        """Record a part of the notebook as a span of its own; an error marks it and goes on."""
        context = trace.set_span_in_context(self._root) if self._root else None
        with self._tracer.start_as_current_span(name, context=context, attributes={**self._attributes, **attributes}):
            yield

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Make the notebook's span the present one, so that log records carry it."""
        if self._root is None:
            yield
        else:
            with trace.use_span(self._root, end_on_exit=False):
                yield

    def traceparent(self) -> str:
        """Return the context for whatever this run causes, the completion event first of all."""
        if self._root is None or not self._root.get_span_context().is_valid:
            return self._traceparent
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, context=trace.set_span_in_context(self._root))
        return carrier.get("traceparent", self._traceparent)

    def close(self, *, outcome: str, reason: str | None) -> None:
        """End the notebook's span and send what is left; gives up after a few seconds."""
        if self._root is None:
            return
        self._root.set_attribute("outcome", outcome)
        if reason is not None:
            self._root.set_status(Status(StatusCode.ERROR, reason))
        self._root.end()
        self._root = None
        if self._is_configured:
            _send_what_is_left()


def _send_what_is_left() -> None:
    """Flush and end the exporters, and give up after a few seconds.

    A host that swallows packets would keep the exporter's HTTP client waiting for minutes, here and once more in the
    providers' own exit handlers; hence a thread that may be left behind, and no exit handlers.
    """
    from opentelemetry._logs import get_logger_provider

    providers = [trace.get_tracer_provider(), get_logger_provider()]
    for handler in [*_LOGGER.handlers]:
        if not isinstance(handler, logging.StreamHandler):
            _LOGGER.removeHandler(handler)  # OpenTelemetry's, which would flush at exit by starting a thread

    def send() -> None:
        for provider in providers:
            for name, arguments in (("force_flush", (_FLUSH_MS,)), ("shutdown", ())):
                if (step := getattr(provider, name, None)) is not None:  # the no-op providers have neither
                    step(*arguments)

    sender = threading.Thread(target=send, name="telemetry-flush", daemon=True)
    sender.start()
    sender.join(_GIVE_UP_S)
    for provider in providers:
        if (shutdown := getattr(provider, "shutdown", None)) is not None:
            atexit.unregister(shutdown)
