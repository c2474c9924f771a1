"""Names what can go wrong in the local Functions host.

FunctionsHostError
├── ConfigurationError        the app, host.json or the settings are wrong: the host goes to the state Error
│   └── NotImplementedLocallyError
├── InvocationError           one invocation failed
│   ├── FunctionFailedError   the function raised
│   ├── FunctionTimeoutError  it exceeded functionTimeout
│   └── WorkerLostError       the worker process died while it ran
├── StorageError              the storage account did not take a request
└── HostNotRunningError       there is no worker to run it
"""

__all__ = [
    "ConfigurationError",
    "FunctionFailedError",
    "FunctionTimeoutError",
    "FunctionsHostError",
    "HostNotRunningError",
    "InvocationError",
    "NotImplementedLocallyError",
    "StorageError",
    "WorkerLostError",
]


class FunctionsHostError(Exception):
    """Any failure of the local Functions host."""


class ConfigurationError(FunctionsHostError):
    """The app, its host.json or its settings cannot be served as they are."""


class NotImplementedLocallyError(ConfigurationError):
    """The app asks for something that Azure has and this host has not."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"{self.what}: not implemented locally"


class InvocationError(FunctionsHostError):
    """One invocation did not succeed."""


class FunctionFailedError(InvocationError):
    """The function raised, or returned what its bindings cannot take."""

    def __init__(self, function: str, message: str, stack_trace: str) -> None:
        super().__init__(function, message, stack_trace)
        self.function = function
        self.message = message
        self.stack_trace = stack_trace

    def __str__(self) -> str:
        return f"exception while executing function {self.function!r}: {self.message}"


class FunctionTimeoutError(InvocationError):
    """The invocation ran longer than host.json's functionTimeout."""

    def __init__(self, function: str, timeout_s: float) -> None:
        super().__init__(function, timeout_s)
        self.function = function
        self.timeout_s = timeout_s

    def __str__(self) -> str:
        return f"timeout of {self.timeout_s:g} s was exceeded by function {self.function!r}"


class WorkerLostError(InvocationError):
    """The worker process ended while the invocation ran, so its outcome is unknown."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the worker process was lost: {self.reason}"


class StorageError(FunctionsHostError):
    """The storage account refused a request or could not be reached."""


class HostNotRunningError(FunctionsHostError):
    """No worker can take the invocation, and none is expected soon."""
