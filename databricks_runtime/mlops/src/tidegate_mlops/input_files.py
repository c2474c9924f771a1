"""Looks into the footers of Parquet files, so that a file is refused before Spark reads a row of it."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from pyarrow import parquet

from tidegate_mlops.errors import InputRefusedError, RefusedFile, SupersededError
from tidegate_mlops.manifest import InputFile, all_superseded
from tidegate_mlops.ports import BlobFacts, BlobStore, Model, ModelCode, PreparedData
from tidegate_mlops.urls import BlobUrl

__all__ = ["AcceptedFile", "accept_files", "columns_of", "count_rows"]

_TAIL_BYTES: Final = 64 * 1024  # footers of files with up to some hundred columns fit into one request
_MAX_REASONS: Final = 20
_DAMAGED: Final = (pa.ArrowException, OSError, UnicodeDecodeError)  # a wrong tail, footer or name, or an encrypted one
_HIDDEN: Final = ("_", ".")  # Spark takes these files for somebody's bookkeeping and passes over them in silence


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedFile:
    """A Parquet file with the wanted columns: how many rows it has, and which Spark type each column is stored as."""

    url: BlobUrl
    rows: int
    stored_types: tuple[tuple[str, str], ...]


def accept_files[P: PreparedData, M: Model](
    store: BlobStore, files: Sequence[InputFile], code: ModelCode[P, M], *, training: bool
) -> tuple[AcceptedFile, ...]:
    """Return the files with what their footers say; raises InputRefusedError with the reasons of every refused one.

    A file that has changed meanwhile is one of them; if there are no others, SupersededError names those that have.
    """
    accepted: list[AcceptedFile] = []
    reasons: list[str] = []
    refused: list[RefusedFile] = []
    changes: list[SupersededError] = []
    for file in files:
        try:
            accepted.append(_accept(store, file, code, training=training))
        except InputRefusedError as error:
            reasons += error.reasons
            refused.append(
                RefusedFile(url=str(file.url), etag=file.etag, reason=f"{error.code}: {'; '.join(error.reasons)}")
            )
        except SupersededError as error:
            changes.append(error)
    if changes and not reasons:
        raise all_superseded(changes)
    reasons += [str(change) for change in changes]
    refused += [file for change in changes for file in change.refused]
    if not files:
        reasons.append("the input manifest lists no file")
    if reasons:
        more = [f"and {len(reasons) - _MAX_REASONS} more reasons"] if len(reasons) > _MAX_REASONS else []
        raise InputRefusedError(reasons[:_MAX_REASONS] + more, refused)
    return tuple(accepted)


def _accept[P: PreparedData, M: Model](
    store: BlobStore, file: InputFile, code: ModelCode[P, M], *, training: bool
) -> AcceptedFile:
    name = file.url.name
    if name.startswith(_HIDDEN):
        raise InputRefusedError([f"{name!r} starts with {name[0]!r}, and Spark does not read such files; rename it"])
    source = _RangedFile(store, file.url, file.size_bytes, file.etag)
    try:
        footer = _footer_of(source)
        schema = footer.schema.to_arrow_schema()
        kinds = [(field.name, _kind(field.type)) for field in schema]
    except _DAMAGED as error:
        if source.failure is not None:  # it is storage that did not answer, the file may be whole
            raise source.failure from error
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputRefusedError([f"{name!r} is no Parquet file ({cause[:160]})"]) from error
    problems = _ambiguities([column for column, _ in kinds]) or list(
        code.column_problems(dict(kinds), training=training)
    )
    if footer.num_rows <= 0:
        problems = ["it has no rows"]
    if problems:
        raise InputRefusedError([f"{name!r}: {problem}" for problem in problems])
    types = tuple((column, _spark_type(schema.field(column).type)) for column in code.input_types(training=training))
    return AcceptedFile(url=file.url, rows=footer.num_rows, stored_types=types)


def _ambiguities(columns: Sequence[str]) -> list[str]:
    """Return a problem for every name that several columns share for Spark, which does not see upper and lower case."""
    counts = Counter(column.lower() for column in columns)
    return [
        f"{count} columns are called {name!r}, upper and lower case aside"
        for name, count in counts.items()
        if count > 1
    ]


def count_rows(store: BlobStore, files: Sequence[BlobFacts]) -> int:
    """Return the number of rows in Parquet files that this run has written, from their footers."""
    return sum(_footer(store, file.url, size_bytes=file.size_bytes, etag=file.etag).num_rows for file in files)


def columns_of(store: BlobStore, file: BlobFacts) -> list[tuple[str, str]]:
    """Return names and Spark types of the columns of a Parquet file that this run has written."""
    schema = _footer(store, file.url, size_bytes=file.size_bytes, etag=file.etag).schema.to_arrow_schema()
    return [(field.name, _spark_type(field.type)) for field in schema]


def _footer(store: BlobStore, url: BlobUrl, *, size_bytes: int, etag: str) -> parquet.FileMetaData:
    return _footer_of(_RangedFile(store, url, size_bytes, etag))


def _footer_of(source: "_RangedFile") -> parquet.FileMetaData:
    return parquet.ParquetFile(pa.PythonFile(source, mode="r")).metadata


class _RangedFile(io.RawIOBase):
    """A blob version as a seekable file that fetches what is read, and the tail of the blob once.

    `failure` is what the store raised, which must not be taken for a damaged file.
    """

    def __init__(self, store: BlobStore, url: BlobUrl, size_bytes: int, etag: str) -> None:
        super().__init__()
        self._store, self._url, self._size, self._etag = store, url, size_bytes, etag
        self._place = 0
        self.failure: Exception | None = None
        self._tail_from = max(0, size_bytes - _TAIL_BYTES)
        self._tail = self._fetch(self._tail_from, size_bytes - self._tail_from)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = start + offset
        return self._place

    def read(self, size: int = -1) -> bytes:
        length = self._size - self._place if size < 0 else min(size, self._size - self._place)
        if self._place >= self._tail_from:
            first = self._place - self._tail_from
            data = self._tail[first : first + max(length, 0)]
        else:
            data = self._fetch(self._place, length)
        self._place += len(data)
        return data

    def _fetch(self, offset: int, length: int) -> bytes:
        if length <= 0:
            return b""
        try:
            return self._store.read_range(self._url, offset=offset, length=length, etag=self._etag)
        except Exception as error:
            self.failure = error
            raise


def _kind(stored: pa.DataType) -> str:
    """Return the word of the input contract for a storage type."""
    if pa.types.is_dictionary(stored):
        return _kind(stored.value_type)
    if pa.types.is_uint64(stored):
        return "unsigned 64-bit integer"  # Spark has no integer that holds it
    if pa.types.is_integer(stored):
        return "integer"
    if pa.types.is_float32(stored) or pa.types.is_float64(stored) or pa.types.is_decimal128(stored):
        return "floating"
    if pa.types.is_string(stored) or pa.types.is_large_string(stored):
        return "text"
    return str(stored)  # "null" is one of them


def _spark_type(stored: pa.DataType) -> str:
    """Return the type to read an accepted column as; Spark widens integers and floats while reading."""
    if pa.types.is_dictionary(stored):
        return _spark_type(stored.value_type)
    if pa.types.is_integer(stored):
        return "bigint"
    if pa.types.is_decimal128(stored):
        return f"decimal({stored.precision},{stored.scale})"
    return "double" if pa.types.is_floating(stored) else "string"
