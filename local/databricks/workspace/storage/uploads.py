"""Assembles files that arrive in parts, and blocks that arrive through handles."""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from local.databricks.workspace.storage.errors import HandleMissingError
from local.databricks.workspace.storage.model import FileStore
from local.databricks.workspace.transport.errors import InvalidParameterError

__all__ = ["DbfsHandles", "MultipartUploads"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    path: str
    overwrite: bool
    directory: Path


class MultipartUploads:
    """Uploads in parts; sessions do not survive a restart, and the client starts over."""

    def __init__(self, files: FileStore, scratch: Path) -> None:
        self._files = files
        self._scratch = scratch
        self._sessions: dict[str, _Session] = {}
        shutil.rmtree(scratch, ignore_errors=True)

    def begin(self, path: str, *, overwrite: bool) -> str:
        """Return the token of a new session."""
        self._files.locate(path)
        token = secrets.token_hex(16)
        directory = self._scratch / token
        directory.mkdir(parents=True)
        self._sessions[token] = _Session(path=path, overwrite=overwrite, directory=directory)
        return token

    async def put_part(self, token: str, number: int, chunks: AsyncIterator[bytes]) -> str:
        """Store a part, replacing an earlier one of the same number; returns its ETag."""
        directory = self._session(token).directory
        partial = directory / f"{number}.{secrets.token_hex(4)}"
        with partial.open("wb") as stream:
            async for chunk in chunks:
                stream.write(chunk)
        partial.replace(directory / str(number))
        return f'"{token[:8]}-{number}"'

    async def complete(self, token: str, numbers: Sequence[int]) -> None:
        """Make the file out of its parts, in the order of their numbers."""
        session = self._session(token)
        parts = [session.directory / str(number) for number in sorted(numbers)]
        missing = [part.name for part in parts if not part.exists()]
        if missing:
            raise InvalidParameterError(f"parts {', '.join(missing)} were not uploaded")
        await self._files.write_stream(session.path, _concatenated(parts), overwrite=session.overwrite)
        self.abort(token)

    def abort(self, token: str) -> None:
        """Forget a session and its parts."""
        session = self._sessions.pop(token, None)
        if session is not None:
            shutil.rmtree(session.directory, ignore_errors=True)

    def _session(self, token: str) -> _Session:
        session = self._sessions.get(token)
        if session is None:
            raise HandleMissingError(token)
        return session


class DbfsHandles:
    """Open streams of DBFS; they do not survive a restart."""

    def __init__(self, files: FileStore) -> None:
        self._files = files
        self._open: dict[int, tuple[str, bool, bytearray]] = {}
        self._last = 1000

    def create(self, path: str, *, overwrite: bool) -> int:
        """Return the handle of a new stream; the file appears when it is closed."""
        if not overwrite:
            self._files.write(path, b"", overwrite=False)
        self._last += 1
        self._open[self._last] = (path, True, bytearray())
        return self._last

    def append(self, handle: int, block: bytes) -> None:
        """Add a block to an open stream."""
        self._stream(handle)[2].extend(block)

    def close(self, handle: int) -> None:
        """Store what the stream was given."""
        path, overwrite, content = self._stream(handle)
        self._files.write(path, bytes(content), overwrite=overwrite)
        del self._open[handle]

    def _stream(self, handle: int) -> tuple[str, bool, bytearray]:
        if handle not in self._open:
            raise HandleMissingError(handle)
        return self._open[handle]


async def _concatenated(parts: Sequence[Path]) -> AsyncIterator[bytes]:
    for part in parts:
        with part.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                yield chunk
                await asyncio.sleep(0)  # other requests get their turn between the chunks of a large file
