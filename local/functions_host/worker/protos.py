"""Stands in for the worker protocol's generated protobuf classes, which azure-functions-runtime takes duck-typed.

Microsoft's own next worker injects such a stand-in (Azure/azure-functions-python-worker, `workers/r2p2/bridge`).
Numbers and field names are those of `FunctionRpc.proto`.
"""

from typing import Any, ClassVar

__all__ = ["PROTOS"]


class _Record:
    """Keeps keyword arguments as attributes, with defaults for those not given."""

    _defaults: ClassVar[dict[str, Any]] = {}  # values of any proto field

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(self._defaults)
        self.__dict__.update(fields)


class _TypedData(_Record):
    def WhichOneof(self, _group: str) -> str | None:  # noqa: N802 - protobuf's name
        return next(iter(self.__dict__), None)


class _ParameterBinding(_Record):
    def WhichOneof(self, _group: str) -> str:  # noqa: N802 - protobuf's name
        return "data"


class _StatusResult(_Record):
    Failure = 0
    Success = 1
    Cancelled = 2
    _defaults: ClassVar[dict[str, Any]] = {"exception": None}


class _RpcException(_Record):
    _defaults: ClassVar[dict[str, Any]] = {"source": "", "stack_trace": "", "message": ""}


class _BindingInfo(_Record):
    undefined = 0
    out = 1
    inout = 2


class _SameSite:
    Lax = 1
    Strict = 2
    ExplicitNone = 3


setattr(_SameSite, "None", 0)  # `None` cannot be written as an attribute


class _RpcHttpCookie(_Record):
    SameSite = _SameSite


class _InvocationResponse(_Record):
    _defaults: ClassVar[dict[str, Any]] = {"return_value": None, "output_data": ()}


class _RetryOptions(_Record):
    _defaults: ClassVar[dict[str, Any]] = {"delay_interval": None, "minimum_interval": None, "maximum_interval": None}


class PROTOS:
    """What the runtime looks up in the protobuf module that it is given."""

    TypedData = _TypedData
    ParameterBinding = _ParameterBinding
    StatusResult = _StatusResult
    RpcException = _RpcException
    BindingInfo = _BindingInfo
    RpcHttp = _Record
    RpcHttpCookie = _RpcHttpCookie
    InvocationResponse = _InvocationResponse
    RpcRetryOptions = _RetryOptions
    WorkerInitResponse = _Record
    WorkerMetadata = _Record
    FunctionMetadataResponse = _Record
    FunctionLoadResponse = _Record
    RpcFunctionMetadata = _Record
    NullableString = _Record
    NullableBool = _Record
    NullableDouble = _Record
    NullableTimestamp = _Record
    Timestamp = _Record
