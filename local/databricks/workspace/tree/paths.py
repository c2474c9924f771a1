"""Turns the paths that clients write into places below one directory, and never outside of it."""

from pathlib import Path, PurePosixPath

from local.databricks.workspace.transport.errors import InvalidParameterError

__all__ = ["disk_path", "normalized"]

_MAX_NAME_BYTES = 255


def normalized(path: str) -> str:
    """Return an absolute path without `/Workspace` prefix, doubled or trailing slashes.

    Raises:
        InvalidParameterError: The path is relative, steps upwards, or holds what no file name can.
    """
    if not path.startswith("/"):
        raise InvalidParameterError(f"Path ({path}) doesn't start with '/'")
    parts = [part for part in path.split("/") if part]
    for part in parts:
        if part in {".", ".."} or "\0" in part or len(part.encode()) > _MAX_NAME_BYTES:
            raise InvalidParameterError(f"Path ({path}) is not a valid path")
    if parts[:1] == ["Workspace"]:
        parts = parts[1:]
    return "/" + "/".join(parts)


def disk_path(root: Path, path: str) -> Path:
    """Return where a normalized path lies on disk; raises if a link leads out of `root`."""
    found = root.joinpath(*PurePosixPath(path).parts[1:])
    if not found.resolve().is_relative_to(root.resolve()):
        raise InvalidParameterError(f"Path ({path}) is not a valid path")
    return found
