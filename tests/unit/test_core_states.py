"""Holds every state that Databricks knows to a declared meaning, and every other to being no success."""

from enum import Enum
from typing import get_args, get_type_hints

import pytest
from databricks.sdk.service import jobs
from hypothesis import given
from hypothesis import strategies as st

from functions.core.databricks_states import (
    KNOWN_LIFE_CYCLE_STATES,
    KNOWN_RESULT_STATES,
    KNOWN_TERMINATION_CODES,
    Verdict,
    status_of,
)

life_cycle_states = st.sampled_from(sorted(KNOWN_LIFE_CYCLE_STATES)) | st.text(max_size=12)
result_states = st.sampled_from(["", *sorted(KNOWN_RESULT_STATES)]) | st.text(max_size=12)
codes = st.sampled_from(["", *sorted(KNOWN_TERMINATION_CODES)]) | st.text(max_size=12)


def test_every_state_of_the_sdk_is_declared() -> None:
    """R24: a new member of an enum fails here before it surprises anyone."""
    life_cycle = {state.value for state in jobs.RunLifeCycleState} | {
        state.value for state in jobs.RunLifecycleStateV2State
    }
    results = {state.value for state in jobs.RunResultState}
    termination = {code.value for code in jobs.TerminationCodeCode}

    assert len(termination) > 20
    assert life_cycle <= KNOWN_LIFE_CYCLE_STATES
    assert results <= KNOWN_RESULT_STATES
    assert termination <= KNOWN_TERMINATION_CODES


def test_every_field_of_the_sdk_that_tells_a_state_is_read_or_left_out_on_purpose() -> None:
    """R24: a new kind of state beside those that are read fails here, not in a run that ends in silence."""
    read = {"life_cycle_state", "result_state", "state", "code"}
    # Of a code that is declared it says nothing more; a code that is not declared is unknown whoever is to blame.
    left_out = {"type"}
    found = {
        name
        for of in (jobs.RunState, jobs.RunStatus, jobs.TerminationDetails)
        for name, hint in get_type_hints(of).items()
        for kind in (get_args(hint) or (hint,))
        if isinstance(kind, type) and issubclass(kind, Enum)
    }

    assert found == read | left_out


def test_a_member_that_the_sdk_does_not_have_yet_is_unknown() -> None:
    """R24: what the test above guards: an undeclared member is an alert, never success, in each of the three places."""
    for states in (("NEW", "SUCCESS", "SUCCESS"), ("TERMINATED", "NEW", "SUCCESS"), ("TERMINATED", "FAILED", "NEW")):
        assert status_of(*states).verdict is Verdict.UNKNOWN


BY_CODE = {
    Verdict.FAILED_TRANSIENT: {
        "CLOUD_FAILURE",
        "CLUSTER_ERROR",
        "CLUSTER_REQUEST_LIMIT_EXCEEDED",
        "DRIVER_ERROR",
        "INTERNAL_ERROR",
        "MAX_SPARK_CONTEXTS_EXCEEDED",
        "REPOSITORY_CHECKOUT_FAILED",
        "STORAGE_ACCESS_ERROR",
        "WORKSPACE_RUN_LIMIT_EXCEEDED",
    },
    Verdict.FAILED_PERMANENT: {
        "BUDGET_POLICY_LIMIT_EXCEEDED",
        "CLUSTER_TERMINATED_BY_USER",
        "FEATURE_DISABLED",
        "INVALID_CLUSTER_REQUEST",
        "INVALID_RUN_CONFIGURATION",
        "LIBRARY_INSTALLATION_ERROR",
        "RESOURCE_NOT_FOUND",
        "RUN_EXECUTION_ERROR",
        "UNAUTHORIZED_ERROR",
    },
    Verdict.OPEN: {"BREAKING_CHANGE"},
    Verdict.CANCELLED: {"CANCELED", "USER_CANCELED"},
    Verdict.NOT_RUN: {"SKIPPED", "MAX_CONCURRENT_RUNS_EXCEEDED", "MAX_JOB_QUEUE_SIZE_EXCEEDED"},
    Verdict.DISABLED: {"DISABLED"},
    Verdict.UNKNOWN: {"SUCCESS", "SUCCESS_WITH_FAILURES"},  # of a failure: who says both has said nothing
}


@pytest.mark.parametrize(
    "failure", [("TERMINATED", "FAILED"), ("TERMINATED", "UPSTREAM_FAILED"), ("INTERNAL_ERROR", "")], ids="-".join
)
def test_every_code_of_a_failure_means_what_was_decided(failure: tuple[str, str]) -> None:
    """R24: whether a next attempt can help is written out for each code that Databricks documents."""
    found = {code: status_of(*failure, code).verdict for code in KNOWN_TERMINATION_CODES}

    assert found == {code: verdict for verdict, codes in BY_CODE.items() for code in codes}


@pytest.mark.parametrize(
    "state", ["PENDING", "QUEUED", "BLOCKED", "WAITING", "RUNNING", "WAITING_FOR_RETRY", "TERMINATING"]
)
def test_what_is_open_is_open_whatever_else_is_said(state: str) -> None:
    """R24: an end that is announced early would be announced again."""
    said = {status_of(state, result, code).verdict for result in KNOWN_RESULT_STATES for code in ("", "SUCCESS")}

    assert said == {Verdict.OPEN}


@given(life_cycle=life_cycle_states, result=result_states, code=codes)
def test_only_an_unequivocal_success_is_a_claim(life_cycle: str, result: str, code: str) -> None:
    """R24, I7: nothing unknown, half-said or contradictory is ever success."""
    verdict = status_of(life_cycle, result, code).verdict

    is_success = life_cycle == "TERMINATED" and (result, code) in {
        ("SUCCESS", ""),
        ("SUCCESS", "SUCCESS"),
        ("", "SUCCESS"),
        ("SUCCESS_WITH_FAILURES", ""),
        ("SUCCESS_WITH_FAILURES", "SUCCESS_WITH_FAILURES"),
        ("", "SUCCESS_WITH_FAILURES"),
    }
    assert verdict.is_claim == is_success


@given(life_cycle=st.text(), result=result_states, code=codes)
def test_unknown_life_cycle_is_unknown(life_cycle: str, result: str, code: str) -> None:
    if life_cycle not in KNOWN_LIFE_CYCLE_STATES:
        assert status_of(life_cycle, result, code).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("life_cycle", "result", "code", "verdict"),
    [
        *((state, "", "", Verdict.OPEN) for state in ("PENDING", "QUEUED", "BLOCKED", "WAITING", "RUNNING")),
        ("WAITING_FOR_RETRY", "FAILED", "RUN_EXECUTION_ERROR", Verdict.OPEN),
        ("TERMINATING", "SUCCESS", "SUCCESS", Verdict.OPEN),
        ("TERMINATED", "SUCCESS", "SUCCESS", Verdict.SUCCEEDED_CLAIM),
        ("TERMINATED", "SUCCESS_WITH_FAILURES", "", Verdict.DEGRADED),
        ("TERMINATED", "SUCCESS", "RUN_EXECUTION_ERROR", Verdict.UNKNOWN),
        ("TERMINATED", "FAILED", "", Verdict.FAILED_PERMANENT),
        ("TERMINATED", "FAILED", "RUN_EXECUTION_ERROR", Verdict.FAILED_PERMANENT),
        ("TERMINATED", "FAILED", "CLUSTER_ERROR", Verdict.FAILED_TRANSIENT),
        ("TERMINATED", "FAILED", "SUCCESS", Verdict.UNKNOWN),
        ("TERMINATED", "FAILED", "BREAKING_CHANGE", Verdict.OPEN),
        ("TERMINATED", "FAILED", "BRAND_NEW_CODE", Verdict.UNKNOWN),
        ("TERMINATED", "UPSTREAM_FAILED", "DRIVER_ERROR", Verdict.FAILED_TRANSIENT),
        ("TERMINATED", "TIMEDOUT", "CANCELED", Verdict.TIMED_OUT),
        ("TERMINATED", "CANCELED", "USER_CANCELED", Verdict.CANCELLED),
        ("TERMINATED", "UPSTREAM_CANCELED", "", Verdict.CANCELLED),
        ("TERMINATED", "MAXIMUM_CONCURRENT_RUNS_REACHED", "", Verdict.NOT_RUN),
        ("TERMINATED", "EXCLUDED", "", Verdict.DISABLED),
        ("TERMINATED", "DISABLED", "DISABLED", Verdict.DISABLED),
        ("TERMINATED", "BRAND_NEW_RESULT", "SUCCESS", Verdict.UNKNOWN),
        ("TERMINATED", "", "MAX_JOB_QUEUE_SIZE_EXCEEDED", Verdict.NOT_RUN),
        ("TERMINATED", "", "", Verdict.UNKNOWN),
        ("SKIPPED", "", "MAX_CONCURRENT_RUNS_EXCEEDED", Verdict.NOT_RUN),
        ("SKIPPED", "", "DISABLED", Verdict.DISABLED),
        ("INTERNAL_ERROR", "FAILED", "", Verdict.FAILED_TRANSIENT),
        ("INTERNAL_ERROR", "FAILED", "RUN_EXECUTION_ERROR", Verdict.FAILED_PERMANENT),
        ("INTERNAL_ERROR", "SUCCESS", "SUCCESS", Verdict.UNKNOWN),
    ],
)
def test_states_mean_what_was_decided(life_cycle: str, result: str, code: str, verdict: Verdict) -> None:
    assert status_of(life_cycle, result, code).verdict is verdict


def test_verdicts_say_what_may_follow() -> None:
    assert [verdict for verdict in Verdict if verdict.may_go_again] == [Verdict.FAILED_TRANSIENT, Verdict.NOT_RUN]
    assert [verdict for verdict in Verdict if verdict.is_open] == [Verdict.OPEN]


def test_status_keeps_what_databricks_said() -> None:
    status = status_of("TERMINATED", "FAILED", "DRIVER_ERROR", message="gone", run_page_url="u", result="r")

    assert (status.life_cycle_state, status.result_state, status.termination_code) == (
        "TERMINATED",
        "FAILED",
        "DRIVER_ERROR",
    )
    assert (status.message, status.run_page_url, status.result) == ("gone", "u", "r")
