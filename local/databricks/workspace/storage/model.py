"""Maps the paths of the Files API and of DBFS to files on disk."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from local.databricks.workspace.storage.errors import (
    FileExistsAlreadyError,
    FileMissingError,
    NotEmptyError,
    UnknownRootError,
)
from local.databricks.workspace.tree.paths import disk_path

__all__ = ["Entry", "FileStore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or directory; `size_bytes` is 0 for directories."""

    path: str
    is_directory: bool
    size_bytes: int
    modified_ms: int

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name


class FileStore:
    """Files under named roots, such as `/Volumes`, or under one root for everything.

    Args:
        roots: The directory on disk of each first path segment; the key `""` takes what no other takes.
    """

    def __init__(self, roots: dict[str, Path]) -> None:
        self._roots = roots
        for directory in roots.values():
            directory.mkdir(parents=True, exist_ok=True)

    def locate(self, path: str) -> Path:
        """Return where the path lies on disk, whether there is something or not."""
        clean = PurePosixPath("/", *(part for part in path.split("/") if part not in {"", "."}))
        if ".." in clean.parts or "\0" in path:
            raise UnknownRootError(path, sorted(self._roots))
        first = clean.parts[1] if len(clean.parts) > 1 else ""
        if first in self._roots and first:
            return disk_path(self._roots[first], "/" + "/".join(clean.parts[2:]))
        if "" in self._roots:
            return disk_path(self._roots[""], str(clean))
        raise UnknownRootError(path, sorted(self._roots))

    def get(self, path: str) -> Entry:
        """Return the entry at that path; raises FileMissingError."""
        target = self.locate(path)
        if not target.exists():
            raise FileMissingError(path)
        return _entry(_clean(path), target)

    def list(self, path: str) -> list[Entry]:
        """Return the entries of a directory by name, or the file itself."""
        entry = self.get(path)
        if not entry.is_directory:
            return [entry]
        target = self.locate(path)
        return [
            _entry(f"{entry.path.rstrip('/')}/{child.name}", child)
            for child in sorted(target.iterdir())
            if not child.name.endswith(".partial")
        ]

    def make_directory(self, path: str) -> None:
        """Make the directory and its parents; harmless if it is there."""
        target = self.locate(path)
        if target.is_file():
            raise FileExistsAlreadyError(path)
        target.mkdir(parents=True, exist_ok=True)

    def write(self, path: str, content: bytes, *, overwrite: bool) -> None:
        """Store a file, making its directories."""
        target = self._writable(path, overwrite=overwrite)
        partial = _partial(target)
        partial.write_bytes(content)
        partial.replace(target)

    async def write_stream(self, path: str, chunks: AsyncIterator[bytes], *, overwrite: bool) -> None:
        """Store a file as it arrives; nobody sees it before it is whole."""
        target = self._writable(path, overwrite=overwrite)
        partial = _partial(target)
        try:
            with partial.open("wb") as stream:
                async for chunk in chunks:
                    stream.write(chunk)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def move(self, source: str, destination: str) -> None:
        """Rename a file or directory."""
        self.get(source)
        target = self.locate(destination)
        if target.exists():
            raise FileExistsAlreadyError(destination)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.locate(source).rename(target)

    def delete(self, path: str, *, recursive: bool) -> None:
        """Remove a file, or a directory that is empty or recursively."""
        entry = self.get(path)
        target = self.locate(path)
        if not entry.is_directory:
            target.unlink()
        elif recursive:
            shutil.rmtree(target)
        elif any(target.iterdir()):
            raise NotEmptyError(path)
        else:
            target.rmdir()

    def _writable(self, path: str, *, overwrite: bool) -> Path:
        target = self.locate(path)
        if target.is_dir() or (target.exists() and not overwrite):
            raise FileExistsAlreadyError(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


def _clean(path: str) -> str:
    return "/" + "/".join(part for part in path.split("/") if part)


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.{id(target):x}.partial")


def _entry(path: str, target: Path) -> Entry:
    facts = target.stat()
    is_directory = target.is_dir()
    return Entry(
        path=path,
        is_directory=is_directory,
        size_bytes=0 if is_directory else facts.st_size,
        modified_ms=int(facts.st_mtime * 1000),
    )
