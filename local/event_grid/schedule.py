"""Decides when a failed delivery is tried again, and when it is given up."""

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Final

__all__ = [
    "DeadLetterReason",
    "DestinationKind",
    "Failure",
    "GiveUp",
    "Retry",
    "RetryPolicy",
    "after_failure",
    "has_expired",
]

# Source: Microsoft Learn, "Event Grid message delivery and retry", retry schedule.
RETRY_STEPS_S: Final = (10, 30, 60, 300, 600, 1800, 3600, 10800, 21600, 43200)
MAX_JITTER: Final = 0.1
_OTHER_MINIMUM_S: Final = 10


class DestinationKind(StrEnum):
    """What a subscription delivers to; the rules for refusals differ."""

    AZURE_RESOURCE = "StorageQueue"
    WEBHOOK = "WebHook"


class DeadLetterReason(StrEnum):
    """Why a delivery was given up."""

    MAX_ATTEMPTS = "MaxDeliveryAttemptsExceeded"
    EXPIRED = "TimeToLiveExceeded"
    BAD_REQUEST = "UndeliverableDueToHttpBadRequest"
    TOO_LARGE = "UndeliverableDueToHttpRequestEntityTooLarge"
    FORBIDDEN = "UndeliverableDueToHttpForbidden"
    UNAUTHORIZED = "UndeliverableDueToHttpUnauthorized"


_FINAL: Final = {
    HTTPStatus.BAD_REQUEST: DeadLetterReason.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: DeadLetterReason.TOO_LARGE,
    HTTPStatus.FORBIDDEN: DeadLetterReason.FORBIDDEN,
}
_FINAL_FOR_WEBHOOKS: Final = {**_FINAL, HTTPStatus.UNAUTHORIZED: DeadLetterReason.UNAUTHORIZED}
_MINIMUM_S: Final = {HTTPStatus.REQUEST_TIMEOUT: 120, HTTPStatus.SERVICE_UNAVAILABLE: 30}
_MISSING_RESOURCE_S: Final = {HTTPStatus.UNAUTHORIZED: 300, HTTPStatus.NOT_FOUND: 300}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long a subscription wants deliveries to be tried."""

    max_delivery_attempts: int = 30
    event_ttl_minutes: int = 1440

    def __post_init__(self) -> None:
        if not 1 <= self.max_delivery_attempts <= 30:  # noqa: PLR2004 - Azure's limit
            raise ValueError(f"maxDeliveryAttempts must be 1 to 30, got {self.max_delivery_attempts!r}")
        if not 1 <= self.event_ttl_minutes <= 1440:  # noqa: PLR2004 - Azure's limit
            raise ValueError(f"eventTimeToLiveInMinutes must be 1 to 1440, got {self.event_ttl_minutes!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a delivery attempt came to; `status` is None if nobody answered."""

    status: int | None
    outcome: str  # one of Azure's LastDeliveryOutcome words


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Try again after this long."""

    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Never try again; dead-letter or drop."""

    reason: DeadLetterReason


def after_failure(
    failure: Failure, *, kind: DestinationKind, policy: RetryPolicy, attempts: int, jitter: float
) -> Retry | GiveUp:
    """Return what to do after the `attempts`-th attempt failed.

    Args:
        failure: What came back.
        kind: A webhook's 401 is final; a queue's is retried.
        policy: The subscription's.
        attempts: How many have been made, this one included.
        jitter: In [0, 1): how much of the random part to add to the wait.
    """
    final = _FINAL_FOR_WEBHOOKS if kind is DestinationKind.WEBHOOK else _FINAL
    status = next((known for known in HTTPStatus if known == failure.status), None)
    if status in final:
        return GiveUp(reason=final[status])
    if attempts >= policy.max_delivery_attempts:
        return GiveUp(reason=DeadLetterReason.MAX_ATTEMPTS)
    minimum = _MINIMUM_S.get(status, _OTHER_MINIMUM_S) if status else _OTHER_MINIMUM_S
    if kind is DestinationKind.AZURE_RESOURCE and status in _MISSING_RESOURCE_S:
        minimum = _MISSING_RESOURCE_S[status]
    step = RETRY_STEPS_S[min(attempts, len(RETRY_STEPS_S)) - 1]
    return Retry(wait_s=max(step, minimum) * (1 + MAX_JITTER * jitter))


def has_expired(*, published_at: float, now: float, policy: RetryPolicy, time_scale: float) -> bool:
    """Return whether an attempt that is due now comes after the event's time to live."""
    return now - published_at > policy.event_ttl_minutes * 60 * time_scale
