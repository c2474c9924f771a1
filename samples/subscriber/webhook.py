"""Answers Event Grid's requests to a webhook: both handshakes, deliveries in both schemas; standard library only."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

__all__ = ["EVENT_GRID", "Reply", "answer"]

EVENT_GRID: Final = "eventgrid.azure.net"
_MAX_BYTES: Final = 1024 * 1024  # Event Grid's own limit for a delivery
_BUSY_RETRY_S: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to send back."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: str = ""


def answer(
    method: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    receive: Callable[[Mapping[str, Any]], bool],
    allowed_origin: str = EVENT_GRID,
    allowed_rate: int | None = None,
) -> Reply:
    """Return the answer to a request of Event Grid.

    Args:
        method: OPTIONS for the handshake of CloudEvents, POST for everything else.
        headers: The request's headers, whatever their case.
        body: The request's body.
        receive: Takes one event; returns False if it shall be delivered again later. An error of it is the caller's:
            answer 500, and Event Grid delivers the whole batch again, of which the handled events are repeats.
        allowed_origin: Who may deliver.
        allowed_rate: How many deliveries a minute are welcome; None: any.
    """
    by_name = {name.lower(): value for name, value in headers.items()}
    if method == "OPTIONS":
        return _consent(by_name, allowed_origin, allowed_rate)
    if method != "POST":
        return Reply(status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST, OPTIONS"})
    try:
        events = _events_of(body)
    except ValueError as error:
        # Not 5xx: a delivery that cannot be read now cannot be read later; Event Grid dead-letters it.
        return Reply(status=HTTPStatus.BAD_REQUEST, body=str(error))
    match by_name.get("aeg-event-type"):
        case "SubscriptionValidation":
            return _validate(events)
        case "Unsubscribe":
            return Reply(status=HTTPStatus.OK)
        case _:
            return _receive(events, receive)


def _receive(events: list[dict[str, Any]], receive: Callable[[Mapping[str, Any]], bool]) -> Reply:
    are_taken = [receive(event) for event in events]  # all of them, also after one that is busy
    if all(are_taken):
        return Reply(status=HTTPStatus.OK)
    return Reply(status=HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": str(_BUSY_RETRY_S)})


def _consent(headers: Mapping[str, str], allowed_origin: str, allowed_rate: int | None) -> Reply:
    """Answer the handshake of CloudEvents: the header is the consent, the status is not."""
    origin = headers.get("webhook-request-origin", "")
    if origin.lower() != allowed_origin:
        return Reply(status=HTTPStatus.FORBIDDEN, body="this origin may not deliver here")
    consent = {"WebHook-Allowed-Origin": origin}
    if "webhook-request-rate" in headers:
        consent["WebHook-Allowed-Rate"] = "*" if allowed_rate is None else str(allowed_rate)
    return Reply(status=HTTPStatus.OK, headers=consent)


def _validate(events: list[dict[str, Any]]) -> Reply:
    """Answer the handshake of the Event Grid schema: 200 with the code that came."""
    data = events[0].get("data") if events else None
    code = data.get("validationCode") if isinstance(data, dict) else None
    if not isinstance(code, str):
        return Reply(status=HTTPStatus.BAD_REQUEST, body="a validation event without a validationCode")
    body = json.dumps({"validationResponse": code})
    return Reply(status=HTTPStatus.OK, headers={"Content-Type": "application/json"}, body=body)


def _events_of(body: bytes) -> list[dict[str, Any]]:
    """Return the events of a body: one, or a list of them; raises ValueError if it is neither."""
    if len(body) > _MAX_BYTES:
        raise ValueError(f"at most {_MAX_BYTES} bytes, got {len(body)}")
    try:
        document = json.loads(body)
    except RecursionError as error:
        raise ValueError("too deep nesting") from error
    events = document if isinstance(document, list) else [document]
    if not all(isinstance(event, dict) for event in events):
        raise ValueError("an event, or a list of events")
    return events
