"""Stores directories, notebooks and workspace files, all of them as plain files on disk.

A notebook is a file with a language's extension whose first line is that language's notebook header; the tree shows
it without the extension, as Databricks does. The disk is the truth, so what a notebook writes beside itself is seen.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from local.databricks.workspace.clock import Clock
from local.databricks.workspace.database import next_id
from local.databricks.workspace.transport.errors import DoesNotExistError, ErrorCode, InvalidParameterError
from local.databricks.workspace.tree.errors import (
    DirectoryNotEmptyError,
    NodeExistsError,
    NodeMissingError,
    NotebookTooLargeError,
    ProtectedDirectoryError,
)
from local.databricks.workspace.tree.paths import disk_path, normalized

__all__ = ["Language", "Node", "NodeKind", "WorkspaceTree"]

_MAX_NOTEBOOK_BYTES = 10 * 1024 * 1024
_PROTECTED = frozenset({"/", "/Shared", "/Users", "/Repos"})
_FIRST_OBJECT_ID = 10_000_001


class NodeKind(StrEnum):
    """The `object_type` of a node."""

    DIRECTORY = "DIRECTORY"
    NOTEBOOK = "NOTEBOOK"
    FILE = "FILE"
    EXPERIMENT = "MLFLOW_EXPERIMENT"


class Language(StrEnum):
    """A notebook's default language."""

    PYTHON = "PYTHON"
    SQL = "SQL"
    SCALA = "SCALA"
    R = "R"

    @property
    def extension(self) -> str:
        """The file extension of a notebook in source format."""
        return {"PYTHON": ".py", "SQL": ".sql", "SCALA": ".scala", "R": ".r"}[self.value]

    @property
    def header(self) -> bytes:
        """The first line of a notebook in source format."""
        marker = {"PYTHON": b"#", "SQL": b"--", "SCALA": b"//", "R": b"#"}[self.value]
        return marker + b" Databricks notebook source"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One entry of the tree; times in milliseconds since the epoch."""

    path: str
    kind: NodeKind
    object_id: int
    created_ms: int
    modified_ms: int
    language: Language | None = None
    size_bytes: int | None = None
    resource_id: str = ""


class WorkspaceTree:
    """The tree under one directory of the disk."""

    def __init__(self, root: Path, database: sqlite3.Connection, clock: Clock) -> None:
        self.root = root
        self._database = database
        self._clock = clock
        for directory in ("Shared", "Users/tidegate@localhost", "Repos"):
            (root / directory).mkdir(parents=True, exist_ok=True)

    def make_directories(self, path: str) -> None:
        """Make the directory and its parents; harmless if it is there."""
        target = self._disk(path)
        for parent in (target, *target.parents):
            if parent == self.root:
                break
            if self._notebook_file(parent) is not None or parent.is_file():
                raise NodeExistsError(self._tree_path(parent))
        target.mkdir(parents=True, exist_ok=True)

    def write_notebook(self, path: str, source: bytes, language: Language, *, overwrite: bool) -> None:
        """Store a notebook, with the header that makes it one; its directory must exist."""
        if len(source) > _MAX_NOTEBOOK_BYTES:
            raise NotebookTooLargeError(len(source), _MAX_NOTEBOOK_BYTES)
        target = self._disk(path)
        if target.is_dir() or target.is_file():
            raise NodeExistsError(normalized(path))
        existing = self._notebook_file(target)
        if existing is not None and not overwrite:
            raise NodeExistsError(normalized(path))
        if not source.startswith(language.header):
            source = language.header + b"\n" + source
        if existing is not None and existing.suffix != language.extension:
            existing.unlink()
        self._write(target.with_name(target.name + language.extension), source)

    def write_file(self, path: str, content: bytes, *, overwrite: bool) -> None:
        """Store a workspace file; its directory must exist."""
        target = self._disk(path)
        if target.is_dir() or self._notebook_file(target) is not None or (target.exists() and not overwrite):
            raise NodeExistsError(normalized(path))
        self._write(target, content)

    def get(self, path: str) -> Node:
        """Return the node at that path."""
        node = self._find(normalized(path))
        if node is None:
            raise NodeMissingError(normalized(path))
        return node

    def list(self, path: str) -> list[Node]:
        """Return a directory's entries by name; listing a notebook or file returns itself."""
        node = self.get(path)
        if node.kind is not NodeKind.DIRECTORY:
            return [node]
        return sorted([*self._entries(node.path), *self._experiments(node.path)], key=lambda entry: entry.path)

    def read(self, path: str) -> tuple[Node, bytes]:
        """Return a notebook's source or a file's content, byte for byte as stored."""
        node = self.get(path)
        return node, self.file_of(node).read_bytes()

    def file_of(self, node: Node) -> Path:
        """Return the file on disk that holds a notebook or file."""
        target = self._disk(node.path)
        match node.kind:
            case NodeKind.FILE:
                return target
            case NodeKind.NOTEBOOK:
                found = self._notebook_file(target)
                if found is None:
                    raise NodeMissingError(node.path)
                return found
            case NodeKind.DIRECTORY | NodeKind.EXPERIMENT:
                raise InvalidParameterError(f"Cannot export {node.path}: it is a {node.kind.value}")

    def find_notebook_file(self, path: str) -> Path | None:
        """Return the file of the notebook at that path, or None if there is no notebook."""
        node = self._find(normalized(path))
        return self.file_of(node) if node is not None and node.kind is NodeKind.NOTEBOOK else None

    def delete(self, path: str, *, recursive: bool) -> None:
        """Remove a node; a directory that is not empty only recursively."""
        node = self.get(path)
        if node.path in _PROTECTED:
            raise ProtectedDirectoryError(node.path)
        match node.kind:
            case NodeKind.DIRECTORY:
                target = self._disk(node.path)
                if not recursive and (any(target.iterdir()) or any(self._experiments(node.path))):
                    raise DirectoryNotEmptyError(node.path)
                shutil.rmtree(target)
                below = f"{node.path}/"
                self._database.execute("DELETE FROM objects WHERE substr(path, 1, ?) = ?", (len(below), below))
            case NodeKind.NOTEBOOK | NodeKind.FILE:
                self.file_of(node).unlink()
            case NodeKind.EXPERIMENT:
                raise InvalidParameterError(f"{node.path} is an experiment: delete it through the MLflow API")
        self._database.execute("DELETE FROM objects WHERE path = ?", (node.path,))

    def check_experiment_name(self, name: str) -> None:
        """Raise unless an experiment of that name could be made: an absolute path in an existing directory."""
        if not name.startswith("/"):
            raise InvalidParameterError(
                f"Got an invalid experiment name '{name}'. An experiment name must be an absolute path within the "
                "Databricks workspace. E.g. '/Users/<some-username>/my-experiment'."
            )
        parent = str(PurePosixPath(normalized(name)).parent)
        if not self._disk(parent).is_dir():
            raise DoesNotExistError(f"Parent directory {parent} does not exist.")
        node = self._find(normalized(name))
        if node is not None and node.kind is not NodeKind.EXPERIMENT:
            raise NodeExistsError(node.path, ErrorCode.RESOURCE_ALREADY_EXISTS)

    def record_experiment(self, name: str, experiment_id: str) -> None:
        """Show the experiment in the tree."""
        self._database.execute(
            "INSERT OR REPLACE INTO experiments VALUES (?, ?, ?)",
            (normalized(name), experiment_id, self._clock.now_ms()),
        )

    def forget_experiment(self, experiment_id: str) -> None:
        """Show a deleted experiment no longer."""
        self._database.execute("DELETE FROM experiments WHERE experiment_id = ?", (experiment_id,))

    def _disk(self, path: str) -> Path:
        return disk_path(self.root, normalized(path))

    def _tree_path(self, target: Path) -> str:
        return "/" + target.relative_to(self.root).as_posix()

    def _write(self, target: Path, content: bytes) -> None:
        if not target.parent.is_dir():
            raise DoesNotExistError(f"The parent folder ({self._tree_path(target.parent)}) does not exist.")
        partial = target.with_name(f".{target.name}.partial")
        partial.write_bytes(content)
        partial.replace(target)  # a reader sees the old content or the new, never half of it

    def _find(self, path: str) -> Node | None:
        target = disk_path(self.root, path)
        if target.exists():
            node = self._node(target)
            return node if node.path == path else None  # a notebook is not found under its file name
        notebook = self._notebook_file(target)
        if notebook is not None:
            return self._node(notebook)
        return next((node for node in self._experiments(str(PurePosixPath(path).parent)) if node.path == path), None)

    def _entries(self, path: str) -> Iterator[Node]:
        for target in disk_path(self.root, path).iterdir():
            if not (target.name.startswith(".") and target.name.endswith(".partial")) and target.name != "__pycache__":
                yield self._node(target)

    def _experiments(self, directory: str) -> Iterator[Node]:
        for row in self._database.execute("SELECT * FROM experiments").fetchall():
            if str(PurePosixPath(row["path"]).parent) == directory:
                created_ms = row["created_ms"]
                yield Node(
                    path=row["path"],
                    kind=NodeKind.EXPERIMENT,
                    object_id=int(row["experiment_id"]),
                    created_ms=created_ms,
                    modified_ms=created_ms,
                    resource_id=row["experiment_id"],
                )

    def _notebook_file(self, target: Path) -> Path | None:
        candidates = (target.with_name(target.name + language.extension) for language in Language)
        return next((file for file in candidates if file.is_file() and _notebook_language(file)), None)

    def _node(self, target: Path) -> Node:
        facts = target.stat()
        language = None if target.is_dir() else _notebook_language(target)
        if target.is_dir():
            kind, path = NodeKind.DIRECTORY, target
        elif language is not None:
            kind, path = NodeKind.NOTEBOOK, target.with_suffix("")
        else:
            kind, path = NodeKind.FILE, target
        tree_path = "/" if target == self.root else self._tree_path(path)
        return Node(
            path=tree_path,
            kind=kind,
            object_id=self._object_id(tree_path),
            created_ms=int(facts.st_ctime * 1000),
            modified_ms=int(facts.st_mtime * 1000),
            language=language,
            size_bytes=facts.st_size if kind is NodeKind.FILE else None,
        )

    def _object_id(self, path: str) -> int:
        row = self._database.execute("SELECT object_id FROM objects WHERE path = ?", (path,)).fetchone()
        if row is not None:
            return int(row["object_id"])
        object_id = next_id(self._database, "object", _FIRST_OBJECT_ID)
        self._database.execute("INSERT INTO objects VALUES (?, ?)", (path, object_id))
        return object_id


def _notebook_language(file: Path) -> Language | None:
    for language in Language:
        if file.suffix.lower() == language.extension:
            with file.open("rb") as stream:
                return language if stream.readline().startswith(language.header) else None
    return None
