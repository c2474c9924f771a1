"""Gives every state that Databricks can report a declared meaning; what is not known is never success."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = [
    "KNOWN_LIFE_CYCLE_STATES",
    "KNOWN_RESULT_STATES",
    "KNOWN_TERMINATION_CODES",
    "RunStatus",
    "Verdict",
    "status_of",
]


class Verdict(StrEnum):
    """What a Databricks run's states mean to the ledger."""

    OPEN = "open"  # not at its end
    SUCCEEDED_CLAIM = "succeeded_claim"  # Databricks says so; the output manifest must still prove it
    DEGRADED = "degraded"  # a claim likewise, with failures in leaf tasks
    FAILED_TRANSIENT = "failed_transient"  # a next attempt may succeed
    FAILED_PERMANENT = "failed_permanent"  # needs a person
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    NOT_RUN = "not_run"  # skipped before it ran: goes again with the next attempt
    DISABLED = "disabled"  # someone switched the task or the job off
    UNKNOWN = "unknown"  # an alert, never success

    @property
    def is_open(self) -> bool:
        """Whether Databricks may still change it."""
        return self is Verdict.OPEN

    @property
    def is_claim(self) -> bool:
        """Whether Databricks claims that the run did its work."""
        return self in {Verdict.SUCCEEDED_CLAIM, Verdict.DEGRADED}

    @property
    def may_go_again(self) -> bool:
        """Whether the next attempt may be started without a person."""
        return self in {Verdict.FAILED_TRANSIENT, Verdict.NOT_RUN}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """What Databricks says about a run, in its own spelling, with our verdict; "" where it says nothing."""

    verdict: Verdict
    life_cycle_state: str
    result_state: str = ""
    termination_code: str = ""
    message: str = ""
    run_page_url: str = ""
    result: str = ""  # what the notebook passed to its exit, when it was asked for

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing runs or waits now, whatever Databricks may yet do by itself."""
        return self.life_cycle_state in _STATES_AT_REST


# Jobs 2.1 `state.life_cycle_state` and Jobs 2.2 `status.state` (databricks-sdk, service/jobs.py).
_OPEN_STATES: Final = frozenset(
    {"PENDING", "QUEUED", "BLOCKED", "WAITING", "RUNNING", "WAITING_FOR_RETRY", "TERMINATING"}
)
_TRANSIENT_CODES: Final = frozenset(
    {
        "CLOUD_FAILURE",
        "CLUSTER_ERROR",
        "CLUSTER_REQUEST_LIMIT_EXCEEDED",
        "DRIVER_ERROR",
        "INTERNAL_ERROR",
        "MAX_SPARK_CONTEXTS_EXCEEDED",
        "REPOSITORY_CHECKOUT_FAILED",
        "STORAGE_ACCESS_ERROR",
        "WORKSPACE_RUN_LIMIT_EXCEEDED",
    }
)
_PERMANENT_CODES: Final = frozenset(
    {
        "BUDGET_POLICY_LIMIT_EXCEEDED",
        "CLUSTER_TERMINATED_BY_USER",
        "FEATURE_DISABLED",
        "INVALID_CLUSTER_REQUEST",
        "INVALID_RUN_CONFIGURATION",
        "LIBRARY_INSTALLATION_ERROR",
        "RESOURCE_NOT_FOUND",
        "RUN_EXECUTION_ERROR",
        "UNAUTHORIZED_ERROR",
    }
)
_NOT_RUN_CODES: Final = frozenset({"SKIPPED", "MAX_CONCURRENT_RUNS_EXCEEDED", "MAX_JOB_QUEUE_SIZE_EXCEEDED"})
_BY_CODE: Final = {
    **dict.fromkeys(_TRANSIENT_CODES, Verdict.FAILED_TRANSIENT),
    **dict.fromkeys(_PERMANENT_CODES, Verdict.FAILED_PERMANENT),
    **dict.fromkeys(_NOT_RUN_CODES, Verdict.NOT_RUN),
    "BREAKING_CHANGE": Verdict.OPEN,  # "the run will be retried with a mitigation": by Databricks, not by us
    "CANCELED": Verdict.CANCELLED,
    "USER_CANCELED": Verdict.CANCELLED,
    "DISABLED": Verdict.DISABLED,
    "SUCCESS": Verdict.SUCCEEDED_CLAIM,
    "SUCCESS_WITH_FAILURES": Verdict.DEGRADED,
}
_BY_RESULT: Final = {
    "SUCCESS": Verdict.SUCCEEDED_CLAIM,
    "SUCCESS_WITH_FAILURES": Verdict.DEGRADED,
    "TIMEDOUT": Verdict.TIMED_OUT,
    "CANCELED": Verdict.CANCELLED,
    "UPSTREAM_CANCELED": Verdict.CANCELLED,
    "MAXIMUM_CONCURRENT_RUNS_REACHED": Verdict.NOT_RUN,
    "EXCLUDED": Verdict.DISABLED,
    "DISABLED": Verdict.DISABLED,
}
_FAILED_RESULTS: Final = frozenset({"FAILED", "UPSTREAM_FAILED"})  # the code says whether a retry can help

_STATES_AT_REST: Final = frozenset({"TERMINATED", "SKIPPED", "INTERNAL_ERROR"})
KNOWN_LIFE_CYCLE_STATES: Final = _OPEN_STATES | _STATES_AT_REST
KNOWN_RESULT_STATES: Final = frozenset(_BY_RESULT) | _FAILED_RESULTS
KNOWN_TERMINATION_CODES: Final = frozenset(_BY_CODE)


def status_of(
    life_cycle_state: str,
    result_state: str = "",
    termination_code: str = "",
    *,
    message: str = "",
    run_page_url: str = "",
    result: str = "",
) -> RunStatus:
    """Return what a combination of states means; total over all texts.

    Takes Jobs 2.1 (`state.life_cycle_state`, `state.result_state`) and Jobs 2.2 (`status.state`,
    `status.termination_details.code`), whose states of the same name mean the same.
    """
    return RunStatus(
        verdict=_verdict(life_cycle_state, result_state, termination_code),
        life_cycle_state=life_cycle_state,
        result_state=result_state,
        termination_code=termination_code,
        message=message,
        run_page_url=run_page_url,
        result=result,
    )


def _verdict(life_cycle_state: str, result_state: str, code: str) -> Verdict:
    if life_cycle_state in _OPEN_STATES:
        return Verdict.OPEN
    match life_cycle_state:
        case "SKIPPED":
            return Verdict.DISABLED if code == "DISABLED" else Verdict.NOT_RUN
        case "INTERNAL_ERROR":
            return _failure(code, unsaid=Verdict.FAILED_TRANSIENT)  # Databricks' own trouble, unless the code says more
        case "TERMINATED":
            return _verdict_of_terminated(result_state, code)
        case _:
            return Verdict.UNKNOWN


def _verdict_of_terminated(result_state: str, code: str) -> Verdict:
    if result_state in _FAILED_RESULTS:
        return _failure(code, unsaid=Verdict.FAILED_PERMANENT)  # no code: the notebook raised, as far as anyone knows
    by_code = _BY_CODE.get(code, Verdict.UNKNOWN)
    if not result_state:
        return by_code
    by_result = _BY_RESULT.get(result_state, Verdict.UNKNOWN)
    if by_result.is_claim and code and by_code is not by_result:
        return Verdict.UNKNOWN  # the result claims success and the code does not: nobody knows
    return by_result


def _failure(code: str, *, unsaid: Verdict) -> Verdict:
    if not code:
        return unsaid
    verdict = _BY_CODE.get(code, Verdict.UNKNOWN)
    return Verdict.UNKNOWN if verdict.is_claim else verdict
