"""Walks every error class of the SDKs, so that none of them surprises a caller."""

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import requests

from functions.adapters.azure_errors import AZURE_ERROR_MEANINGS, azure_errors
from functions.adapters.databricks import ERROR_MEANINGS, _RetryRefusedError, workspace_errors
from functions.core.errors import (
    AccessRefusedError,
    LedgerConflictError,
    LedgerThrottledError,
    LedgerUnavailableError,
    MlopsError,
    NotFoundError,
    RunRejectedError,
    RunSubmissionError,
    ThrottledError,
    WorkspaceUnavailableError,
)


def _modules(package: str) -> Iterator[ModuleType]:
    root = importlib.import_module(package)
    yield root
    for info in pkgutil.walk_packages(root.__path__, f"{package}."):
        if ".aio" not in info.name and "_generated" not in info.name:
            try:
                yield importlib.import_module(info.name)
            except ImportError:
                continue  # an optional part of the SDK that is not installed


def _all_subclasses(kind: type) -> set[type]:
    found: set[type] = set(kind.__subclasses__())
    return found | {grandchild for child in found for grandchild in _all_subclasses(child)}


def test_every_databricks_error_is_classified() -> None:
    from databricks.sdk.errors import private_link
    from databricks.sdk.errors.base import DatabricksError

    assert private_link is not None  # defines a class outside the list of platform errors
    names = {kind.__name__ for kind in _all_subclasses(DatabricksError) if kind.__module__.startswith("databricks.")}

    assert len(names) > 20
    assert names - set(ERROR_MEANINGS) == set()


def test_every_azure_error_is_classified() -> None:
    from azure.core.exceptions import AzureError

    for package in ("azure.core", "azure.data.tables", "azure.storage.blob", "azure.storage.queue", "azure.eventgrid"):
        assert list(_modules(package))
    assert list(_modules("azure.identity"))
    kinds = {kind for kind in _all_subclasses(AzureError) if kind.__module__.startswith("azure.")}
    ours = {
        kind for kind in kinds if kind.__module__.split(".")[1] in {"core", "data", "storage", "eventgrid", "identity"}
    }

    assert len(ours) > 15
    assert {kind.__name__ for kind in ours} - set(AZURE_ERROR_MEANINGS) == set()


def test_every_databricks_error_becomes_one_of_ours() -> None:
    from databricks.sdk.errors.base import DatabricksError

    for kind in {DatabricksError, *_all_subclasses(DatabricksError)}:
        for is_submission in (False, True):
            with pytest.raises(MlopsError), workspace_errors("a call", is_submission=is_submission):
                raise kind("refused")


@pytest.mark.parametrize(
    ("name", "is_submission", "expected"),
    [
        ("PermissionDenied", True, AccessRefusedError),
        ("ResourceDoesNotExist", False, NotFoundError),
        ("ResourceDoesNotExist", True, RunRejectedError),
        ("InvalidParameterValue", True, RunRejectedError),
        ("InternalError", True, RunSubmissionError),
        ("InternalError", False, WorkspaceUnavailableError),
        ("TemporarilyUnavailable", True, RunSubmissionError),
        ("TooManyRequests", True, ThrottledError),
    ],
)
def test_a_databricks_error_says_whether_a_retry_can_help(
    name: str, is_submission: bool, expected: type[MlopsError]
) -> None:
    from databricks.sdk import errors

    with pytest.raises(expected), workspace_errors("a call", is_submission=is_submission):
        raise getattr(errors, name)("why")


def test_a_retry_after_reaches_the_caller_instead_of_a_sleep() -> None:
    """The SDK's clock refuses to sleep; what it wanted to sleep for is what the queue waits for."""
    from databricks.sdk.errors import TooManyRequests

    refused = _RetryRefusedError(17.2)
    refused.__context__ = TooManyRequests("slow down", retry_after_secs=17)  # as raising in the SDK's retry loop does

    with pytest.raises(ThrottledError) as raised, workspace_errors("a call", is_submission=True):
        raise refused

    assert raised.value.retry_after_s == 17.0


@pytest.mark.parametrize("error", [requests.ConnectionError("reset"), requests.Timeout("slow"), TimeoutError("late")])
def test_no_answer_is_transient(error: Exception) -> None:
    with pytest.raises(RunSubmissionError), workspace_errors("a call", is_submission=True):
        raise error


def test_what_is_not_known_passes_untouched() -> None:
    with pytest.raises(KeyError), workspace_errors("a call"):
        raise KeyError("a bug of ours")
    with pytest.raises(KeyError), azure_errors("a call", LedgerUnavailableError):
        raise KeyError("a bug of ours")


class _Answer:
    reason = "scripted"
    headers: dict[str, str]

    def __init__(self, status_code: int, headers: dict[str, str] | None = None) -> None:
        self.status_code = status_code
        self.headers = headers or {}

    def text(self) -> str:
        return ""


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, AccessRefusedError),
        (403, AccessRefusedError),
        (404, NotFoundError),
        (408, LedgerUnavailableError),
        (412, LedgerConflictError),
        (429, LedgerThrottledError),
        (500, LedgerUnavailableError),
        (503, LedgerThrottledError),
    ],
)
def test_an_azure_status_says_whether_a_retry_can_help(status: int, expected: type[MlopsError]) -> None:
    from azure.core.exceptions import HttpResponseError

    response: Any = _Answer(status)

    with pytest.raises(expected), azure_errors("a call", LedgerUnavailableError, conflict=LedgerConflictError):
        raise HttpResponseError(message="scripted", response=response)


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [
        ("12", 12.0),
        ("Sun, 01 Mar 2020 12:00:00 GMT", 0.0),
        ("Fri, 01 Mar 2199 12:00:00 GMT", 3600.0),
        ("in a while", None),
    ],
)
def test_an_azure_retry_after_reaches_the_caller(said: str, wait_s: float | None) -> None:
    from azure.core.exceptions import HttpResponseError

    response: Any = _Answer(503, {"Retry-After": said})

    with pytest.raises(ThrottledError) as raised, azure_errors("a call", LedgerUnavailableError):
        raise HttpResponseError(message="scripted", response=response)

    assert raised.value.retry_after_s == wait_s


def test_a_request_that_azure_calls_wrong_is_our_bug() -> None:
    from azure.core.exceptions import HttpResponseError

    response: Any = _Answer(400)

    with pytest.raises(HttpResponseError), azure_errors("a call", LedgerUnavailableError):
        raise HttpResponseError(message="scripted", response=response)
