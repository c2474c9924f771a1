"""Parses imports and serialises nodes as the Workspace API 2.0 does."""

import base64
import binascii
from dataclasses import dataclass
from pathlib import PurePosixPath

from local.databricks.workspace.transport.errors import InvalidParameterError, NotImplementedLocallyError
from local.databricks.workspace.transport.params import JsonObject, Params
from local.databricks.workspace.tree.model import Language, Node, NodeKind

__all__ = ["Import", "node_to_json", "parse_import"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """What an import asks for; `language` is None for a workspace file."""

    path: str
    content: bytes
    language: Language | None
    overwrite: bool


def parse_import(params: Params) -> Import:
    """Return the import that the request describes, JSON or multipart.

    `AUTO` decides by extension and header, and takes the extension off a notebook's path; `SOURCE` is a notebook
    and needs its language.
    """
    path = params.text("path")
    content = _content(params)
    language: Language | None
    chosen = params.optional_text("format") or "SOURCE"
    match chosen:
        case "SOURCE":
            language = _declared_language(params)
        case "AUTO":
            language = _recognised_language(path, content)
            if language is not None and PurePosixPath(path).suffix.lower() == language.extension:
                path = str(PurePosixPath(path).with_suffix(""))
        case "RAW":
            language = None
        case _:
            raise NotImplementedLocallyError(f"workspace/import with format {chosen}")
    return Import(path=path, content=content, language=language, overwrite=params.boolean("overwrite"))


def node_to_json(node: Node) -> JsonObject:
    """Return an `ObjectInfo`."""
    document: JsonObject = {
        "path": node.path,
        "object_type": node.kind.value,
        "object_id": node.object_id,
        "resource_id": node.resource_id or str(node.object_id),
    }
    if node.kind is not NodeKind.DIRECTORY:
        document |= {"created_at": node.created_ms, "modified_at": node.modified_ms}
    if node.language is not None:
        document["language"] = node.language.value
    if node.size_bytes is not None:
        document["size"] = node.size_bytes
    return document


def _content(params: Params) -> bytes:
    if params.files:
        return next(iter(params.files.values()))
    try:
        return base64.b64decode(params.optional_text("content"), validate=False)
    except binascii.Error as error:
        raise InvalidParameterError(f"content is not base64: {error}") from error


def _declared_language(params: Params) -> Language:
    declared = params.optional_text("language")
    if not declared:
        raise InvalidParameterError("The language of the notebook must be given with the format SOURCE")
    try:
        return Language(declared.upper())
    except ValueError as error:
        raise InvalidParameterError(f"Unknown language: {declared}") from error


def _recognised_language(path: str, content: bytes) -> Language | None:
    suffix = PurePosixPath(path).suffix.lower()
    first_line = content.partition(b"\n")[0]
    for language in Language:
        if suffix == language.extension and first_line.startswith(language.header):
            return language
    return None
