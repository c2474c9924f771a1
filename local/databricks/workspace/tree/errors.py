"""Names what the tree refuses, in the vendor's words."""

from local.databricks.workspace.transport.errors import (
    AlreadyExistsError,
    DoesNotExistError,
    ErrorCode,
    WorkspaceError,
)

__all__ = [
    "DirectoryNotEmptyError",
    "NodeExistsError",
    "NodeMissingError",
    "NotebookTooLargeError",
    "ProtectedDirectoryError",
]


class NodeExistsError(AlreadyExistsError):
    """The path is taken, and overwriting was not asked for or cannot be."""

    def __init__(self, path: str, code: ErrorCode | None = None) -> None:
        super().__init__(f"Node ({path}) already exists", code)


class NodeMissingError(DoesNotExistError):
    """There is nothing at the path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"Path ({path}) doesn't exist.")


class DirectoryNotEmptyError(WorkspaceError):
    """The directory has entries and the deletion is not recursive."""

    code = ErrorCode.DIRECTORY_NOT_EMPTY

    def __init__(self, path: str) -> None:
        super().__init__(f"Folder ({path}) is not empty")


class ProtectedDirectoryError(WorkspaceError):
    """The directory belongs to the workspace."""

    code = ErrorCode.DIRECTORY_PROTECTED

    def __init__(self, path: str) -> None:
        super().__init__(f"Folder {path} is protected")


class NotebookTooLargeError(WorkspaceError):
    """A notebook's source exceeds what an import takes."""

    code = ErrorCode.MAX_NOTEBOOK_SIZE_EXCEEDED

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"content size ({size_bytes}) exceeded the limit of {limit_bytes} bytes")
