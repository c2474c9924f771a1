"""Names the JSON that crosses the wire, and reads it without trusting it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

__all__ = ["Json", "JsonObject", "as_object", "compact", "parse_json", "utc_text"]

type Json = bool | int | float | str | Sequence[Json] | JsonObject | None
type JsonObject = dict[str, Json]


def parse_json(body: bytes) -> Json:
    """Return the document in `body`.

    Raises:
        ValueError: It is not UTF-8, not JSON, or holds NaN or an infinity, which JSON has not.
    """

    def refuse(constant: str) -> Json:
        raise ValueError(f"{constant} is not JSON")

    try:
        document: Json = json.loads(body.decode("utf-8-sig"), parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("the document is nested too deeply") from error
    return document


def as_object(value: Json) -> JsonObject:
    """Return `value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def compact(document: Json) -> bytes:
    """Return the document as UTF-8 JSON without needless spaces."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def utc_text(timestamp_s: float) -> str:
    """Return the instant as Azure writes it, with seven decimals.

    >>> utc_text(1600000000.25)
    '2020-09-13T12:26:40.2500000Z'
    """
    return datetime.fromtimestamp(timestamp_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
