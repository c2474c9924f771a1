"""Reads the body of a request for a run strictly, listing every bad field."""

import json
import re
from datetime import datetime
from typing import Final
from urllib.parse import unquote_to_bytes

from functions.core.errors import InvalidRequestError, Problem
from functions.core.model import PipelineKey, RunRequested, Stage
from functions.core.parameters import STAGES_OF_KIND, check_tunable
from functions.core.pipelines import Pipeline, Pipelines
from functions.core.reading import Reader, shown

__all__ = ["MAX_BODY_BYTES", "parse_body", "parse_run_request"]

MAX_BODY_BYTES: Final = 64 * 1024
_MAX_FILES: Final = 100
_MAX_URL: Final = 4096
_KEY: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_URL: Final = re.compile(
    r"https://([a-z0-9]{3,24})\.blob\.core\.windows\.net/([a-z0-9](?:-?[a-z0-9]){2,62})/([^?#\s]+)"
)
# Characters that make a path look like another one: controls, NUL, direction marks, surrogates, byte order marks.
_DECEPTIVE: Final = re.compile("[\\x00-\\x1f\\x7f-\\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\\\\]")


def parse_run_request(
    body: bytes,
    *,
    idempotency_key: str,
    pipelines: Pipelines,
    account: str,
    requested_at: datetime,
    traceparent: str | None = None,
) -> RunRequested:
    """Return the request in a body.

    Args:
        body: The bytes of the HTTP body.
        idempotency_key: The caller's, or one made at the edge.
        pipelines: What may be asked for.
        account: The storage account whose blobs may be named.
        requested_at: When the request came; of a repeated key, when it came first.
        traceparent: The caller's trace, or the edge's.

    Raises:
        InvalidRequestError: Anything is wrong; lists every bad field.
    """
    problems: list[Problem] = []
    root = Reader(parse_body(body), "", problems)
    root.mapping(required=("pipeline",), optional=("stages", "parameters", "files"))
    if not _KEY.fullmatch(idempotency_key):
        expected = "1 to 128 letters, digits, '_', '.', ':' or '-'"
        problems.append(Problem("Idempotency-Key", shown(idempotency_key), expected))
    pipeline = _read_pipeline(root.child("pipeline"), pipelines)
    stages = _read_stages(root.child("stages"), pipeline)
    parameters = _read_parameters(root.child("parameters"), pipeline)
    files = _read_files(root.child("files"), pipeline, account)
    if problems or pipeline is None:
        raise InvalidRequestError(problems)
    return RunRequested(
        pipeline=pipeline.key,
        request_id=idempotency_key,
        requested_at=requested_at,
        stages=stages,
        parameters=parameters,
        files=files,
        traceparent=traceparent,
    )


def parse_body(body: bytes) -> object:
    """Return the JSON in a request's body; raises InvalidRequestError if it is too large, none, or says a key twice."""
    if len(body) > MAX_BODY_BYTES:
        raise InvalidRequestError([Problem("body", f"{len(body)} bytes", f"at most {MAX_BODY_BYTES} bytes")])
    try:
        document: object = json.loads(body, object_pairs_hook=_refuse_repeated_keys)
    except (ValueError, RecursionError):
        raise InvalidRequestError(
            [Problem("body", f"{len(body)} bytes", "a JSON object without repeated keys")]
        ) from None
    if not isinstance(document, dict):
        raise InvalidRequestError([Problem("body", shown(document), "a JSON object")])
    return document


def _refuse_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the object; two readers of a repeated key could see two different requests."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a repeated key")
    return found


def _read_pipeline(reader: Reader, pipelines: Pipelines) -> Pipeline | None:
    if reader.is_absent:
        return None
    pipeline = pipelines.by_key.get(PipelineKey(reader.value)) if isinstance(reader.value, str) else None
    if pipeline is None:
        reader.refuse(f"one of {', '.join(sorted(pipelines.by_key)) or 'no pipeline'}")
    return pipeline


def _read_stages(reader: Reader, pipeline: Pipeline | None) -> dict[Stage, bool]:
    if reader.is_absent or not reader.mapping(optional=None):
        return {}
    stages: dict[Stage, bool] = {}
    known = tuple(Stage) if pipeline is None else STAGES_OF_KIND[pipeline.kind]
    for name, flag in reader.children():
        if name in known:
            stages[Stage(name)] = flag.boolean()
        else:
            reader.problems.append(Problem(flag.place[:120], "an unknown stage", f"one of {', '.join(known)}"))
    return stages


def _read_parameters(reader: Reader, pipeline: Pipeline | None) -> dict[str, str]:
    if reader.is_absent or not reader.mapping(optional=None):
        return {}
    parameters: dict[str, str] = {}
    for name, value in reader.children():
        if pipeline is None:
            break  # which are allowed depends on the pipeline
        if name not in pipeline.callers_may_set:
            allowed = ", ".join(sorted(pipeline.callers_may_set)) or "no parameter"
            reader.problems.append(Problem(value.place[:120], "a parameter that callers may not set", allowed))
        elif (problem := check_tunable(pipeline.kind, name, value.value, value.place)) is not None:
            reader.problems.append(problem)
        else:
            parameters[name] = str(value.value)
    return parameters


def _read_files(reader: Reader, pipeline: Pipeline | None, account: str) -> tuple[tuple[str, str], ...]:
    if reader.is_absent:
        return ()
    files: list[tuple[str, str]] = []
    for item in reader.items(max_items=_MAX_FILES):
        file = _read_file(item, account)
        if file is None:
            continue
        if file in files:
            item.refuse("each file once")
        elif pipeline is not None and not pipeline.reads(*file):
            item.refuse(f"a file where {pipeline.key} reads: {', '.join(pipeline.input_places())}")
        else:
            files.append(file)
    return tuple(files)


def _read_file(item: Reader, account: str) -> tuple[str, str] | None:
    """Return container and path of a blob's URL, or None after noting what is wrong with it."""
    expected = f"https://{account}.blob.core.windows.net/<container>/<path>, without a query"
    value = item.value
    match = _URL.fullmatch(value) if isinstance(value, str) and len(value) <= _MAX_URL else None
    if match is None or match[1] != account:
        # The value may carry a shared access signature: it is not repeated.
        item.problems.append(Problem(item.place, "text" if isinstance(value, str) else shown(value), expected))
        return None
    try:
        path = unquote_to_bytes(match[3]).decode()
    except UnicodeError:  # what is decoded is no UTF-8, or what was sent was no Unicode
        path = "\0"
    segments = path.split("/")
    if _DECEPTIVE.search(path) or any(segment in {"", ".", ".."} for segment in segments) or _is_encoded_trick(path):
        problem = Problem(item.place, "a path with tricks", "a path without '.', '..', empty or encoded segments")
        item.problems.append(problem)
        return None
    return match[2], path


def _is_encoded_trick(path: str) -> bool:
    """Return whether decoding once more would lead elsewhere: "%252e%252e" is "%2e%2e" here."""
    again = unquote_to_bytes(path)
    return again != path.encode() and (
        again.count(b"/") != path.count("/") or any(trick in again for trick in (b"..", b"\0", b"\\"))
    )
