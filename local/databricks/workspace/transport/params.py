"""Reads a request's parameters wherever its client put them: query, JSON body, form."""

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp.multipart import BodyPartReader, MultipartReader

from local.databricks.workspace.transport.errors import InvalidParameterError, MalformedRequestError

__all__ = ["JsonObject", "Params", "read_params"]

type JsonObject = dict[str, Any]  # Any: JSON at the border, parsed by each API's wire module

_TRUE = frozenset({"true", "1"})
_FALSE = frozenset({"false", "0", ""})


class Params:
    """The parameters of one request, coerced as the real workspace coerces them.

    Clients send ids as strings, booleans as `True`, and the body of a GET as JSON; an empty string means absent
    for numbers, booleans and page tokens.
    """

    def __init__(
        self, values: Mapping[str, Any], *, files: Mapping[str, bytes] | None = None, caller: str = ""
    ) -> None:
        self.values: JsonObject = dict(values)
        self.files = dict(files or {})
        self.caller = caller
        """The token of the request, which tells what a notebook did from what others did."""

    def text(self, key: str) -> str:
        """Return a required, non-empty string."""
        value = self.optional_text(key)
        if not value:
            raise InvalidParameterError(f"Missing required field: {key}")
        return value

    def optional_text(self, key: str, default: str = "") -> str:
        """Return a string, or the default if it is absent."""
        value = self.values.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise MalformedRequestError(
                f"Could not parse request object: Expected 'STRING' for field '{key}', found {_kind(value)}"
            )
        return str(value)

    def integer(self, key: str) -> int:
        """Return a required whole number."""
        value = self.optional_integer(key)
        if value is None:
            raise InvalidParameterError(f"Missing required field: {key}")
        return value

    def optional_integer(self, key: str) -> int | None:
        """Return a whole number, or None if it is absent."""
        value = self.values.get(key)
        if value is None or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise MalformedRequestError(
                f"Could not parse request object: Expected 'NUMBER' for field '{key}', found {_kind(value)}"
            )
        try:
            return int(value)
        except ValueError as error:
            raise MalformedRequestError(
                f"Could not parse request object: Expected 'NUMBER' for field '{key}', found '{value}'"
            ) from error

    def boolean(self, key: str, *, default: bool = False) -> bool:
        """Return a truth value in any of the spellings that clients use."""
        value = self.values.get(key)
        if value is None:
            return default
        text = str(value).lower()
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        raise MalformedRequestError(
            f"Could not parse request object: Expected 'BOOL' for field '{key}', found '{value}'"
        )

    def mapping(self, key: str) -> JsonObject:
        """Return an object, empty if it is absent."""
        value = self.values.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise MalformedRequestError(
                f"Could not parse request object: Expected object for field '{key}', found {_kind(value)}"
            )
        return value

    def items(self, key: str) -> list[Any]:
        """Return a list, empty if it is absent; a repeated query parameter is one too."""
        value = self.values.get(key)
        if value is None:
            return []
        return value if isinstance(value, list) else [value]


async def read_params(request: web.Request) -> Params:
    """Return the request's parameters; path segments win over the body, the body over the query."""
    values: JsonObject = {}
    for key in request.query:
        repeated = request.query.getall(key)
        values[key] = repeated if len(repeated) > 1 else repeated[0]
    files: dict[str, bytes] = {}
    if request.content_type.startswith("multipart/"):
        await _read_multipart(request, values, files)
    else:
        values.update(await _read_body(request))
    values.update(request.match_info)
    return Params(values, files=files, caller=request.get("token", ""))


async def _read_body(request: web.Request) -> JsonObject:
    if not request.body_exists:
        return {}
    if request.content_type == "application/x-www-form-urlencoded":
        return {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
    text = await request.text()
    if not text.strip():
        return {}
    try:
        body = json.loads(text)
    except ValueError as error:
        raise MalformedRequestError(f"Could not parse request object: {error}") from error
    if not isinstance(body, dict):
        raise MalformedRequestError(f"Could not parse request object: Expected object, found {_kind(body)}")
    return body


async def _read_multipart(request: web.Request, values: JsonObject, files: dict[str, bytes]) -> None:
    reader = await request.multipart()
    async for part in reader:
        if isinstance(part, MultipartReader) or part is None:
            raise MalformedRequestError("nested multipart bodies are not supported")
        await _read_part(part, values, files)


async def _read_part(part: BodyPartReader, values: JsonObject, files: dict[str, bytes]) -> None:
    content = bytes(await part.read(decode=True))
    if part.filename is None:
        values[part.name or ""] = content.decode("utf-8")
    else:
        files[part.name or ""] = content


def _kind(value: object) -> str:
    match value:
        case bool():
            return "BOOL"
        case str():
            return "STRING"
        case int() | float():
            return "NUMBER"
        case list():
            return "ARRAY"
        case _:
            return "OBJECT"
