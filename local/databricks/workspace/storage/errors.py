"""Names what the file APIs refuse, in the vendor's words."""

from collections.abc import Sequence

from local.databricks.workspace.transport.errors import (
    AlreadyExistsError,
    DoesNotExistError,
    ErrorCode,
    InvalidParameterError,
    WorkspaceError,
)

__all__ = [
    "BlockTooLargeError",
    "FileExistsAlreadyError",
    "FileMissingError",
    "HandleMissingError",
    "NotEmptyError",
    "UnknownRootError",
]


class FileMissingError(DoesNotExistError):
    """There is no file or directory at the path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"No file or directory exists on path {path}.")


class FileExistsAlreadyError(AlreadyExistsError):
    """The path is taken, and overwriting was not asked for or cannot be."""

    def __init__(self, path: str) -> None:
        super().__init__(f"A file or directory already exists at the input path {path}.")


class NotEmptyError(WorkspaceError):
    """The directory has entries and the deletion is not recursive."""

    code = ErrorCode.IO_ERROR

    def __init__(self, path: str) -> None:
        super().__init__(f"Path is not empty: {path}")


class UnknownRootError(InvalidParameterError):
    """The path starts with nothing that the API serves, or steps upwards."""

    def __init__(self, path: str, roots: Sequence[str]) -> None:
        super().__init__(f"Invalid path: {path}; paths start with one of {', '.join(f'/{root}' for root in roots)}")


class BlockTooLargeError(WorkspaceError):
    """A block of DBFS exceeds one megabyte."""

    code = ErrorCode.MAX_BLOCK_SIZE_EXCEEDED

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The block of {size_bytes} bytes exceeds the maximum of 1 MB")


class HandleMissingError(DoesNotExistError):
    """The stream was closed, never opened, or idle for too long."""

    def __init__(self, handle: int | str) -> None:
        super().__init__(f"No open stream with handle {handle}")
