"""Writes into a dead letter's metadata what became of it, as a text that a header can carry, and reads it again."""

import json
from collections.abc import Mapping
from urllib.parse import quote, unquote

__all__ = ["mark_of", "read_mark"]


def mark_of(document: Mapping[str, object]) -> str:
    """Return a document as a text that a header can carry."""
    return quote(json.dumps(document), safe=" ,:;=()/")


def read_mark(mark: str | None) -> Mapping[str, object] | None:
    """Return the document in a mark; None for no mark and for a text that is none."""
    try:
        document: object = json.loads(unquote(mark or ""))
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, Mapping) else None
