"""Names the states of runs, in both of the vendor's vocabularies."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["LifeCycle", "Result", "RunState", "StopReason", "Termination", "TerminationType"]


class LifeCycle(StrEnum):
    """`life_cycle_state` of the older vocabulary."""

    QUEUED = "QUEUED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"
    SKIPPED = "SKIPPED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    BLOCKED = "BLOCKED"
    WAITING_FOR_RETRY = "WAITING_FOR_RETRY"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing will happen any more."""
        return self in {LifeCycle.TERMINATED, LifeCycle.SKIPPED, LifeCycle.INTERNAL_ERROR}


class Result(StrEnum):
    """`result_state` of the older vocabulary."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    TIMEDOUT = "TIMEDOUT"
    CANCELED = "CANCELED"
    MAXIMUM_CONCURRENT_RUNS_REACHED = "MAXIMUM_CONCURRENT_RUNS_REACHED"
    UPSTREAM_CANCELED = "UPSTREAM_CANCELED"
    UPSTREAM_FAILED = "UPSTREAM_FAILED"
    EXCLUDED = "EXCLUDED"
    SUCCESS_WITH_FAILURES = "SUCCESS_WITH_FAILURES"
    DISABLED = "DISABLED"


class Termination(StrEnum):
    """`termination_details.code` of the newer vocabulary; those that the local workspace emits."""

    SUCCESS = "SUCCESS"
    SUCCESS_WITH_FAILURES = "SUCCESS_WITH_FAILURES"
    USER_CANCELED = "USER_CANCELED"
    CANCELED = "CANCELED"
    SKIPPED = "SKIPPED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    DRIVER_ERROR = "DRIVER_ERROR"
    RUN_EXECUTION_ERROR = "RUN_EXECUTION_ERROR"
    RESOURCE_NOT_FOUND = "RESOURCE_NOT_FOUND"
    INVALID_CLUSTER_REQUEST = "INVALID_CLUSTER_REQUEST"
    INVALID_RUN_CONFIGURATION = "INVALID_RUN_CONFIGURATION"
    MAX_CONCURRENT_RUNS_EXCEEDED = "MAX_CONCURRENT_RUNS_EXCEEDED"
    DISABLED = "DISABLED"


class TerminationType(StrEnum):
    """Who is at fault, as `termination_details.type` says it."""

    SUCCESS = "SUCCESS"
    CLIENT_ERROR = "CLIENT_ERROR"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class StopReason(StrEnum):
    """Why a live run is being stopped."""

    CANCELED = "canceled"
    TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """The state of a run or of one attempt of a task; a terminal one has a result and a code."""

    life_cycle: LifeCycle
    result: Result | None = None
    code: Termination | None = None
    message: str = ""

    def __post_init__(self) -> None:
        if self.life_cycle.is_terminal and (self.result is None or self.code is None):
            raise ValueError(f"a {self.life_cycle.value} run needs a result and a code")
        if not self.life_cycle.is_terminal and self.code is not None:
            raise ValueError(f"a {self.life_cycle.value} run has no termination code")

    @property
    def is_terminal(self) -> bool:
        """Whether nothing will happen any more."""
        return self.life_cycle.is_terminal

    @property
    def was_stopped(self) -> bool:
        """`user_cancelled_or_timedout`."""
        return self.result in {Result.CANCELED, Result.TIMEDOUT}

    @property
    def termination_type(self) -> TerminationType:
        """Who is at fault."""
        match self.code:
            case Termination.SUCCESS | Termination.SUCCESS_WITH_FAILURES | Termination.USER_CANCELED | None:
                return TerminationType.SUCCESS
            case Termination.INTERNAL_ERROR | Termination.DRIVER_ERROR:
                return TerminationType.INTERNAL_ERROR
            case _:
                return TerminationType.CLIENT_ERROR

    @classmethod
    def succeeded(cls) -> "RunState":
        """Return the state of a run that did what it was to do."""
        return cls(life_cycle=LifeCycle.TERMINATED, result=Result.SUCCESS, code=Termination.SUCCESS)

    @classmethod
    def failed(cls, message: str = "Workload failed, see run output for details") -> "RunState":
        """Return the state of a run whose notebook raised."""
        return cls(
            life_cycle=LifeCycle.TERMINATED, result=Result.FAILED, code=Termination.RUN_EXECUTION_ERROR, message=message
        )

    @classmethod
    def broken(cls, message: str, code: Termination) -> "RunState":
        """Return the state of a run that the platform could not carry through."""
        return cls(life_cycle=LifeCycle.INTERNAL_ERROR, result=Result.FAILED, code=code, message=message)

    @classmethod
    def stopped(cls, reason: StopReason, timeout_s: int = 0) -> "RunState":
        """Return the state of a run that was cancelled or took too long."""
        match reason:
            case StopReason.CANCELED:
                return cls(
                    life_cycle=LifeCycle.TERMINATED,
                    result=Result.CANCELED,
                    code=Termination.USER_CANCELED,
                    message="Run cancelled.",
                )
            case StopReason.TIMED_OUT:
                return cls(
                    life_cycle=LifeCycle.TERMINATED,
                    result=Result.TIMEDOUT,
                    code=Termination.CANCELED,
                    message=f"Run timed out after {timeout_s} seconds.",
                )

    @classmethod
    def not_run(cls, result: Result, message: str) -> "RunState":
        """Return the state of a task that its upstream tasks or its condition kept from running."""
        code = Termination.DISABLED if result is Result.DISABLED else Termination.SKIPPED
        return cls(life_cycle=LifeCycle.TERMINATED, result=result, code=code, message=message)

    @classmethod
    def skipped_for_concurrency(cls, limit: int) -> "RunState":
        """Return the state of a run that found the job's limit reached and no queue."""
        return cls(
            life_cycle=LifeCycle.SKIPPED,
            result=Result.MAXIMUM_CONCURRENT_RUNS_REACHED,
            code=Termination.MAX_CONCURRENT_RUNS_EXCEEDED,
            message=f"Skipping this run because the limit of {limit} maximum concurrent runs has been reached.",
        )
