"""Records spans and alerts, with ids that count up."""

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["InMemorySpan", "InMemoryTelemetry"]

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass
class InMemorySpan:
    """A span that was recorded."""

    name: str
    parent: str | None
    traceparent: str
    fields: dict[str, str | float | None]

    def set(self, **fields: str | float | None) -> None:
        self.fields.update(fields)


class InMemoryTelemetry:
    """Implements `Telemetry` with ids that count up."""

    def __init__(self) -> None:
        self.spans: list[InMemorySpan] = []
        self.alerts: list[tuple[str, dict[str, str | float | None]]] = []
        self._ids = itertools.count(1)

    @contextmanager
    def span(
        self, name: str, *, traceparent: str | None = None, **fields: str | float | None
    ) -> Iterator[InMemorySpan]:
        number = next(self._ids)
        parent = _TRACEPARENT.fullmatch(traceparent or "")  # a caller may send anything: then a new trace begins
        trace_id = parent[1] if parent else f"{number:032x}"
        span = InMemorySpan(name, traceparent, f"00-{trace_id}-{number:016x}-01", dict(fields))
        self.spans.append(span)
        yield span

    def alert(self, name: str, *, traceparent: str | None = None, **fields: str | float | None) -> None:
        self.alerts.append((name, dict(fields)))
