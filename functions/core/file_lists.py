"""Reads the manifest in which a producer lists the files of a folder, as text that anybody may have written."""

import json
import re
from typing import Final

from functions.core.errors import InvalidDocumentError, Problem
from functions.core.readiness_toml import MOST_FILES
from functions.core.reading import Reader, shown

__all__ = ["MOST_BYTES", "parse_file_list"]

MOST_BYTES: Final = 16 * 1024 * 1024  # 50,000 names of 300 bytes
_PROBLEMS_TOLD: Final = 20
_NAME: Final = re.compile(r"[^/\\\x00-\x1f\x7f]{1,1024}")


def parse_file_list(data: bytes) -> frozenset[str]:
    """Return the names in a manifest.

    It is one of: JSON, as a list of names or an object whose `files` are names or objects with a `name`; or text with
    one name a line. A name is that of a blob in the manifest's own folder, so it has no slash.

    Raises:
        InvalidDocumentError: It is none of these, or some names are not; lists the first mistakes.
    """
    if len(data) > MOST_BYTES:
        raise InvalidDocumentError([Problem("manifest", f"{len(data)} bytes", f"at most {MOST_BYTES}")])
    try:
        text = data.decode().removeprefix("\ufeff").strip()
        document: object = json.loads(text) if text.startswith(("{", "[")) else None
    except (ValueError, RecursionError):
        raise InvalidDocumentError([Problem("manifest", f"{len(data)} bytes", "JSON or lines of UTF-8")]) from None
    problems: list[Problem] = []
    if document is None:
        lines = (line.strip() for line in re.split(r"\r\n|\n|\r", text))
        names = [Reader(line, f"manifest line {number}", problems) for number, line in enumerate(lines, 1) if line]
    else:
        names = _names_in(Reader(document, "manifest", problems))
    found = frozenset(name for reader in names[:MOST_FILES] if (name := _checked(reader)))
    if len(names) > MOST_FILES or not (names or problems):
        problems.append(Problem("manifest", f"{len(names)} names", f"1 to {MOST_FILES} names"))
    if problems:
        raise InvalidDocumentError(problems[:_PROBLEMS_TOLD])
    return found


def _names_in(root: Reader) -> list[Reader]:
    if isinstance(root.value, dict):
        if root.child("files").is_absent:
            root.child("files").refuse("a list of names")
            return []
        root = root.child("files")
    return [item.child("name") if isinstance(item.value, dict) else item for item in root.items()]


def _checked(reader: Reader) -> str:
    name = reader.text(expected="the name of a file")
    if name and (name in {".", ".."} or not _NAME.fullmatch(name)):
        reader.problems.append(
            Problem(reader.place, shown(name), "the name of a file beside the manifest: no path, no control characters")
        )
        return ""
    return name
