"""MLflow with tracking URI `databricks` and registry `databricks-uc`, through the local workspace to a real server."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound
from databricks.sdk.service.catalog import ModelVersionInfoStatus
from databricks.sdk.service.workspace import ImportFormat
from mlflow.exceptions import MlflowException

from tests.support.workspace import TOKEN, Workspace, eventually, running_mlflow

pytestmark = [
    pytest.mark.integration,
    # MLflow's own: it warns about type hints, protobuf and its file store whatever one does
    pytest.mark.filterwarnings("ignore"),
]

EXPERIMENT = "/Shared/tidegate/local"
MODEL = "main.tidegate.flight_delay"
PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489")


def make_model() -> Any:
    """Return a model that predicts twice its input; importing the flavour warns, so not while tests are collected."""
    pyfunc = importlib.import_module("mlflow.pyfunc")

    class Doubling(pyfunc.PythonModel):  # type: ignore[name-defined,misc]  # untyped, see above
        def predict(self, context: Any, model_input: list[float]) -> list[float]:
            return [2 * value for value in model_input]

    return Doubling()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    directory = tmp_path_factory.mktemp("mlflow")
    started = Workspace(directory / "workspace")
    with running_mlflow(directory, started.url) as url:
        started.mlflow_url = url
        started.start()
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("DATABRICKS_HOST", started.url)
            environment.setenv("DATABRICKS_TOKEN", TOKEN)
            environment.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
            environment.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
            environment.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
            mlflow.set_tracking_uri("databricks")
            mlflow.set_registry_uri("databricks-uc")
            started.client().workspace.mkdirs("/Shared/tidegate")
            yield started
        assert started.stop() == 0


@pytest.fixture(scope="module")
def client(workspace: Workspace) -> WorkspaceClient:
    return workspace.client()


@pytest.fixture(scope="module")
def registered(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> mlflow.ActiveRun:
    """A run that logged one of everything and registered version 1 of the model."""
    mlflow.set_experiment(EXPERIMENT)
    picture = tmp_path_factory.mktemp("pictures") / "residuals.png"
    picture.write_bytes(PNG)
    with mlflow.start_run() as run:
        mlflow.log_params({"learning_rate": 0.1})
        mlflow.log_metrics({"rmse": 12.5})
        mlflow.set_tag("pipeline", "flight_delay")
        mlflow.log_text("hello", "notes/hello.txt")
        mlflow.log_text("", "empty.txt")
        mlflow.log_artifact(str(picture), "plots")
        mlflow.pyfunc.log_model(
            name="model", python_model=make_model(), registered_model_name=MODEL, pip_requirements=[]
        )
    assert isinstance(run, mlflow.ActiveRun)
    return run


def test_params_metrics_and_tags_come_back(registered: mlflow.ActiveRun) -> None:
    run = mlflow.get_run(registered.info.run_id)

    assert run.data.params == {"learning_rate": "0.1"}
    assert run.data.metrics["rmse"] == 12.5
    assert run.data.tags["pipeline"] == "flight_delay"
    assert run.info.status == "FINISHED"


def test_artifacts_are_files_of_the_workspace(registered: mlflow.ActiveRun, client: WorkspaceClient) -> None:
    run = registered.info
    tracking = mlflow.MlflowClient()

    names = {item.path for item in tracking.list_artifacts(run.run_id)}
    root = f"/WorkspaceInternal/Mlflow/Artifacts/{run.experiment_id}/Runs/{run.run_id}/artifacts"
    on_disk = {entry.name for entry in client.files.list_directory_contents(root)}

    assert {"notes", "empty.txt", "plots"} <= names
    assert names == on_disk
    assert mlflow.artifacts.load_text(f"{run.artifact_uri}/notes/hello.txt") == "hello"


def test_signed_urls_carry_artifacts_too(registered: mlflow.ActiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older clients know no Files API and ask for credentials instead."""
    monkeypatch.setenv("MLFLOW_DISABLE_DATABRICKS_SDK_FOR_RUN_ARTIFACTS", "true")
    tracking = mlflow.MlflowClient()

    tracking.log_text(registered.info.run_id, "signed", "signed/a.txt")

    assert mlflow.artifacts.load_text(f"{registered.info.artifact_uri}/signed/a.txt") == "signed"


def test_the_mlflow_servers_own_pages_see_the_artifacts(workspace: Workspace, registered: mlflow.ActiveRun) -> None:
    answer = requests.get(
        f"{workspace.mlflow_url}/get-artifact",
        params={"run_id": registered.info.run_id, "path": "notes/hello.txt"},
        timeout=30,
    )

    assert answer.text == "hello"


def test_a_version_is_ready_when_its_files_are_there(registered: mlflow.ActiveRun, client: WorkspaceClient) -> None:
    version = mlflow.MlflowClient().get_model_version(MODEL, "1")
    seen_by_the_sdk = client.model_versions.get(MODEL, 1)

    assert (version.status, version.run_id) == ("READY", registered.info.run_id)
    assert seen_by_the_sdk.status is ModelVersionInfoStatus.READY
    assert seen_by_the_sdk.run_id == registered.info.run_id
    assert client.files.get_metadata("/Models/main/tidegate/flight_delay/1/MLmodel").content_length


def test_a_version_without_its_files_is_pending(
    registered: mlflow.ActiveRun, workspace: Workspace, client: WorkspaceClient
) -> None:
    """A trainer that dies between creating and finalizing leaves a version that must not look ready."""
    body = {"name": "main.tidegate.pending", "source": registered.info.artifact_uri, "run_id": registered.info.run_id}
    workspace.api("POST", "/api/2.0/mlflow/unity-catalog/registered-models/create", {"name": body["name"]})
    workspace.api("POST", "/api/2.0/mlflow/unity-catalog/model-versions/create", body)

    assert client.model_versions.get("main.tidegate.pending", 1).status is ModelVersionInfoStatus.PENDING_REGISTRATION
    finalized = {"name": body["name"], "version": "1"}
    workspace.api("POST", "/api/2.0/mlflow/unity-catalog/model-versions/finalize", finalized)
    assert client.model_versions.get("main.tidegate.pending", 1).status is ModelVersionInfoStatus.READY


@pytest.mark.usefixtures("registered")
def test_both_sides_see_the_alias_that_one_of_them_set(client: WorkspaceClient) -> None:
    registry = mlflow.MlflowClient()

    registry.set_registered_model_alias(MODEL, "champion", "1")
    client.registered_models.set_alias(MODEL, "challenger", 1)

    assert client.model_versions.get_by_alias(MODEL, "champion").version == 1
    assert registry.get_model_version_by_alias(MODEL, "challenger").version == "1"
    aliases = client.registered_models.get(MODEL).aliases or []
    assert {alias.alias_name for alias in aliases} == {"champion", "challenger"}
    loaded = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
    assert loaded.predict([1.0, 2.0]) == [2.0, 4.0]
    client.registered_models.delete_alias(MODEL, "challenger")
    with pytest.raises(NotFound):
        client.model_versions.get_by_alias(MODEL, "challenger")
    with pytest.raises(MlflowException, match="RESOURCE_DOES_NOT_EXIST"):
        registry.get_model_version_by_alias(MODEL, "challenger")


def test_a_model_loads_by_run_too(registered: mlflow.ActiveRun) -> None:
    assert mlflow.pyfunc.load_model(f"runs:/{registered.info.run_id}/model").predict([3.0]) == [6.0]


@pytest.mark.usefixtures("registered")
def test_models_and_versions_are_found(client: WorkspaceClient) -> None:
    registry = mlflow.MlflowClient()

    assert MODEL in {model.name for model in registry.search_registered_models()}
    assert [version.version for version in registry.search_model_versions(f"name='{MODEL}'")] == ["1"]
    assert [version.version for version in client.model_versions.list(MODEL)] == [1]
    assert MODEL in {model.full_name for model in client.registered_models.list(catalog_name="main")}


def test_an_unknown_model_does_not_exist(client: WorkspaceClient) -> None:
    with pytest.raises(NotFound):
        client.registered_models.get("main.tidegate.nobody")
    with pytest.raises(MlflowException, match="RESOURCE_DOES_NOT_EXIST"):
        mlflow.MlflowClient().get_registered_model("main.tidegate.nobody")


@pytest.mark.usefixtures("workspace")
def test_a_model_name_has_three_levels() -> None:
    with pytest.raises(MlflowException):
        mlflow.MlflowClient().create_registered_model("flat")


@pytest.mark.usefixtures("workspace")
def test_experiment_names_are_absolute_and_in_existing_directories() -> None:
    with pytest.raises(MlflowException, match="must be an absolute path"):
        mlflow.set_experiment("relative")
    with pytest.raises(MlflowException, match="Parent directory /Shared/nowhere does not exist"):
        mlflow.set_experiment("/Shared/nowhere/experiment")


def test_an_experiment_is_a_node_of_the_workspace(registered: mlflow.ActiveRun, workspace: Workspace) -> None:
    node = workspace.api("GET", f"/api/2.0/workspace/get-status?path={EXPERIMENT}").json()

    assert (node["object_type"], node["resource_id"]) == ("MLFLOW_EXPERIMENT", registered.info.experiment_id)


def test_an_unknown_mlflow_path_is_endpoint_not_found(workspace: Workspace) -> None:
    answer = workspace.api("GET", "/api/4.0/mlflow/nothing/like/it")

    assert (answer.status_code, answer.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")


def test_traces_are_kept(registered: mlflow.ActiveRun) -> None:
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_span("stage"):
        pass
    mlflow.flush_trace_async_logging()

    eventually(lambda: len(mlflow.search_traces(locations=[registered.info.experiment_id])) > 0)


def test_the_runs_page_links_what_the_notebook_made(workspace: Workspace, client: WorkspaceClient) -> None:
    """The workspace learns from the token that it lent the notebook which experiment run is the run's own."""
    source = f"""# Databricks notebook source
import os
os.environ["DATABRICKS_HOST"], os.environ["DATABRICKS_TOKEN"] = request["host"], request["token"]
import mlflow
mlflow.set_tracking_uri("databricks")
run = mlflow.MlflowClient().create_run(mlflow.set_experiment("{EXPERIMENT}").experiment_id)
open("residuals.png", "wb").write(bytes.fromhex("{PNG.hex()}"))
mlflow.MlflowClient().log_artifact(run.info.run_id, "residuals.png", "plots")
dbutils.notebook.exit(run.info.run_id)
"""
    client.workspace.upload("/Shared/maker.py", source.encode(), format=ImportFormat.AUTO)
    task = {"task_key": "t", "notebook_task": {"notebook_path": "/Shared/maker"}}
    submitted = workspace.api("POST", "/api/2.2/jobs/runs/submit", {"run_name": "maker", "tasks": [task]}).json()
    run = eventually(lambda: ended_run(client, submitted["run_id"]), deadline_s=60)
    output = client.jobs.get_run_output(run.tasks[0].run_id).notebook_output
    assert output is not None
    made = str(output.result)

    page = workspace.api("GET", run.run_page_url.removeprefix(workspace.url)).text

    picture = f"/jobs/{run.job_id}/runs/{run.run_id}/pictures/{made}/plots/residuals.png"
    assert f"/runs/{made}" in page
    assert picture in page
    assert requests.get(f"{workspace.url}{picture}", timeout=5).content == PNG
    tags = mlflow.get_run(made).data.tags
    assert tags["mlflow.databricks.jobRunID"] == str(run.run_id)


def ended_run(client: WorkspaceClient, run_id: int) -> Any:
    run = client.jobs.get_run(run_id)
    return run if run.end_time else None


def test_without_its_mlflow_server_the_workspace_says_temporarily_unavailable(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "alone").start()
    try:
        answer = workspace.api("GET", "/api/2.0/mlflow/experiments/search")
    finally:
        workspace.stop()

    assert (answer.status_code, answer.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
