"""The workspace together with the real notebook runner, in the cluster's environment."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service import jobs
from databricks.sdk.service.jobs import RunResultState
from databricks.sdk.service.workspace import ImportFormat

from tests.support.workspace import REPOSITORY, Workspace, eventually, is_alive, notebook_processes

CLUSTER_PYTHON = REPOSITORY / ".venv-cluster/bin/python"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not CLUSTER_PYTHON.exists(), reason="needs the cluster's environment: `make setup`"),
]

FIRST = """# Databricks notebook source
# MAGIC %md
# MAGIC # Tides

# COMMAND ----------

# DBTITLE 1,Look
dbutils.widgets.text("port", "", "Where")
print(dbutils.widgets.get("port"), dbutils.secrets.get("harbour", "key"))

# COMMAND ----------

dbutils.jobs.taskValues.set("height", 4)
dbutils.notebook.exit(dbutils.widgets.get("port"))
"""

SECOND = """# Databricks notebook source
dbutils.notebook.exit(str(dbutils.jobs.taskValues.get("first", "height") + int(dbutils.widgets.get("height"))))
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    started = Workspace(
        tmp_path_factory.mktemp("workspace"),
        runner_command=[str(CLUSTER_PYTHON), "-m", "runner"],
        extra={"spark_jars_dir": str(REPOSITORY / ".tools/spark-jars")},
    ).start()
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def client(workspace: Workspace) -> WorkspaceClient:
    return workspace.client()


def submit(client: WorkspaceClient, *tasks: jobs.SubmitTask) -> int:
    return int(client.jobs.submit(run_name="tides", tasks=list(tasks)).run_id)


def ended(client: WorkspaceClient, run_id: int) -> jobs.Run:
    def look() -> jobs.Run | None:
        run = client.jobs.get_run(run_id)
        return run if run.end_time else None

    return eventually(look, deadline_s=120)


def result_of(client: WorkspaceClient, run: jobs.Run, task_key: str) -> str | None:
    task_run_id = next(task.run_id for task in run.tasks or [] if task.task_key == task_key)
    assert task_run_id is not None
    output = client.jobs.get_run_output(task_run_id).notebook_output
    return None if output is None else output.result


def test_widgets_secrets_and_task_values_go_all_the_way(workspace: Workspace, client: WorkspaceClient) -> None:
    client.secrets.create_scope("harbour")
    client.secrets.put_secret("harbour", "key", string_value="under the stone")
    client.workspace.upload("/Shared/first.py", FIRST.encode(), format=ImportFormat.AUTO)
    client.workspace.upload("/Shared/second.py", SECOND.encode(), format=ImportFormat.AUTO)
    first = jobs.NotebookTask("/Workspace/Shared/first", base_parameters={"port": "Cuxhaven"})
    second = jobs.NotebookTask("/Shared/second", base_parameters={"height": "{{tasks.first.values.height}}"})

    run = ended(
        client,
        submit(
            client,
            jobs.SubmitTask("first", notebook_task=first),
            jobs.SubmitTask("second", notebook_task=second, depends_on=[jobs.TaskDependency("first")]),
        ),
    )

    assert run.state is not None
    assert run.state.result_state is RunResultState.SUCCESS
    assert (result_of(client, run, "first"), result_of(client, run, "second")) == ("Cuxhaven", "8")
    assert run.run_page_url is not None
    page = workspace.api("GET", run.run_page_url.removeprefix(workspace.url)).text
    assert "<h3>Tides</h3>" in page
    assert "Cuxhaven [REDACTED]" in page
    assert "under the stone" not in page


def test_a_cancelled_notebook_leaves_nothing_behind(client: WorkspaceClient, tmp_path: Path) -> None:
    flag = tmp_path / "started"
    source = f"# Databricks notebook source\nimport time\nopen({str(flag)!r}, 'w').close()\ntime.sleep(100)\n"
    encoded = base64.b64encode(source.encode()).decode()
    client.workspace.import_("/Shared/slow.py", content=encoded, format=ImportFormat.AUTO)
    run_id = submit(client, jobs.SubmitTask("slow", notebook_task=jobs.NotebookTask("/Shared/slow")))
    eventually(flag.exists, deadline_s=60)
    processes = notebook_processes(client.jobs.get_run(run_id))
    assert processes

    client.jobs.cancel_run(run_id)

    run = ended(client, run_id)
    assert run.state is not None
    assert run.state.result_state is RunResultState.CANCELED
    eventually(lambda: not any(is_alive(process) for process in processes))
