"""Jobs on the local workspace, through databricks-sdk over HTTP, with notebook processes of their own."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, ResourceDoesNotExist
from databricks.sdk.service import jobs
from databricks.sdk.service.jobs import RunLifeCycleState, RunResultState, TerminationCodeCode
from databricks.sdk.service.workspace import ImportFormat

from tests.support.workspace import Workspace, eventually, is_alive, notebook_processes

pytestmark = pytest.mark.integration

HEADER = "# Databricks notebook source\n"
QUICK = "dbutils.notebook.exit(dbutils.widgets.get('word'))"
SLOW = "import time\nopen(dbutils.widgets.get('flag'), 'w').close()\ntime.sleep(60)"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    started = Workspace(tmp_path_factory.mktemp("workspace"), extra={"max_concurrent_tasks": 4}).start()
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def client(workspace: Workspace) -> WorkspaceClient:
    return workspace.client()


def put_notebook(client: WorkspaceClient, name: str, source: str) -> str:
    client.workspace.upload(f"/Shared/{name}.py", (HEADER + source).encode(), format=ImportFormat.AUTO, overwrite=True)
    return f"/Workspace/Shared/{name}"


def make_job(client: WorkspaceClient, name: str, source: str, **settings: object) -> int:
    path = put_notebook(client, name, source)
    task = jobs.Task(task_key="main", notebook_task=jobs.NotebookTask(notebook_path=path))
    document = {"name": name, "tasks": [task.as_dict()], **settings}
    created = client.api_client.do("POST", "/api/2.2/jobs/create", body=document)
    assert isinstance(created, dict)
    return int(created["job_id"])


def start(client: WorkspaceClient, job_id: int, **options: Any) -> int:
    return int(client.jobs.run_now(job_id, **options).run_id)


def state_of(client: WorkspaceClient, run_id: int) -> jobs.RunState:
    state = client.jobs.get_run(run_id).state
    assert state is not None
    return state


def ended(client: WorkspaceClient, run_id: int) -> jobs.Run:
    def look() -> jobs.Run | None:
        run = client.jobs.get_run(run_id)
        return run if run.end_time else None

    return eventually(look)


def output_of(client: WorkspaceClient, run: jobs.Run) -> jobs.RunOutput:
    assert run.tasks
    task_run_id = run.tasks[0].run_id
    assert task_run_id is not None
    return client.jobs.get_run_output(task_run_id)


def started_flag(directory: Path, name: str) -> Path:
    return directory / f"{name}.started"


def test_a_notebooks_exit_value_is_the_runs_output(client: WorkspaceClient) -> None:
    job_id = make_job(client, "quick", QUICK, parameters=[{"name": "word", "default": "none"}])

    run = client.jobs.run_now(job_id, job_parameters={"word": "tide"}).result()

    assert run.state is not None
    assert run.state.result_state is RunResultState.SUCCESS
    assert run.status is not None
    assert run.status.termination_details is not None
    assert run.status.termination_details.code is TerminationCodeCode.SUCCESS
    output = output_of(client, run)
    assert output.notebook_output is not None
    assert output.notebook_output.result == "tide"


def test_a_run_ends_with_its_notebook(client: WorkspaceClient) -> None:
    job_id = make_job(client, "instant", "pass")

    run = ended(client, start(client, job_id))

    assert run.state is not None
    assert run.state.result_state is RunResultState.SUCCESS


def test_a_raising_notebook_fails_its_run_with_error_and_trace(client: WorkspaceClient) -> None:
    job_id = make_job(client, "raising", "raise ValueError('no such tide')")

    run = ended(client, start(client, job_id))

    assert run.state is not None
    assert run.state.life_cycle_state is RunLifeCycleState.TERMINATED
    assert run.state.result_state is RunResultState.FAILED
    output = output_of(client, run)
    assert output.error is not None
    assert "no such tide" in output.error
    assert output.error_trace is not None
    assert output.error_trace.startswith("Traceback")


def test_32_callers_with_one_token_get_one_run(client: WorkspaceClient) -> None:
    job_id = make_job(client, "crowd", "pass", max_concurrent_runs=50)
    with ThreadPoolExecutor(32) as pool:
        calls = [pool.submit(lambda: start(client, job_id, idempotency_token="crowd-token")) for _ in range(32)]
        run_ids = {call.result() for call in calls}

    assert len(run_ids) == 1
    assert len(list(client.jobs.list_runs(job_id=job_id))) == 1


def test_a_lost_answer_and_the_sdks_own_retry_leave_one_run(workspace: Workspace, client: WorkspaceClient) -> None:
    """The SDK repeats the call when the connection breaks; the token makes that harmless."""
    job_id = make_job(client, "lost", "pass", max_concurrent_runs=50)
    workspace.api("DELETE", "/_faults")
    workspace.fault(method="POST", path="jobs/run-now$", action={"drop_response": True})

    run_id = start(client, job_id, idempotency_token="lost-token")

    assert [run.run_id for run in client.jobs.list_runs(job_id=job_id)] == [run_id]
    rules = workspace.api("GET", "/_faults").json()["rules"]
    assert [rule["hits"] for rule in rules] == [1]


def test_without_a_token_a_lost_answer_starts_two_runs(workspace: Workspace, client: WorkspaceClient) -> None:
    """This is the accident that the token prevents; the emulator must be able to show it."""
    job_id = make_job(client, "doubled", "pass", max_concurrent_runs=50)
    workspace.fault(method="POST", path="jobs/run-now$", action={"drop_response": True})

    client.jobs.run_now(job_id)

    assert len(list(client.jobs.list_runs(job_id=job_id))) == 2


def test_the_sdk_waits_as_long_as_a_429_says(workspace: Workspace, client: WorkspaceClient) -> None:
    workspace.fault(method="GET", path="jobs/list$", action={"status": 429, "retry_after": 1})

    began = time.monotonic()
    list(client.jobs.list(name="nothing"))

    assert time.monotonic() - began >= 1


def test_runs_submit_honours_the_token_too(client: WorkspaceClient) -> None:
    path = put_notebook(client, "submitted", "pass")
    task = jobs.SubmitTask(task_key="main", notebook_task=jobs.NotebookTask(notebook_path=path))

    run_ids = {
        int(client.jobs.submit(run_name="once", tasks=[task], idempotency_token="submit-token").run_id)
        for _ in range(2)
    }

    assert len(run_ids) == 1


def test_beyond_the_limit_runs_are_skipped_or_queued(client: WorkspaceClient, tmp_path: Path) -> None:
    flag = started_flag(tmp_path, "limit")
    job_id = make_job(client, "limited", SLOW, queue={"enabled": False})
    first = start(client, job_id, notebook_params={"flag": str(flag)})
    eventually(flag.exists)

    skipped = client.jobs.get_run(start(client, job_id, notebook_params={"flag": str(flag)}))
    queued_id = start(client, job_id, notebook_params={"flag": str(flag)}, queue=jobs.QueueSettings(enabled=True))

    assert skipped.state is not None
    assert skipped.state.life_cycle_state is RunLifeCycleState.SKIPPED
    assert skipped.state.result_state is RunResultState.MAXIMUM_CONCURRENT_RUNS_REACHED
    assert skipped.status is not None
    assert skipped.status.termination_details is not None
    assert skipped.status.termination_details.code is TerminationCodeCode.MAX_CONCURRENT_RUNS_EXCEEDED
    assert state_of(client, queued_id).life_cycle_state is RunLifeCycleState.QUEUED
    client.jobs.cancel_run(first)
    eventually(lambda: state_of(client, queued_id).life_cycle_state is RunLifeCycleState.RUNNING)
    client.jobs.cancel_all_runs(job_id=job_id)
    ended(client, queued_id)


def test_jobs_of_api_2_2_queue_by_default_and_older_ones_skip(workspace: Workspace, client: WorkspaceClient) -> None:
    put_notebook(client, "napping", "import time\ntime.sleep(60)")
    states = {}
    for version in ("2.0", "2.1", "2.2"):
        body = {
            "name": f"v{version}",
            "tasks": [{"task_key": "t", "notebook_task": {"notebook_path": "/Shared/napping"}}],
        }
        job_id = workspace.api("POST", f"/api/{version}/jobs/create", body).json()["job_id"]
        first, second = (start(client, job_id) for _ in range(2))
        states[version] = state_of(client, second).life_cycle_state
        client.jobs.cancel_all_runs(job_id=job_id)
        ended(client, first)

    assert states == {
        "2.0": RunLifeCycleState.SKIPPED,
        "2.1": RunLifeCycleState.SKIPPED,
        "2.2": RunLifeCycleState.QUEUED,
    }


def test_a_timed_out_run_says_so_and_leaves_no_process(client: WorkspaceClient, tmp_path: Path) -> None:
    flag = started_flag(tmp_path, "timeout")
    job_id = make_job(client, "timed", SLOW, timeout_seconds=2)

    run = ended(client, start(client, job_id, notebook_params={"flag": str(flag)}))

    assert run.state is not None
    assert run.state.result_state is RunResultState.TIMEDOUT
    assert run.state.user_cancelled_or_timedout
    assert run.status is not None
    assert run.status.termination_details is not None
    assert run.status.termination_details.code is TerminationCodeCode.CANCELED
    assert notebook_processes(run) == []


def test_a_cancelled_run_ends_with_its_whole_process_group(client: WorkspaceClient, tmp_path: Path) -> None:
    flag = started_flag(tmp_path, "cancel")
    source = "import subprocess\nsubprocess.Popen(['sleep', '61'])\n" + SLOW
    job_id = make_job(client, "cancelled", source)
    run_id = start(client, job_id, notebook_params={"flag": str(flag)})
    eventually(flag.exists)
    group = notebook_processes(client.jobs.get_run(run_id))
    assert len(group) == 2

    client.jobs.cancel_run(run_id).result()

    run = client.jobs.get_run(run_id)
    assert run.state is not None
    assert run.state.result_state is RunResultState.CANCELED
    eventually(lambda: not any(is_alive(process) for process in group))


def test_a_killed_notebook_process_is_an_internal_error(
    workspace: Workspace, client: WorkspaceClient, tmp_path: Path
) -> None:
    flag = started_flag(tmp_path, "killed")
    job_id = make_job(client, "killed", SLOW)
    run_id = start(client, job_id, notebook_params={"flag": str(flag)})
    eventually(flag.exists)

    workspace.api("POST", "/_faults/kill-run", {"run_id": run_id})

    run = ended(client, run_id)
    assert run.state is not None
    assert run.state.life_cycle_state is RunLifeCycleState.INTERNAL_ERROR
    assert run.status is not None
    assert run.status.termination_details is not None
    assert run.status.termination_details.code is TerminationCodeCode.DRIVER_ERROR


def test_a_rule_can_kill_the_run_that_a_call_starts(
    workspace: Workspace, client: WorkspaceClient, tmp_path: Path
) -> None:
    job_id = make_job(client, "doomed", SLOW)
    workspace.fault(method="POST", path="jobs/run-now$", action={"kill_run_after_s": 0.2})

    run_id = start(client, job_id, notebook_params={"flag": str(started_flag(tmp_path, "doomed"))})

    state = ended(client, run_id).state
    assert state is not None
    assert state.life_cycle_state is RunLifeCycleState.INTERNAL_ERROR


def test_an_unknown_job_or_run_is_a_resource_that_does_not_exist(client: WorkspaceClient) -> None:
    with pytest.raises(ResourceDoesNotExist):
        client.jobs.get(1)
    with pytest.raises(ResourceDoesNotExist):
        client.jobs.get_run(1)
    with pytest.raises(InvalidParameterValue, match="Job 1 does not exist"):
        client.jobs.run_now(1)


def test_output_of_several_tasks_is_asked_for_one_by_one(client: WorkspaceClient) -> None:
    path = put_notebook(client, "several", "pass")
    tasks = [jobs.SubmitTask(task_key=key, notebook_task=jobs.NotebookTask(notebook_path=path)) for key in ("a", "b")]
    run_id = client.jobs.submit(run_name="several", tasks=tasks).run_id
    ended(client, run_id)

    with pytest.raises(InvalidParameterValue, match="multiple tasks is not supported"):
        client.jobs.get_run_output(run_id)


def test_jobs_are_listed_by_name_whatever_its_case_and_page_by_page(client: WorkspaceClient) -> None:
    ids = {make_job(client, name, "pass") for name in ("Listed", "listed", "LISTED")}

    assert {job.job_id for job in client.jobs.list(name="lisTed", limit=2)} == ids


def test_reset_replaces_and_update_merges(client: WorkspaceClient) -> None:
    job_id = make_job(client, "changing", "pass", timeout_seconds=5, tags={"a": "b"})

    client.jobs.update(job_id, new_settings=jobs.JobSettings(timeout_seconds=9))
    updated = client.jobs.get(job_id).settings
    client.jobs.reset(job_id, new_settings=jobs.JobSettings(name="reset"))
    reset = client.jobs.get(job_id).settings

    assert updated is not None
    assert (updated.timeout_seconds, updated.tags, len(updated.tasks or [])) == (9, {"a": "b"}, 1)
    assert reset is not None
    assert (reset.name, reset.timeout_seconds, reset.tags) == ("reset", None, None)


def test_a_flat_job_of_api_2_0_stays_flat_there_and_has_a_task_in_2_1(workspace: Workspace) -> None:
    body = {"name": "flat", "existing_cluster_id": "c-1", "notebook_task": {"notebook_path": "/Shared/x"}}
    job_id = workspace.api("POST", "/api/2.0/jobs/create", body).json()["job_id"]

    old = workspace.api("GET", f"/api/2.0/jobs/get?job_id={job_id}").json()["settings"]
    new = workspace.api("GET", f"/api/2.1/jobs/get?job_id={job_id}").json()["settings"]

    assert (old["format"], old["notebook_task"], "tasks" in old) == (
        "SINGLE_TASK",
        {"notebook_path": "/Shared/x"},
        False,
    )
    assert (new["format"], new["tasks"][0]["existing_cluster_id"]) == ("MULTI_TASK", "c-1")


def test_cluster_variables_reach_the_notebook_and_the_workspaces_own_do_not(
    workspace: Workspace, client: WorkspaceClient
) -> None:
    client.secrets.create_scope("env")
    client.secrets.put_secret("env", "key", string_value="hidden")
    path = put_notebook(client, "environment", "dbutils.notebook.exit(request['env']['A'] + ' ' + request['env']['B'])")
    run_id = workspace.api(
        "POST",
        "/api/2.2/jobs/runs/submit",
        {
            "run_name": "environment",
            "tasks": [
                {
                    "task_key": "t",
                    "notebook_task": {"notebook_path": path},
                    "new_cluster": {"spark_env_vars": {"A": "plain", "B": "{{secrets/env/key}}"}},
                }
            ],
        },
    ).json()["run_id"]

    output = output_of(client, ended(client, run_id))

    assert output.notebook_output is not None
    assert output.notebook_output.result == "plain hidden"


def test_the_runs_page_shows_the_run_and_escapes_what_it_says(workspace: Workspace, client: WorkspaceClient) -> None:
    job_id = make_job(client, "page <i>", QUICK)
    run = ended(client, start(client, job_id, notebook_params={"word": "<script>alert(1)</script>"}))
    assert run.run_page_url is not None

    page = workspace.api("GET", run.run_page_url.removeprefix(workspace.url))

    assert re.fullmatch(rf"{workspace.url}/jobs/{job_id}/runs/\d+", run.run_page_url)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "success" in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "<script>alert(1)" not in page.text
    assert "&lt;b&gt;done&lt;/b&gt;" in page.text


def test_killed_in_the_middle_the_workspace_knows_its_runs_again(tmp_path: Path) -> None:
    """After kill -9: no notebook process is left, live runs have ended, queued ones run, tokens hold."""
    flag = started_flag(tmp_path, "restart")
    workspace = Workspace(tmp_path / "workspace").start()
    try:
        client = workspace.client()
        job_id = make_job(client, "interrupted", SLOW)
        live = start(client, job_id, notebook_params={"flag": str(flag)}, idempotency_token="live")
        eventually(flag.exists)
        queued = start(client, job_id, notebook_params={"flag": str(flag)}, idempotency_token="queued")
        processes = notebook_processes(client.jobs.get_run(live))
        assert processes

        workspace.kill()

        eventually(lambda: not any(is_alive(process) for process in processes), deadline_s=5)
        workspace.start()
        run = client.jobs.get_run(live)
        assert run.state is not None
        assert run.state.life_cycle_state is RunLifeCycleState.INTERNAL_ERROR
        assert start(client, job_id, idempotency_token="live") == live
        assert start(client, job_id, idempotency_token="queued") == queued
        eventually(lambda: state_of(client, queued).life_cycle_state is RunLifeCycleState.RUNNING)
    finally:
        assert workspace.stop() == 0


def test_stopped_with_a_live_run_the_workspace_is_gone_in_time(tmp_path: Path) -> None:
    flag = started_flag(tmp_path, "stopping")
    workspace = Workspace(tmp_path / "workspace").start()
    client = workspace.client()
    run_id = start(client, make_job(client, "live", SLOW), notebook_params={"flag": str(flag)})
    eventually(flag.exists)
    processes = notebook_processes(client.jobs.get_run(run_id))

    code = workspace.stop()

    assert code == 0
    assert not any(is_alive(process) for process in processes)


def test_a_deleted_runs_token_is_an_error(client: WorkspaceClient) -> None:
    job_id = make_job(client, "deleted", "pass")
    run_id = start(client, job_id, idempotency_token="deleted-token")
    ended(client, run_id)
    client.jobs.delete_run(run_id)

    with pytest.raises(InvalidParameterValue, match="deleted"):
        client.jobs.run_now(job_id, idempotency_token="deleted-token")


REPAIRABLE = """
import os
if dbutils.widgets.get("attempt") == "1":
    raise RuntimeError("the first attempt fails")
dbutils.notebook.exit(dbutils.widgets.get("attempt") + " " + dbutils.widgets.get("kept"))
"""


def test_a_repair_does_the_failed_task_again_in_the_same_run(client: WorkspaceClient) -> None:
    """R27: as documented, with job parameters of its own and a history on demand."""
    job_id = make_job(
        client,
        "repairable",
        REPAIRABLE,
        parameters=[{"name": "attempt", "default": "1"}, {"name": "kept", "default": "default"}],
    )
    run_id = start(client, job_id, job_parameters={"kept": "first"})
    client.jobs.wait_get_run_job_terminated_or_skipped(run_id)

    client.jobs.repair_run(run_id, rerun_all_failed_tasks=True, job_parameters={"attempt": "2", "kept": "second"})
    repaired = client.jobs.wait_get_run_job_terminated_or_skipped(run_id)

    assert repaired.state is not None
    assert repaired.state.result_state is RunResultState.SUCCESS
    assert not repaired.repair_history  # only on demand
    history = client.jobs.get_run(run_id, include_history=True).repair_history
    assert history is not None
    assert [item.type for item in history] == [jobs.RepairHistoryItemType.ORIGINAL, jobs.RepairHistoryItemType.REPAIR]
    assert [item.state.result_state for item in history if item.state] == [
        RunResultState.FAILED,
        RunResultState.SUCCESS,
    ]
    assert (history[0].id, bool(history[1].id)) == (None, True)
    assert history[1].task_run_ids is not None
    (task_run_id,) = history[1].task_run_ids
    output = client.jobs.get_run_output(task_run_id).notebook_output
    assert output is not None
    assert output.result == "2 second"


def test_a_repair_after_a_repair_must_name_the_latest_one(client: WorkspaceClient) -> None:
    job_id = make_job(client, "never-mended", "raise RuntimeError('always')")
    run_id = start(client, job_id)
    client.jobs.wait_get_run_job_terminated_or_skipped(run_id)
    client.jobs.repair_run(run_id, rerun_all_failed_tasks=True)
    client.jobs.wait_get_run_job_terminated_or_skipped(run_id)
    first = client.jobs.get_run(run_id, include_history=True).repair_history
    assert first is not None

    with pytest.raises(InvalidParameterValue, match="latest repair ID needs to be provided"):
        client.jobs.repair_run(run_id, rerun_all_failed_tasks=True)
    client.jobs.repair_run(run_id, rerun_all_failed_tasks=True, latest_repair_id=first[-1].id)
    client.jobs.wait_get_run_job_terminated_or_skipped(run_id)

    history = client.jobs.get_run(run_id, include_history=True).repair_history
    assert history is not None
    assert len(history) == 3


def test_a_run_that_is_active_is_not_repaired(client: WorkspaceClient, tmp_path: Path) -> None:
    job_id = make_job(client, "active", SLOW, parameters=[{"name": "flag", "default": str(tmp_path / "flag")}])
    run_id = start(client, job_id)

    with pytest.raises(BadRequest, match="still active"):
        client.jobs.repair_run(run_id, rerun_all_failed_tasks=True)

    client.jobs.cancel_run(run_id).result()
