"""Holds the workspace in memory and the real adapters, on the local workspace, to one suite."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from databricks.sdk.service import jobs

from functions.adapters import databricks
from functions.core.databricks_states import Verdict
from functions.core.errors import (
    AccessRefusedError,
    AmbiguousJobError,
    DriftedJobError,
    NotFoundError,
    RunRejectedError,
    RunSubmissionError,
    ThrottledError,
    TransientError,
    UnknownJobError,
)
from functions.core.model import DatabricksRunId, IdempotencyToken, JobKey
from functions.ports import ModelRegistry, RunSubmitter
from tests.simulation.notebooks import SimulatedWorkspace
from tests.support.in_memory import InMemoryWorkspace, NoFaults
from tests.support.workspace import IDENTITY_HEADER, JOB_TEMPLATES, Workspace, eventually, stand_in_settings

TOKEN = IdempotencyToken("a" * 64)
OTHER = IdempotencyToken("b" * 64)
MODEL = "main.tidegate.flight_delay"


@dataclass(frozen=True)
class Ports:
    """Both ports of one workspace, and a way to script the registry's answer."""

    submitter: RunSubmitter
    models: ModelRegistry
    set_champion: Callable[[int], None]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    running = Workspace(tmp_path_factory.mktemp("workspace")).start()
    client = running.client()
    for name in ("tidegate-test-scoring", "TIDEGATE-TEST-SCORING", "tidegate-test-twice", "tidegate-test-twice"):
        task = jobs.Task(task_key="only", notebook_task=jobs.NotebookTask(notebook_path="/nothing"))
        client.jobs.create(name=name, tasks=[task])
    try:
        yield running
    finally:
        running.kill()


@pytest.fixture
def real(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Ports:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{workspace.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", IDENTITY_HEADER)
    monkeypatch.setenv("DATABRICKS_TOKEN", "a-token-that-must-not-be-used")
    workspace.api("DELETE", "/_faults")
    connection = databricks.Workspace(workspace.url)

    def set_champion(version: int) -> None:
        path = ".*/unity-catalog/models/.*/aliases/champion"
        workspace.fault(method="GET", path=path, times=100, action={"status": 200, "body": {"version": version}})

    return Ports(
        databricks.DatabricksJobs(connection, environment="test", templates=JOB_TEMPLATES),
        databricks.DatabricksModels(connection),
        set_champion,
    )


@pytest.fixture(params=["memory", "simulation", pytest.param("local workspace", marks=pytest.mark.integration)])
def ports(request: pytest.FixtureRequest) -> Ports:
    if request.param not in {"memory", "simulation"}:
        ports: Ports = request.getfixturevalue("real")
        return ports
    memory = InMemoryWorkspace(["scoring", "twice", "twice"])
    if request.param == "simulation":
        memory = SimulatedWorkspace(NoFaults(), lambda _token, _parameters: None)
        memory.jobs = Counter([JobKey("scoring"), JobKey("twice"), JobKey("twice")])

    def set_champion(version: int) -> None:
        memory.models[MODEL, "champion"] = str(version)

    return Ports(memory, memory, set_champion)


def test_one_token_is_one_run(ports: Ports) -> None:
    """R22: the same token again, whoever sends it, gives the run that it started."""
    first = ports.submitter.submit(JobKey("scoring"), TOKEN, {"run_id": "x"})
    second = ports.submitter.submit(JobKey("scoring"), TOKEN, {"run_id": "x"})
    other = ports.submitter.submit(JobKey("scoring"), OTHER, {"run_id": "y"})

    assert first == second
    assert other != first


def test_a_job_is_found_by_its_exact_name(ports: Ports) -> None:
    """R29: a job that differs in case only, or is of another environment, is another job."""
    assert ports.submitter.find_job(JobKey("scoring")) == ports.submitter.find_job(JobKey("scoring"))


def test_an_unknown_job_is_named_with_those_that_are_known(ports: Ports) -> None:
    with pytest.raises(UnknownJobError, match="scoring"):
        ports.submitter.find_job(JobKey("training"))


def test_two_jobs_of_one_name_are_an_error(ports: Ports) -> None:
    """R29: which of them was meant is nobody's guess."""
    with pytest.raises(AmbiguousJobError):
        ports.submitter.submit(JobKey("twice"), TOKEN, {})


def test_an_unknown_run_is_not_found(ports: Ports) -> None:
    with pytest.raises(NotFoundError):
        ports.submitter.status(DatabricksRunId(424242))


def test_cancelling_what_is_not_there_leaves_it_to_its_state(ports: Ports) -> None:
    """Databricks answers 400 to it, which must not stop whoever asks."""
    ports.submitter.cancel(DatabricksRunId(424242))

    with pytest.raises(NotFoundError):
        ports.submitter.status(DatabricksRunId(424242))


def test_runs_that_have_not_ended_are_listed_by_job(ports: Ports) -> None:
    run = ports.submitter.submit(JobKey("scoring"), IdempotencyToken("1" * 64), {})

    active = ports.submitter.active(JobKey("scoring"))

    is_open = ports.submitter.status(run).verdict is Verdict.OPEN
    assert run in active or not is_open
    assert f"/runs/{run}" in ports.submitter.page_of(JobKey("scoring"), run)


def test_an_alias_names_a_version(ports: Ports) -> None:
    ports.set_champion(12)

    assert ports.models.resolve(MODEL, "champion") == "12"


@pytest.mark.integration
def test_a_run_whose_notebook_is_missing_has_failed_for_good(real: Ports) -> None:
    run = real.submitter.submit(JobKey("scoring"), IdempotencyToken("c" * 64), {})

    status = real.submitter.status(run)

    assert status.verdict in {Verdict.OPEN, Verdict.FAILED_PERMANENT}
    assert status.run_page_url.startswith("http")


FAILED_RUN = {
    "state": {
        "life_cycle_state": "TERMINATED",
        "result_state": "FAILED",
        "state_message": "Workload failed, see run output for details",
    },
    "status": {"state": "TERMINATED", "termination_details": {"code": "RUN_EXECUTION_ERROR"}},
    "tasks": [
        {"run_id": 7, "task_key": "prepare", "state": {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS"}},
        {"run_id": 8, "task_key": "score", "state": {"life_cycle_state": "TERMINATED", "result_state": "FAILED"}},
    ],
}


@pytest.mark.integration
def test_a_failed_run_says_what_its_task_raised(real: Ports, workspace: Workspace) -> None:
    """The run itself says only that its workload failed; no signature of an address is passed on."""
    error = "OSError: GET https://acct.blob.core.windows.net/in/a.parquet?sv=2024&sig=s3cr%2Fet answered 403. Why? No."
    workspace.fault(method="GET", path=".*/runs/get", times=1, action={"status": 200, "body": FAILED_RUN})
    workspace.fault(method="GET", path=".*/runs/get-output", times=1, action={"status": 200, "body": {"error": error}})

    status = real.submitter.status(DatabricksRunId(6))

    assert status.verdict is Verdict.FAILED_PERMANENT
    assert status.message == "OSError: GET https://acct.blob.core.windows.net/in/a.parquet?… answered 403. Why? No."


@pytest.mark.integration
def test_an_output_that_cannot_be_had_keeps_no_end_waiting(real: Ports, workspace: Workspace) -> None:
    workspace.fault(method="GET", path=".*/runs/get", times=1, action={"status": 200, "body": FAILED_RUN})
    workspace.fault(method="GET", path=".*/runs/get-output", times=1, action={"status": 403, "body": {}})

    status = real.submitter.status(DatabricksRunId(6))

    assert (status.verdict, status.message) == (
        Verdict.FAILED_PERMANENT,
        "Workload failed, see run output for details",
    )


@pytest.mark.integration
def test_a_repair_is_made_once_however_often_it_is_sent(real: Ports) -> None:
    """R27: the API has no token for repairs; the id of the latest one before stands in for it."""
    run = real.submitter.submit(JobKey("scoring"), IdempotencyToken("d" * 64), {})
    eventually(lambda: not real.submitter.status(run).verdict.is_open)
    before = real.submitter.latest_repair(run)

    real.submitter.repair(run, {"attempt": "2"}, after=before)
    eventually(lambda: not real.submitter.status(run).verdict.is_open)
    first = real.submitter.latest_repair(run)
    real.submitter.repair(run, {"attempt": "2"}, after=before)

    assert (before, first > 0) == (0, True)
    assert real.submitter.latest_repair(run) == first
    real.submitter.repair(run, {"attempt": "3"}, after=first)
    assert real.submitter.latest_repair(run) not in {before, first}


@pytest.mark.parametrize("start_time", [1_700_000_002_000, 0, None])
def test_the_latest_repair_is_the_last_that_began_whatever_its_id(
    real: Ports, workspace: Workspace, start_time: int | None
) -> None:
    """R27: Databricks does not number repairs in order; one that waits has not begun."""
    run = real.submitter.submit(JobKey("scoring"), IdempotencyToken("f" * 64), {})
    history = [
        {"type": "ORIGINAL", "start_time": 1_700_000_000_000},
        {"type": "REPAIR", "id": 734_650_698_524_280, "start_time": 1_700_000_001_000},
        {"type": "REPAIR", "id": 108_607_572_123_234, "start_time": start_time},
    ]
    body = {"run_id": run, "repair_history": history}
    workspace.fault(method="GET", path=".*/runs/get", times=1, action={"status": 200, "body": body})

    assert real.submitter.latest_repair(run) == 108_607_572_123_234


def test_a_repair_whose_answer_was_lost_is_found_although_its_id_is_lower(real: Ports, workspace: Workspace) -> None:
    """R27: sending it again would be refused, and the run would be announced as failed while its repair goes on."""
    run = real.submitter.submit(JobKey("scoring"), IdempotencyToken("1" * 64), {})
    first, second = 734_650_698_524_280, 108_607_572_123_234
    history = [
        {"type": "REPAIR", "id": first, "start_time": 1_700_000_001_000},
        {"type": "REPAIR", "id": second, "start_time": 1_700_000_002_000},
    ]
    body = {"run_id": run, "repair_history": history}
    workspace.fault(method="GET", path=".*/runs/get", times=2, action={"status": 200, "body": body})
    refusal = {"error_code": "INVALID_STATE", "message": "The latest repair ID needs to be provided"}
    workspace.fault(method="POST", path=".*/runs/repair", times=1, action={"status": 400, "body": refusal})

    real.submitter.repair(run, {"attempt": "3"}, after=first)

    assert real.submitter.latest_repair(run) == second  # the other look; a call to repair would have been refused


@pytest.mark.parametrize(
    "body",
    [{}, "", "<html><title>404 Not Found</title></html>", {"error_code": "ENDPOINT_NOT_FOUND", "message": "No API"}],
    ids=["no code", "empty", "html", "no such endpoint"],
)
@pytest.mark.parametrize("path", [".*/runs/get", ".*/jobs/list", ".*/jobs/run-now"])
def test_a_404_that_is_not_about_what_was_asked_for_is_an_outage(
    real: Ports, workspace: Workspace, path: str, body: object
) -> None:
    """A gateway or a wrong host answers so; runs must not be announced as failed that go on, or that can wait."""
    workspace.fault(method="*", path=path, times=1, action={"status": 404, "body": body})

    def ask() -> object:
        if path.endswith("runs/get"):
            return real.submitter.status(DatabricksRunId(6))
        return real.submitter.submit(JobKey("scoring"), IdempotencyToken("2" * 64), {})

    with pytest.raises(TransientError):
        ask()


def test_a_run_that_is_active_cannot_be_repaired(real: Ports, workspace: Workspace) -> None:
    run = real.submitter.submit(JobKey("scoring"), IdempotencyToken("e" * 64), {})
    eventually(lambda: not real.submitter.status(run).verdict.is_open)
    body = {"error_code": "INVALID_STATE", "message": "Run is active"}
    workspace.fault(method="POST", path=".*/runs/repair", times=1, action={"status": 400, "body": body})

    with pytest.raises(RunRejectedError, match="active"):
        real.submitter.repair(run, {}, after=0)


def test_repairs_of_an_unknown_run_are_not_found(ports: Ports) -> None:
    with pytest.raises(NotFoundError):
        ports.submitter.latest_repair(DatabricksRunId(999_999_999))


def test_a_refusal_is_not_slept_through(real: Ports, workspace: Workspace) -> None:
    """R23: no thread sleeps; the delay that was asked for reaches the caller."""
    import time

    real.submitter.find_job(JobKey("scoring"))
    action = {"status": 429, "retry_after": 30, "body": {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow"}}
    workspace.fault(method="POST", path=".*/jobs/run-now", times=1, action=action)
    began = time.monotonic()

    with pytest.raises(ThrottledError) as raised:
        real.submitter.submit(JobKey("scoring"), IdempotencyToken("d" * 64), {})

    assert raised.value.retry_after_s == 30.0
    assert time.monotonic() - began < 10


@pytest.mark.integration
@pytest.mark.parametrize(
    ("said", "wait_s"),
    [
        ("Fri, 01 Mar 2199 12:00:00 GMT", 3600.0),
        ("Sun, 01 Mar 2020 12:00:00 GMT", 0.0),
        ("999999999999", 3600.0),
        ("-5", 1.0),
        ("in a while", 1.0),
    ],
)
def test_a_retry_after_in_any_form_reaches_the_caller(
    real: Ports, workspace: Workspace, said: str, wait_s: float
) -> None:
    """R23: a date too, for which the SDK would say one second, as it does for what was not said."""
    real.submitter.find_job(JobKey("scoring"))
    action = {"status": 503, "retry_after": said, "body": {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "slow"}}
    workspace.fault(method="POST", path=".*/jobs/run-now", times=1, action=action)

    with pytest.raises(ThrottledError) as raised:
        real.submitter.submit(JobKey("scoring"), IdempotencyToken("9" * 64), {})

    assert raised.value.retry_after_s == wait_s


@pytest.mark.integration
def test_a_lost_answer_is_transient_and_the_repeat_finds_the_run(real: Ports, workspace: Workspace) -> None:
    real.submitter.find_job(JobKey("scoring"))
    token = IdempotencyToken("e" * 64)
    workspace.fault(method="POST", path=".*/jobs/run-now", times=1, action={"drop_response": True})

    with pytest.raises(RunSubmissionError):
        real.submitter.submit(JobKey("scoring"), token, {"run_id": "lost"})
    first = real.submitter.submit(JobKey("scoring"), token, {"run_id": "lost"})
    second = real.submitter.submit(JobKey("scoring"), token, {"run_id": "lost"})

    assert first == second


@pytest.mark.integration
def test_a_missing_role_is_said(real: Ports, workspace: Workspace) -> None:
    action = {"status": 403, "body": {"error_code": "PERMISSION_DENIED", "message": "no CAN_MANAGE_RUN"}}
    real.submitter.find_job(JobKey("scoring"))
    workspace.fault(method="POST", path=".*/jobs/run-now", times=1, action=action)

    with pytest.raises(AccessRefusedError, match="CAN_MANAGE_RUN"):
        real.submitter.submit(JobKey("scoring"), IdempotencyToken("f" * 64), {})


@pytest.mark.integration
def test_no_model_yet_is_none(real: Ports, workspace: Workspace) -> None:
    action = {"status": 404, "body": {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such alias"}}
    workspace.fault(method="GET", path=".*/unity-catalog/models/.*", times=1, action=action)

    assert real.models.resolve("main.tidegate.nothing", "champion") is None


@pytest.mark.integration
def test_a_job_that_was_deployed_again_is_found_again(real: Ports, workspace: Workspace) -> None:
    """The remembered id is not believed for ever."""
    client = workspace.client()
    task = jobs.Task(task_key="only", notebook_task=jobs.NotebookTask(notebook_path="/nothing"))
    old = client.jobs.create(name="tidegate-test-moved", tasks=[task]).job_id
    assert real.submitter.find_job(JobKey("moved")) == old
    assert old is not None
    client.jobs.delete(old)
    client.jobs.create(name="tidegate-test-moved", tasks=[task])

    assert real.submitter.submit(JobKey("moved"), IdempotencyToken("0" * 64), {})


@pytest.mark.integration
def test_a_job_that_was_found_is_checked_as_it_is_now(real: Ports, workspace: Workspace) -> None:
    """R29: what was deleted, got a namesake or was changed since it was found is told until it is mended."""
    client = workspace.client()
    settings = stand_in_settings("training", environment="test")
    first = client.jobs.create(**settings.as_shallow_dict()).job_id
    assert first is not None
    assert real.submitter.find_job(JobKey("training")) == first
    real.submitter.check_job(JobKey("training"))

    other = client.jobs.create(name=settings.name, tasks=settings.tasks).job_id
    assert other is not None
    with pytest.raises(AmbiguousJobError):
        real.submitter.check_job(JobKey("training"))
    client.jobs.delete(first)
    with pytest.raises(
        DriftedJobError, match=r'queue: \(absent\) -> .*"enabled": true.*and \d+ more\); deploy it again'
    ):
        real.submitter.check_job(JobKey("training"))
    client.jobs.reset(other, new_settings=settings)
    real.submitter.check_job(JobKey("training"))
    assert real.submitter.find_job(JobKey("training")) == other
    client.jobs.delete(other)
    with pytest.raises(UnknownJobError):
        real.submitter.check_job(JobKey("training"))


@pytest.mark.parametrize("make", [InMemoryWorkspace, lambda: SimulatedWorkspace(NoFaults(), lambda *_: None)])
def test_a_run_that_is_being_cancelled_is_open_until_it_is_over(make: Callable[[], InMemoryWorkspace]) -> None:
    """Asking for it is not having it; asking again, or after the end, is harmless."""
    workspace = make()
    run = workspace.submit(JobKey("scoring"), TOKEN, {})

    workspace.cancel(run)
    workspace.cancel(run)

    assert workspace.status(run).life_cycle_state in {"TERMINATING", "TERMINATED"}
