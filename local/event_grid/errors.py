"""Defines the refusals of the service, with Azure's status, code and words.

EventGridError
├── BadRequestError            400: the body is not what the topic or the resource provider expects
├── UnauthorizedError          401: no key, a wrong key, or a signature that does not hold
├── NotFoundError              404
├── TooLargeError              413
└── NotImplementedHereError    501: Azure has it, this emulator does not
"""

import uuid
from datetime import UTC, datetime
from http import HTTPStatus

from local.event_grid.wire import JsonObject

__all__ = [
    "BadRequestError",
    "EventGridError",
    "NotFoundError",
    "NotImplementedHereError",
    "TooLargeError",
    "UnauthorizedError",
]


class EventGridError(Exception):
    """A request that the service refuses."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    code = "InternalServerError"

    def __init__(self, message: str, *, detail_code: str | None = None) -> None:
        super().__init__(message, detail_code)
        self.message = message
        self.detail_code = detail_code or self.code

    def __str__(self) -> str:
        return self.message

    def document(self) -> JsonObject:
        """Return the body of the answer, as the data plane writes it."""
        report = f"{uuid.uuid4()}:1:{datetime.now(UTC):%m/%d/%Y %I:%M:%S %p} (UTC)"
        message = f"{self.message} Report '{report}' to our forums for assistance or raise a support ticket."
        detail: JsonObject = {"code": self.detail_code, "message": message}
        return {"error": {"code": self.code, "message": message, "details": [detail]}}


class BadRequestError(EventGridError):
    """The body is not what is expected here."""

    status = HTTPStatus.BAD_REQUEST
    code = "BadRequest"


class UnauthorizedError(EventGridError):
    """The request does not prove that it may publish."""

    status = HTTPStatus.UNAUTHORIZED
    code = "Unauthorized"


class NotFoundError(EventGridError):
    """There is no such resource."""

    status = HTTPStatus.NOT_FOUND
    code = "ResourceNotFound"


class TooLargeError(EventGridError):
    """The body is longer than the service takes."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "RequestEntityTooLarge"


class NotImplementedHereError(EventGridError):
    """Azure can do it, this emulator cannot; the message names the operation."""

    status = HTTPStatus.NOT_IMPLEMENTED
    code = "NotImplemented"
