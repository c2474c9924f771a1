"""Translates what the Azure SDKs raise into the control plane's own errors."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from functions.core.errors import (
    AccessRefusedError,
    LedgerThrottledError,
    LedgerUnavailableError,
    MlopsError,
    NotFoundError,
    ThrottledError,
    TransientError,
)
from functions.core.retry_after import retry_after_s

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError

__all__ = ["AZURE_ERROR_MEANINGS", "azure_errors"]

Unavailable = Callable[[str, str], TransientError]

# What each error class of azure-core and of the Azure SDKs used here means here; a test fails when one of
# them has a class that is not listed. "status" leaves it to the HTTP status, "ours" marks a bug of this code.
AZURE_ERROR_MEANINGS: Final[
    Mapping[str, Literal["unavailable", "refused", "missing", "conflict", "status", "ours"]]
] = {
    "AzureError": "unavailable",
    "ServiceRequestError": "unavailable",
    "ServiceRequestTimeoutError": "unavailable",
    "ServiceResponseError": "unavailable",
    "ServiceResponseTimeoutError": "unavailable",
    "HttpResponseError": "status",
    "DecodeError": "unavailable",  # an answer cut short or mangled on its way
    "IncompleteReadError": "unavailable",
    "TooManyRedirectsError": "unavailable",
    "ODataV4Error": "status",
    "ResourceExistsError": "conflict",
    "ResourceModifiedError": "conflict",
    "ResourceNotModifiedError": "conflict",
    "ResourceNotFoundError": "missing",
    "ClientAuthenticationError": "refused",
    "AuthenticationRequiredError": "refused",
    "CredentialUnavailableError": "unavailable",  # the identity endpoint does not answer (yet)
    "AzureSigningError": "refused",  # the account key of a connection string cannot sign
    "PartialBatchErrorException": "status",
    "TableTransactionError": "status",
    "RequestTooLargeError": "ours",
    "StreamConsumedError": "ours",
    "StreamClosedError": "ours",
    "ResponseNotReadError": "ours",
}


@contextmanager
def azure_errors(subject: str, unavailable: Unavailable, *, conflict: Unavailable | None = None) -> Iterator[None]:
    """Translate the errors of one call; what is our own bug, or unknown, passes untouched.

    Args:
        subject: What was attempted, for the message.
        unavailable: The transient error of this adapter.
        conflict: The error for a lost compare-and-set, if the caller does not catch that itself.
    """
    try:
        yield
    except MlopsError:
        raise
    except Exception as error:
        from azure.core.exceptions import AzureError  # loaded already: only an Azure client raises it

        translated = _translate(error, subject, unavailable, conflict) if isinstance(error, AzureError) else None
        if translated is None:
            raise
        raise translated from error


def _translate(
    error: "AzureError", subject: str, unavailable: Unavailable, conflict: Unavailable | None
) -> MlopsError | None:
    why = type(error).__name__
    names = (base.__name__ for base in type(error).__mro__)
    meaning: str = next(AZURE_ERROR_MEANINGS[name] for name in names if name in AZURE_ERROR_MEANINGS)
    response: Any = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or 0
    if status in {429, 503}:
        throttled = LedgerThrottledError if unavailable is LedgerUnavailableError else ThrottledError
        return throttled(subject, _retry_after_s(response))
    if meaning == "status":
        why = f"{why} {status}"
        meaning = _meaning_of_status(status)
    if meaning == "unavailable":
        return unavailable(subject, why)
    if meaning == "refused":
        return AccessRefusedError(subject, why)
    if meaning == "missing":
        return NotFoundError(subject, why)
    if meaning == "conflict" and conflict is not None:
        return conflict(subject, why)
    return None


def _meaning_of_status(status: int) -> str:
    """Return what an HTTP status without a class of its own means; 0 stands for no answer at all."""
    by_status = {401: "refused", 403: "refused", 404: "missing", 409: "conflict", 412: "conflict", 408: "unavailable"}
    if status in by_status:
        return by_status[status]
    return "unavailable" if status == 0 or status >= 500 else "ours"  # noqa: PLR2004 - HTTP's own number


def _retry_after_s(response: Any) -> float | None:
    headers = getattr(response, "headers", None) or {}
    return retry_after_s(headers.get("Retry-After") or headers.get("retry-after"), datetime.now(UTC))
