"""Starts and watches Databricks runs through databricks-sdk, signed in with a managed identity."""

import json
import math
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from functions.core.databricks_states import RunStatus, status_of
from functions.core.drift import drift_of
from functions.core.errors import (
    AccessRefusedError,
    AmbiguousJobError,
    DriftedJobError,
    MlopsError,
    NotFoundError,
    RunRejectedError,
    RunSubmissionError,
    ThrottledError,
    TransientError,
    UnknownJobError,
    WorkspaceUnavailableError,
)
from functions.core.model import DatabricksJobId, DatabricksRunId, IdempotencyToken, JobKey
from functions.core.retry_after import retry_after_s

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from requests import Response

__all__ = [
    "AZURE_DATABRICKS_SCOPE",
    "ERROR_MEANINGS",
    "DatabricksJobs",
    "DatabricksModels",
    "Workspace",
    "workspace_errors",
]

# The first-party application id of Azure Databricks: what tokens for any workspace are asked for.
AZURE_DATABRICKS_SCOPE: Final = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.default"
_HTTP_TIMEOUT_S: Final = 30.0
_RETRY_BUDGET_S: Final = 35  # longer than one request, so that the SDK always makes its one attempt
_FAILED: Final = "FAILED"
_QUERY: Final = re.compile(r"(?<=\S)\?[^\s'\"]*=[^\s'\"]*")
_ERROR_CHARACTERS: Final = 1000
# Of a 404 that says nothing of what was asked for: a proxy's, of which the SDK makes the second, or a wrong host's.
_CODES_OF_NOBODY: Final = frozenset({None, "", "NOT_FOUND", "ENDPOINT_NOT_FOUND"})
_ALIAS_IS_FRESH_S: Final = 5.0

# What each error class of databricks-sdk means here; a test fails when the SDK has one that is not listed.
ERROR_MEANINGS: Final[Mapping[str, Literal["unavailable", "throttled", "refused", "missing", "rejected"]]] = {
    "DatabricksError": "unavailable",  # a status that no class was made for, such as a proxy's 502
    "BadRequest": "rejected",
    "InvalidParameterValue": "rejected",
    "InvalidState": "rejected",
    "NotImplemented": "rejected",
    "ResourceConflict": "rejected",
    "AlreadyExists": "rejected",
    "ResourceAlreadyExists": "rejected",
    "NotFound": "missing",
    "ResourceDoesNotExist": "missing",
    "Unauthenticated": "refused",
    "PermissionDenied": "refused",
    "PrivateLinkValidationError": "refused",
    "TooManyRequests": "throttled",
    "ResourceExhausted": "throttled",
    "RequestLimitExceeded": "throttled",
    "Aborted": "unavailable",  # lost a race inside the workspace
    "Cancelled": "unavailable",
    "DeadlineExceeded": "unavailable",
    "TemporarilyUnavailable": "unavailable",
    "InternalError": "unavailable",
    "Unknown": "unavailable",
    "DataLoss": "unavailable",
}


class _RetryRefusedError(Exception):
    """The SDK wanted to sleep and repeat a call; its own error is this one's `__context__`."""


class Workspace:
    """One workspace's client, built at first use: importing databricks-sdk takes longer than recording an arrival.

    The SDK would repeat a throttled or lost call by itself for minutes, with a worker thread asleep in it.
    Here its clock refuses to sleep, so each call is one request and the work goes back to its queue instead.
    """

    def __init__(self, host: str, *, client_id: str | None = None) -> None:
        self.host = host
        self._client_id = client_id
        self._lock = threading.Lock()
        self._client: WorkspaceClient | None = None

    @property
    def is_warm(self) -> bool:
        """Whether a call would not have to import and sign in first."""
        return self._client is not None

    @property
    def client(self) -> "WorkspaceClient":
        """The client, shared by all threads."""
        with self._lock:
            if self._client is None:
                self._client = _make_client(self.host, self._client_id)
            return self._client


def _make_client(host: str, client_id: str | None) -> "WorkspaceClient":
    from azure.identity import ManagedIdentityCredential
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.clock import Clock
    from databricks.sdk.config import Config
    from databricks.sdk.credentials_provider import CredentialsProvider, CredentialsStrategy

    credential = ManagedIdentityCredential(client_id=client_id, retry_total=1, connection_timeout=10, read_timeout=10)

    class _Identity(CredentialsStrategy):
        """Signs each request with a token of the app's managed identity; azure-identity caches the token."""

        def auth_type(self) -> str:
            return "tidegate-managed-identity"

        def __call__(self, cfg: Config) -> CredentialsProvider:  # noqa: ARG002 - the SDK's protocol
            return lambda: {"Authorization": f"Bearer {credential.get_token(AZURE_DATABRICKS_SCOPE).token}"}

    class _Sleepless(Clock):
        def time(self) -> float:
            return time.time()

        def sleep(self, seconds: float) -> None:
            raise _RetryRefusedError(seconds)

    config = Config(
        host=host,
        credentials_strategy=_Identity(),
        auth_type="tidegate-managed-identity",  # a DATABRICKS_TOKEN left in the environment is never used
        clock=_Sleepless(),
        http_timeout_seconds=_HTTP_TIMEOUT_S,
        retry_timeout_seconds=_RETRY_BUDGET_S,
        product="tidegate",
        product_version="1.0.0",
    )
    client = WorkspaceClient(config=config)
    # The SDK has no public place from which an answer's headers can be seen. A test fails when this one is gone.
    client.api_client._api_client._session.hooks["response"].append(_say_seconds)  # noqa: SLF001
    return client


def _say_seconds(response: "Response", *_: object, **__: object) -> None:
    """Put a Retry-After into the form that the SDK reads, which takes a date for one second, and -5 for what it is."""
    said = response.headers.pop("Retry-After", None)
    wait_s = retry_after_s(said, datetime.now(UTC))
    if wait_s is not None:
        response.headers["Retry-After"] = str(math.ceil(wait_s))


@contextmanager
def workspace_errors(subject: str, *, is_submission: bool = False) -> Iterator[None]:
    """Translate what databricks-sdk, requests and azure-identity raise; unknown errors pass untouched.

    Args:
        subject: What was attempted, for the message.
        is_submission: Whether a refusal is about a run that was to be started, and whether a lost answer may
            hide a run that did start.
    """
    try:
        yield
    except MlopsError:
        raise
    except _RetryRefusedError as refused:
        cause = refused.__context__
        translated = _translate(cause, subject, is_submission=is_submission) if cause is not None else None
        raise translated or _unavailable(subject, "call was given up", is_submission=is_submission) from cause
    except Exception as error:
        translated = _translate(error, subject, is_submission=is_submission)
        if translated is None:
            raise
        raise translated from error


def _translate(error: BaseException, subject: str, *, is_submission: bool) -> MlopsError | None:
    import requests
    from azure.core.exceptions import AzureError
    from databricks.sdk.errors.base import DatabricksError

    if isinstance(error, DatabricksError):
        return _translate_answer(error, subject, is_submission=is_submission)
    if isinstance(error, requests.RequestException | TimeoutError | AzureError):
        # An identity endpoint that does not answer is as transient as a workspace that does not.
        return _unavailable(subject, type(error).__name__, is_submission=is_submission)
    return None


def _translate_answer(error: Any, subject: str, *, is_submission: bool) -> MlopsError:
    """Return our error for the workspace's answer; `error` is a DatabricksError, imported lazily."""
    why = f"{type(error).__name__}: {str(error)[:500]}"
    if error.retry_after_secs is not None:  # the SDK sets it for 429 and 503, one second if no header said so
        return ThrottledError(subject, float(error.retry_after_secs))
    # The nearest classified ancestor counts, so that a class that a later SDK adds has a meaning at once.
    name = next(base.__name__ for base in type(error).__mro__ if base.__name__ in ERROR_MEANINGS)
    meaning = ERROR_MEANINGS[name]
    is_nobodys = name == "NotFound" and error.error_code in _CODES_OF_NOBODY
    if meaning == "unavailable" or is_nobodys:
        return _unavailable(subject, why, is_submission=is_submission)
    if meaning == "throttled":
        return ThrottledError(subject, None)
    if meaning == "refused":
        return AccessRefusedError(subject, why)
    if meaning == "missing" and not is_submission:
        return NotFoundError(subject, why)
    return RunRejectedError(subject, why)


def _unavailable(subject: str, why: str, *, is_submission: bool) -> TransientError:
    return RunSubmissionError(subject, why) if is_submission else WorkspaceUnavailableError(subject, why)


class DatabricksJobs:
    """Implements `RunSubmitter` on the Jobs API 2.2."""

    def __init__(self, workspace: Workspace, *, environment: str, templates: Path) -> None:
        self._workspace = workspace
        self._environment = environment
        self._templates = templates
        self._job_ids: dict[JobKey, DatabricksJobId] = {}

    @property
    def is_warm(self) -> bool:
        """Whether submitting costs no import and no sign-in first."""
        return self._workspace.is_warm

    def find_job(self, job: JobKey) -> DatabricksJobId:
        """Return the one job of this name and environment; a found one is remembered."""
        known = self._job_ids.get(job)
        return self._look_up(job) if known is None else known

    def check_job(self, job: JobKey) -> None:
        """Look the job up again; raises unless it is there once and does what its template says."""
        self._job_ids.pop(job, None)
        job_id = self.find_job(job)
        with workspace_errors(f"reading job {self._job_name(job)!r}"):
            settings = self._workspace.client.jobs.get(job_id).settings
        template = json.loads((self._templates / f"{job}.json").read_bytes())
        if drift := drift_of(template, {} if settings is None else settings.as_dict()):
            raise DriftedJobError(job, drift)

    def _look_up(self, job: JobKey) -> DatabricksJobId:
        """Return the one job of this name as it is now, and remember it."""
        name = self._job_name(job)
        with workspace_errors(f"looking up job {name!r}"):
            # The API's filter ignores case, so the exact name is compared here.
            found = [
                listed.job_id
                for listed in self._workspace.client.jobs.list(name=name, limit=25)
                if listed.job_id is not None and listed.settings is not None and listed.settings.name == name
            ]
        if not found:
            raise UnknownJobError(job, self._known_jobs())
        if len(found) > 1:
            raise AmbiguousJobError(job, found)
        self._job_ids[job] = DatabricksJobId(found[0])
        return self._job_ids[job]

    def submit(self, job: JobKey, token: IdempotencyToken, parameters: Mapping[str, str]) -> DatabricksRunId:
        """Return the run of this token, starting it if there is none; equal token, same run."""
        job_id = self.find_job(job)
        try:
            return self._run_now(job, job_id, token, parameters)
        except RunRejectedError:
            # The job may have been deleted and deployed again under a new id since it was looked up.
            self._job_ids.pop(job, None)
            if self.find_job(job) == job_id:
                raise
        return self._run_now(job, self.find_job(job), token, parameters)

    def _run_now(
        self, job: JobKey, job_id: DatabricksJobId, token: IdempotencyToken, parameters: Mapping[str, str]
    ) -> DatabricksRunId:
        with workspace_errors(f"starting job {self._job_name(job)!r}", is_submission=True):
            started = self._workspace.client.jobs.run_now(
                job_id, idempotency_token=token, job_parameters=dict(parameters)
            )
            return DatabricksRunId(int(started.run_id))

    def page_of(self, job: JobKey, run: DatabricksRunId) -> str:
        """Return where people see the run, or "" if its job was not looked up yet."""
        job_id = self._job_ids.get(job)
        return "" if job_id is None else f"{self._workspace.host}/jobs/{job_id}/runs/{run}"

    def active(self, job: JobKey) -> frozenset[DatabricksRunId]:
        """Return the job's runs that have not ended, 25 a call."""
        job_id = self.find_job(job)
        with workspace_errors(f"listing active runs of {self._job_name(job)!r}"):
            runs = self._workspace.client.jobs.list_runs(job_id=job_id, active_only=True, limit=25)
            return frozenset(DatabricksRunId(run.run_id) for run in runs if run.run_id is not None)

    def status(self, run: DatabricksRunId) -> RunStatus:
        """Return what Databricks says about a run, in its own spelling.

        The raw answer is read, because the SDK's enums turn a state that they do not know into None, and an
        unknown state has a meaning of its own here.
        """
        with workspace_errors(f"asking for run {run}"):
            answer: Any = self._workspace.client.api_client.do(  # untyped JSON, parsed on the next lines
                "GET", "/api/2.2/jobs/runs/get", query={"run_id": run}
            )
        state, status = answer.get("state") or {}, answer.get("status") or {}
        details = status.get("termination_details") or {}
        result_state = str(state.get("result_state") or "")
        error = self._error_in(answer) if result_state == _FAILED else ""
        return status_of(
            str(state.get("life_cycle_state") or status.get("state") or ""),
            result_state,
            str(details.get("code") or ""),
            message=error or str(state.get("state_message") or details.get("message") or ""),
            run_page_url=str(answer.get("run_page_url") or ""),
        )

    def _error_in(self, run: Any) -> str:
        """Return what the last task that failed has raised, or "" if that is not told: it only explains.

        The run itself says no more than that its workload failed. What code raises may hold an address with a
        signature, so what follows a question mark is left out.
        """
        failed = [task for task in run.get("tasks") or [] if (task.get("state") or {}).get("result_state") == _FAILED]
        if not failed:
            return ""
        try:
            with workspace_errors(f"asking for the output of run {failed[-1].get('run_id')}"):
                output: Any = self._workspace.client.api_client.do(  # untyped JSON, of which one text is read
                    "GET", "/api/2.2/jobs/runs/get-output", query={"run_id": failed[-1].get("run_id")}
                )
        except MlopsError:
            return ""
        return _QUERY.sub("?…", str(output.get("error") or ""))[:_ERROR_CHARACTERS]

    def cancel(self, run: DatabricksRunId) -> None:
        """Ask Databricks to cancel a run; one that has ended, or that it does not have, stays as it is.

        Databricks answers 400 to what it cannot cancel. That is no reason to stop: the run's state says what is left.
        """
        with suppress(NotFoundError, RunRejectedError), workspace_errors(f"cancelling run {run}"):
            self._workspace.client.jobs.cancel_run(run)

    def latest_repair(self, run: DatabricksRunId) -> int:
        """Return the id of the run's latest repair, 0 if it has none.

        Ids of repairs are not in the order of time. One that has not begun has no start yet: it is the latest.
        """
        with workspace_errors(f"asking for the repairs of run {run}"):
            found = self._workspace.client.jobs.get_run(run, include_history=True)
            repairs = [item for item in found.repair_history or [] if item.id]
            latest = max(reversed(repairs), key=lambda item: item.start_time or math.inf, default=None)
            return 0 if latest is None or latest.id is None else latest.id

    def repair(self, run: DatabricksRunId, parameters: Mapping[str, str], *, after: int) -> None:
        """Have the failed tasks of an ended run done again, once.

        The API has no token for repairs. It takes the latest repair's id instead, and refuses an outdated one and a
        run that is active; either way whoever comes second finds a later repair than `after`, and is content.
        """
        if self.latest_repair(run) != after:
            return
        try:
            with workspace_errors(f"repairing run {run}", is_submission=True):
                self._workspace.client.jobs.repair_run(
                    run,
                    rerun_all_failed_tasks=True,
                    latest_repair_id=after or None,
                    job_parameters=dict(parameters),
                )
        except RunRejectedError:
            if self.latest_repair(run) == after:
                raise

    def _job_name(self, job: JobKey) -> str:
        return f"tidegate-{self._environment}-{job}"

    def _known_jobs(self) -> list[JobKey]:
        """Return the jobs of this environment, for the error message only."""
        prefix = self._job_name(JobKey(""))
        with workspace_errors("listing jobs"):
            names = [
                str(found.settings.name)
                for found in self._workspace.client.jobs.list(limit=25)
                if found.settings is not None and str(found.settings.name).startswith(prefix)
            ]
        return [JobKey(name.removeprefix(prefix)) for name in names[:25]]


class DatabricksModels:
    """Implements `ModelRegistry` on Unity Catalog's aliases of registered models."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._fresh: dict[tuple[str, str], tuple[float, str]] = {}

    def resolve(self, model_name: str, alias: str) -> str | None:
        """Return the version that the alias names, or None if the model or the alias does not exist yet.

        A version found is believed for five seconds, so that a storm of runs asks once; that none is there is
        never remembered, because a training may be about to end.
        """
        key, now = (model_name, alias), time.monotonic()
        fresh = self._fresh.get(key)
        if fresh is not None and now - fresh[0] < _ALIAS_IS_FRESH_S:
            return fresh[1]
        try:
            with workspace_errors(f"resolving model {model_name!r} alias {alias!r}"):
                found = self._workspace.client.model_versions.get_by_alias(model_name, alias)
        except NotFoundError:
            return None
        if found.version is None:
            return None
        self._fresh[key] = (now, str(found.version))
        return str(found.version)
