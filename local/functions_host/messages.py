"""Defines what the host and its worker process say to each other, and the frames that carry it."""

import asyncio
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "Completion",
    "Cookie",
    "Data",
    "DataKind",
    "FunctionMetadata",
    "HttpRequest",
    "HttpResponse",
    "Indexed",
    "IndexingFailed",
    "Invocation",
    "Message",
    "RetryOptions",
    "Stop",
    "read_message",
    "write_message",
]

_LENGTH = struct.Struct("!I")


class DataKind(StrEnum):
    """A kind of the worker protocol's TypedData; the value is the field's name there."""

    STRING = "string"
    JSON = "json"
    BYTES = "bytes"
    DOUBLE = "double"
    INT = "int"


@dataclass(frozen=True, slots=True)
class Data:
    """One value on its way into or out of a function; `json` holds JSON text."""

    kind: DataKind
    value: str | bytes | float


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request as the worker gets it: header names in lower case, route values as text."""

    method: str
    url: str
    headers: Mapping[str, str]
    params: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """A cookie that the function sets; `None` leaves the attribute out."""

    name: str
    value: str
    domain: str | None
    path: str | None
    expires_at: int | None
    secure: bool
    http_only: bool
    same_site: str | None
    max_age_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """A response as the function returned it."""

    status: str
    headers: Mapping[str, str]
    cookies: tuple[Cookie, ...]
    body: Data | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """Asks the worker to run one function once."""

    invocation_id: str
    function_id: str
    inputs: Mapping[str, Data | HttpRequest]
    trigger_metadata: Mapping[str, Data] = field(default_factory=dict)
    trace_parent: str = ""
    trace_state: str = ""
    trace_attributes: Mapping[str, str] = field(default_factory=dict)
    retry_count: int = 0
    max_retry_count: int = 0
    retry_error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Answers an `Invocation`; `error` is None when the function succeeded."""

    invocation_id: str
    return_value: Data | HttpResponse | None = None
    outputs: Mapping[str, Data] = field(default_factory=dict)
    error: str | None = None
    stack_trace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOptions:
    """A retry policy that a function declares; -1 retries for ever."""

    strategy: str
    max_retry_count: int
    delay_s: float
    minimum_s: float
    maximum_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionMetadata:
    """One function as Microsoft's runtime indexed it; bindings are JSON text, enum names in upper case."""

    name: str
    function_id: str
    raw_bindings: tuple[str, ...]
    retry: RetryOptions | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """The worker imported the app and is ready."""

    functions: tuple[FunctionMetadata, ...]
    runtime_version: str
    python_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexingFailed:
    """The worker could not import or index the app."""

    error: str
    stack_trace: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Asks the worker to end, running its exit handlers."""


Message = Invocation | Completion | Indexed | IndexingFailed | Stop


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """Return the next message, or None when the other side has gone."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        payload = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    # Both ends are ours, over a socket pair that nobody else can open, and the app runs with the same rights anyway.
    message: Message = pickle.loads(payload)  # noqa: S301
    return message


def write_message(writer: asyncio.StreamWriter, message: Message) -> None:
    """Queue the message for sending; a vanished reader is noticed by the reading side, not here."""
    payload = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    writer.write(_LENGTH.pack(len(payload)) + payload)
