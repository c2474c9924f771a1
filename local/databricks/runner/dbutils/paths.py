"""Maps the platform's paths to folders of this machine."""

import re
from pathlib import Path

from runner.request import Request

__all__ = ["RootedPaths"]


class RootedPaths:
    """Where `dbfs:/`, `/Volumes` and `/Workspace` are on disk."""

    def __init__(self, request: Request) -> None:
        self._dbfs = request.dbfs_root
        self._volumes = request.volumes_root
        self._workspace = request.workspace_root

    def to_disk(self, path: str) -> Path | None:
        """Return the place on disk of a path as `dbutils.fs` takes it, or None if Hadoop has to find it.

        Raises:
            ValueError: The path climbs out of its root.
        """
        match = re.match(r"(?P<scheme>[a-z][a-z0-9+.-]*):(?P<rest>.*)", path, flags=re.IGNORECASE)
        scheme, rest = (match["scheme"].lower(), match["rest"]) if match else ("dbfs", path)
        rest = "/" + rest.lstrip("/")
        if scheme == "file":
            return self.from_posix(rest)
        if scheme != "dbfs":
            return None
        for prefix, root in (("/Volumes", self._volumes), ("/Workspace", self._workspace)):
            if rest == prefix or rest.startswith(f"{prefix}/"):
                return _inside(root, rest.removeprefix(prefix))
        return _inside(self._dbfs, rest)

    def from_posix(self, path: str) -> Path:
        """Return the place on disk of a path as Python's `open` takes it on the platform."""
        for prefix, root in (("/dbfs", self._dbfs), ("/Volumes", self._volumes), ("/Workspace", self._workspace)):
            if path == prefix or path.startswith(f"{prefix}/"):
                return _inside(root, path.removeprefix(prefix))
        return Path(path)

    def notebook_file(self, path: str, *, beside: Path) -> Path:
        """Return the file of a notebook, given its path in the workspace, absolute or relative to another notebook.

        Raises:
            FileNotFoundError: There is no such notebook.
        """
        inner = path.removeprefix("/Workspace") if path.startswith("/Workspace/") else path
        place = _inside(self._workspace, inner) if path.startswith("/") else Path(beside.parent / path)
        for candidate in (place, *(place.with_name(f"{place.name}.{suffix}") for suffix in ("py", "sql"))):
            if candidate.is_file():
                return candidate
        raise FileNotFoundError(f"Notebook not found: {path}")


def _inside(root: Path, rest: str) -> Path:
    place = (root / rest.lstrip("/")).resolve()
    if not place.is_relative_to(root.resolve()):
        raise ValueError(f"the path {rest!r} leaves its root")
    return place
