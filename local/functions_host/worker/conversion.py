"""Translates between the host's messages and the requests and responses of azure-functions-runtime."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from local.functions_host.messages import (
    Completion,
    Cookie,
    Data,
    DataKind,
    FunctionMetadata,
    HttpRequest,
    HttpResponse,
    Invocation,
    RetryOptions,
)
from local.functions_host.worker.protos import PROTOS

__all__ = ["init_request", "invocation_request", "to_completion", "to_metadata"]

_SAME_SITE = {1: "Lax", 2: "Strict", 3: "None"}


def init_request(app_dir: str) -> Any:
    """Return the request that makes the runtime import and index the app."""
    init = SimpleNamespace(capabilities={}, function_app_directory=app_dir)
    return SimpleNamespace(
        request=SimpleNamespace(worker_init_request=init), properties={"protos": PROTOS, "host": "127.0.0.1"}
    )


def invocation_request(invocation: Invocation) -> Any:
    """Return the request that runs one function."""
    request = SimpleNamespace(
        invocation_id=invocation.invocation_id,
        function_id=invocation.function_id,
        input_data=[
            PROTOS.ParameterBinding(name=name, data=_typed_data(value)) for name, value in invocation.inputs.items()
        ],
        trigger_metadata={name: _typed_data(value) for name, value in invocation.trigger_metadata.items()},
        trace_context=SimpleNamespace(
            trace_parent=invocation.trace_parent,
            trace_state=invocation.trace_state,
            attributes=dict(invocation.trace_attributes),
        ),
        retry_context=SimpleNamespace(
            retry_count=invocation.retry_count,
            max_retry_count=invocation.max_retry_count,
            exception=PROTOS.RpcException(message=invocation.retry_error) if invocation.retry_error else None,
        ),
    )
    return SimpleNamespace(request=SimpleNamespace(invocation_request=request), properties={})


def _typed_data(value: Data | HttpRequest) -> Any:
    if isinstance(value, Data):
        return PROTOS.TypedData(**{value.kind.value: value.value})
    http = SimpleNamespace(
        method=value.method,
        url=value.url,
        headers=value.headers,
        params=value.params,
        query=value.query,
        body=PROTOS.TypedData(bytes=value.body) if value.body else PROTOS.TypedData(),
    )
    return PROTOS.TypedData(http=http)


def to_completion(response: Any) -> Completion:
    """Return the host's view of an invocation response."""
    result = response.result
    if result.status != PROTOS.StatusResult.Success:
        return Completion(
            invocation_id=response.invocation_id,
            error=result.exception.message or "the function failed without a message",
            stack_trace=result.exception.stack_trace,
        )
    outputs = {}
    for binding in response.output_data:
        value = _from_typed_data(binding.data)
        if isinstance(value, Data):
            outputs[binding.name] = value
    return Completion(
        invocation_id=response.invocation_id, return_value=_from_typed_data(response.return_value), outputs=outputs
    )


def _from_typed_data(typed: Any) -> Data | HttpResponse | None:
    kind = None if typed is None else typed.WhichOneof("data")
    if kind is None:
        return None
    value = getattr(typed, kind)
    if kind != "http":
        return None if value is None else Data(DataKind(kind), value)
    body = _from_typed_data(value.body)
    return HttpResponse(
        status=str(value.status_code),
        headers=dict(value.headers),
        cookies=tuple(_cookie(cookie) for cookie in value.cookies or ()),
        body=body if isinstance(body, Data) else None,
    )


def _cookie(cookie: Any) -> Cookie:
    expires = None if cookie.expires is None else cookie.expires.value.seconds
    return Cookie(
        name=cookie.name,
        value=cookie.value,
        domain=_nullable(cookie.domain) or None,
        path=_nullable(cookie.path) or None,
        expires_at=expires,
        secure=bool(_nullable(cookie.secure)),
        http_only=bool(_nullable(cookie.http_only)),
        same_site=_SAME_SITE.get(cookie.same_site),
        max_age_s=_nullable(cookie.max_age),
    )


def _nullable(wrapped: Any) -> Any:
    return None if wrapped is None else wrapped.value


def to_metadata(result: Any) -> FunctionMetadata:
    """Return the host's view of one indexed function."""
    retry = None
    if result.retry_options is not None:
        options = result.retry_options
        retry = RetryOptions(
            strategy=str(options.retry_strategy),
            max_retry_count=int(options.max_retry_count),
            delay_s=_seconds(options.delay_interval),
            minimum_s=_seconds(options.minimum_interval),
            maximum_s=_seconds(options.maximum_interval),
        )
    return FunctionMetadata(
        name=result.name, function_id=result.function_id, raw_bindings=tuple(result.raw_bindings), retry=retry
    )


def _seconds(interval: timedelta | None) -> float:
    return 0.0 if interval is None else interval.total_seconds()
