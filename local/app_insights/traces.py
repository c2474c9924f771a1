"""Puts the items of one operation together: which span ran inside which, when, and what it logged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from local.app_insights.items import Item

__all__ = ["Span", "Trace", "make_trace"]

_SPAN_TYPES = frozenset({"request", "dependency"})


@dataclass(slots=True, kw_only=True)
class Span:
    """A stretch of work."""

    item: Item
    children: list["Span"] = field(default_factory=list["Span"])
    logs: list[Item] = field(default_factory=list[Item])

    @property
    def start(self) -> datetime:
        """When it began."""
        return self.item.timestamp

    @property
    def end(self) -> datetime:
        """When it ended."""
        return self.start + timedelta(milliseconds=self.item.duration_ms or 0)

    def walk(self) -> Iterator[tuple[int, "Span | Item"]]:
        """Yield this span and what is in it, spans and logs, each with its depth, in the order of their starts."""
        waiting: list[tuple[int, Span | Item]] = [(0, self)]
        while waiting:
            depth, row = waiting.pop()
            yield depth, row
            if isinstance(row, Span):
                inside: list[Span | Item] = [*row.logs, *row.children]
                latest_first = sorted(inside, key=_began, reverse=True)
                waiting += [(depth + 1, found) for found in latest_first]


def _began(row: Span | Item) -> datetime:
    return row.start if isinstance(row, Span) else row.timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Everything one operation told."""

    operation_id: str
    roots: tuple[Span, ...]
    stray_logs: tuple[Item, ...]  # logs of no span that is known
    start: datetime
    end: datetime

    @property
    def duration_ms(self) -> float:
        """From the first start to the last end."""
        return (self.end - self.start) / timedelta(milliseconds=1)

    @property
    def name(self) -> str:
        """The name of the first span, or of whatever there is."""
        first = self.roots[0].item if self.roots else self.stray_logs[0]
        return first.name or first.message or "(no name)"

    def rows(self) -> list[tuple[int, Span | Item]]:
        """Return all spans and logs with their depths, as a page shows them."""
        inside = [row for root in self.roots for row in root.walk()]
        return inside + [(0, log) for log in self.stray_logs]

    def spans(self) -> list[Span]:
        """Return all spans."""
        return [row for _, row in self.rows() if isinstance(row, Span)]

    def logs(self) -> list[Item]:
        """Return all logs and exceptions."""
        return [row for _, row in self.rows() if not isinstance(row, Span)]


def make_trace(operation_id: str, items: Sequence[Item]) -> Trace:
    """Return the trace of an operation.

    Args:
        operation_id: The trace's id.
        items: At least one, in the order of their time. A span whose parent is unknown stands at the top, as do
            spans that name each other as parents.
    """
    spans = {item.id: Span(item=item) for item in items if item.item_type in _SPAN_TYPES}
    roots: list[Span] = []
    stray: list[Item] = []
    for item in items:
        parent = spans.get(item.parent_id)
        if item.item_type in _SPAN_TYPES:
            span = spans[item.id]
            if span.item is not item:
                continue  # the same span was sent twice
            if parent is None or _is_within(parent, span, spans):
                roots.append(span)
            else:
                parent.children.append(span)
        elif parent is not None:
            parent.logs.append(item)
        else:
            stray.append(item)
    ends = [span.end for span in spans.values()] + [item.timestamp for item in items]
    return Trace(
        operation_id=operation_id,
        roots=tuple(sorted(roots, key=lambda span: span.start)),
        stray_logs=tuple(stray),
        start=min(item.timestamp for item in items),
        end=max(ends),
    )


def _is_within(span: Span, other: Span, spans: dict[str, Span]) -> bool:
    """Return whether `span` is `other` or one of its descendants, by the parents that they name."""
    seen: set[str] = set()
    current: Span | None = span
    while current is not None and current.item.id not in seen:
        if current is other:
            return True
        seen.add(current.item.id)
        current = spans.get(current.item.parent_id)
    return False
