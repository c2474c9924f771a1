"""Names what can go wrong, in the vendor's codes and words; the transport maps codes to HTTP statuses.

WorkspaceError
├── InvalidParameterError        INVALID_PARAMETER_VALUE
├── MalformedRequestError        MALFORMED_REQUEST
├── AlreadyExistsError           RESOURCE_ALREADY_EXISTS
├── DoesNotExistError            RESOURCE_DOES_NOT_EXIST
├── InvalidStateError            INVALID_STATE
├── EndpointNotFoundError        ENDPOINT_NOT_FOUND
├── NotImplementedLocallyError   NOT_IMPLEMENTED
└── UpstreamUnavailableError     TEMPORARILY_UNAVAILABLE
"""

from enum import StrEnum

__all__ = [
    "AlreadyExistsError",
    "DoesNotExistError",
    "EndpointNotFoundError",
    "ErrorCode",
    "InvalidParameterError",
    "InvalidStateError",
    "MalformedRequestError",
    "NotImplementedLocallyError",
    "UpstreamUnavailableError",
    "WorkspaceError",
]


class ErrorCode(StrEnum):
    """The `error_code` of an answer."""

    BAD_REQUEST = "BAD_REQUEST"
    DIRECTORY_NOT_EMPTY = "DIRECTORY_NOT_EMPTY"
    DIRECTORY_PROTECTED = "DIRECTORY_PROTECTED"
    ENDPOINT_NOT_FOUND = "ENDPOINT_NOT_FOUND"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    INVALID_PARAMETER_VALUE = "INVALID_PARAMETER_VALUE"
    INVALID_STATE = "INVALID_STATE"
    IO_ERROR = "IO_ERROR"
    MALFORMED_REQUEST = "MALFORMED_REQUEST"
    MAX_BLOCK_SIZE_EXCEEDED = "MAX_BLOCK_SIZE_EXCEEDED"
    MAX_NOTEBOOK_SIZE_EXCEEDED = "MAX_NOTEBOOK_SIZE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    RESOURCE_ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"
    RESOURCE_DOES_NOT_EXIST = "RESOURCE_DOES_NOT_EXIST"
    RESOURCE_LIMIT_EXCEEDED = "RESOURCE_LIMIT_EXCEEDED"
    TEMPORARILY_UNAVAILABLE = "TEMPORARILY_UNAVAILABLE"


class WorkspaceError(Exception):
    """A request that the workspace refuses, with the vendor's code and words."""

    code = ErrorCode.BAD_REQUEST

    def __init__(self, message: str, code: ErrorCode | None = None) -> None:
        super().__init__(message, code)
        self.message = message
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return self.message


class InvalidParameterError(WorkspaceError):
    """A parameter has a value that cannot be used."""

    code = ErrorCode.INVALID_PARAMETER_VALUE


class MalformedRequestError(WorkspaceError):
    """The request cannot be parsed."""

    code = ErrorCode.MALFORMED_REQUEST


class AlreadyExistsError(WorkspaceError):
    """Something of that name is already there."""

    code = ErrorCode.RESOURCE_ALREADY_EXISTS


class DoesNotExistError(WorkspaceError):
    """There is nothing of that name."""

    code = ErrorCode.RESOURCE_DOES_NOT_EXIST


class InvalidStateError(WorkspaceError):
    """The thing is in a state that does not allow the request."""

    code = ErrorCode.INVALID_STATE


class EndpointNotFoundError(WorkspaceError):
    """There is no such path; several clients fall back on exactly this code."""

    code = ErrorCode.ENDPOINT_NOT_FOUND

    def __init__(self, path: str) -> None:
        super().__init__(f"No API found for '{path}'")


class NotImplementedLocallyError(WorkspaceError):
    """Databricks can do this, the local workspace cannot."""

    code = ErrorCode.NOT_IMPLEMENTED

    def __init__(self, operation: str) -> None:
        super().__init__(f"The local workspace does not implement {operation}")
        self.operation = operation


class UpstreamUnavailableError(WorkspaceError):
    """The MLflow server behind the workspace does not answer."""

    code = ErrorCode.TEMPORARILY_UNAVAILABLE
