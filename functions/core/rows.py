"""Packs values into flat table rows, cutting long text into several properties."""

from collections.abc import Mapping
from typing import Final

from functions.core.errors import InvalidDocumentError, Problem

__all__ = ["Row", "RowValue", "pack_row", "unpack_row"]

RowValue = str | int | bool
Row = dict[str, RowValue]

# Table Storage keeps text as UTF-16 and allows 64 KiB a property: 32,768 units; astral characters take two.
_CHUNK_CHARACTERS: Final = 16_000
_MAX_INT32: Final = 2**31 - 1


def pack_row(values: Mapping[str, RowValue | None]) -> Row:
    """Return a row without the absent values, long texts cut into `name`, `name__1`, `name__2` and so on.

    Integers must fit 32 bits, which is what the table's SDK writes without annotation; larger ones go as text.
    """
    row: Row = {}
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, str):
            chunks = [value[at : at + _CHUNK_CHARACTERS] for at in range(0, len(value), _CHUNK_CHARACTERS)] or [""]
            row[name] = chunks[0]
            row.update({f"{name}__{index}": chunk for index, chunk in enumerate(chunks[1:], start=1)})
        else:
            if abs(value) > _MAX_INT32:
                raise ValueError(f"{name} must fit 32 bits, got {value}")
            row[name] = value
    return row


def unpack_row(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row's values with long texts joined; the table's own keys are left to the caller.

    Raises:
        InvalidDocumentError: A chunk has no beginning or is no text.
    """
    values = {name: value for name, value in row.items() if "__" not in name}
    for name in (name for name in row if name.endswith("__1")):
        first = values.get(name.removesuffix("__1"))
        chunks = [first]
        while (chunk := row.get(f"{name.removesuffix('1')}{len(chunks)}")) is not None:
            chunks.append(chunk)
        if not all(isinstance(chunk, str) for chunk in chunks):
            raise InvalidDocumentError([Problem(name, "a chunk without its beginning", "text")])
        values[name.removesuffix("__1")] = "".join(map(str, chunks))
    return values
