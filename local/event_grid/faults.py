"""Holds the faults that a test or a demonstration has scripted."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from local.event_grid.errors import BadRequestError
from local.event_grid.events import NewEvent
from local.event_grid.wire import Json, JsonObject

__all__ = ["Fault", "FaultKind", "Faults", "parse_fault"]


class FaultKind(StrEnum):
    """What goes wrong."""

    DROP_DELIVERY = "drop_delivery"  # the attempt is not made and counts as timed out; retried on schedule
    DUPLICATE_DELIVERY = "duplicate_delivery"  # delivered `copies` more times
    DELAY_DELIVERY = "delay_delivery"  # the attempt is put off by `delay_s`
    LOSE_EVENT = "lose_event"  # never delivered, not dead-lettered
    REFUSE_PUBLISH = "refuse_publish"  # publishers get `status`, nothing is accepted
    LOSE_PUBLISH_ANSWER = "lose_publish_answer"  # accepted, but publishers get `status`


_AT_PUBLISHING = frozenset({FaultKind.REFUSE_PUBLISH, FaultKind.LOSE_PUBLISH_ANSWER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One scripted fault, and where and how often it strikes."""

    id: int = 0
    kind: FaultKind
    times: int | None = 1  # None: until it is cleared
    source: str | None = None
    subscription: str | None = None
    event_type: str | None = None
    subject_contains: str | None = None
    copies: int = 1
    delay_s: float = 1.0
    status: int = 503

    def strikes(self, event: NewEvent | None, *, source: str, subscription: str | None) -> bool:
        """Return whether it concerns this event, on its way to this subscription if there is one."""
        return (
            (self.source is None or self.source == source)
            and (self.subscription is None or self.subscription == subscription)
            and (event is None or self.event_type is None or self.event_type == event.type)
            and (event is None or self.subject_contains is None or self.subject_contains in event.subject)
        )

    def document(self) -> JsonObject:
        """Return it as `GET /_faults` shows it."""
        return {name: getattr(self, name) for name in self.__slots__}


class Faults:
    """The faults that are still to strike; forgotten when the process ends."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)

    def add(self, fault: Fault) -> Fault:
        """Add a fault and return it with its id."""
        known = replace(fault, id=next(self._ids))
        self._faults.append(known)
        return known

    def clear(self) -> None:
        """Forget all of them."""
        self._faults.clear()

    def all(self) -> Sequence[Fault]:
        """Return those still to strike."""
        return tuple(self._faults)

    def take_for_publishing(self, source: str) -> Fault | None:
        """Return the first fault for a publisher of this topic, used up by one."""
        return self._take(
            lambda fault: fault.kind in _AT_PUBLISHING and fault.strikes(None, source=source, subscription=None)
        )

    def take_for_delivery(self, event: NewEvent, subscription: str) -> Fault | None:
        """Return the first fault for this delivery, used up by one."""
        return self._take(
            lambda fault: (
                fault.kind not in _AT_PUBLISHING
                and fault.strikes(event, source=event.source, subscription=subscription)
            )
        )

    def _take(self, wanted: Callable[[Fault], bool]) -> Fault | None:
        for place, fault in enumerate(self._faults):
            if wanted(fault):
                if fault.times is not None and fault.times <= 1:
                    del self._faults[place]
                elif fault.times is not None:
                    self._faults[place] = replace(fault, times=fault.times - 1)
                return fault
        return None


def parse_fault(document: Json) -> Fault:
    """Return the fault that `POST /_faults` describes.

    Raises:
        BadRequestError: Naming every mistake.
    """
    if not isinstance(document, dict):
        raise BadRequestError("a fault must be an object")
    mistakes = [f"unknown field {name!r}" for name in document if name not in Fault.__slots__ or name == "id"]
    kind = document.get("kind")
    if kind not in list(FaultKind):
        mistakes.append(f"kind must be one of {[str(item) for item in FaultKind]}, got {kind!r}")
    mistakes += [
        f"{name} must be a string, got {document[name]!r}"
        for name in ("source", "subscription", "event_type", "subject_contains")
        if not isinstance(document.get(name), str | None)
    ]
    for name, low, high in (("times", 1, 1_000_000), ("copies", 1, 1000), ("delay_s", 0, 86_400), ("status", 400, 599)):
        value = document.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and low <= float(str(value)) <= high):
            mistakes.append(f"{name} must be a number from {low} to {high}, got {value!r}")
    if mistakes:
        raise BadRequestError("; ".join(mistakes))

    def text(name: str) -> str | None:
        return None if document.get(name) is None else str(document[name])

    def number(name: str, default: float) -> float:
        return default if document.get(name) is None else float(str(document[name]))

    return Fault(
        kind=FaultKind(str(kind)),
        times=None if "times" in document and document["times"] is None else int(number("times", 1)),
        source=text("source"),
        subscription=text("subscription"),
        event_type=text("event_type"),
        subject_contains=text("subject_contains"),
        copies=int(number("copies", 1)),
        delay_s=number("delay_s", 1.0),
        status=int(number("status", 503)),
    )
