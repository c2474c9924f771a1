"""The workspace's smaller rules: paths, tokens, tolerance, faults, dynamic values, settings, known operations."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.databricks.workspace.clock import SystemClock
from local.databricks.workspace.config import ConfigError, load_config
from local.databricks.workspace.database import open_database
from local.databricks.workspace.jobs.parameters import RunFacts, notebook_parameters
from local.databricks.workspace.jobs.requests import canonical, merged
from local.databricks.workspace.jobs.runs import Overrides
from local.databricks.workspace.jobs.settings import JobSpec, TaskSpec, parse_job
from local.databricks.workspace.storage.model import FileStore
from local.databricks.workspace.transport.errors import (
    InvalidParameterError,
    MalformedRequestError,
    NotImplementedLocallyError,
    WorkspaceError,
)
from local.databricks.workspace.transport.faults import FaultPlan
from local.databricks.workspace.transport.params import Params
from local.databricks.workspace.transport.tokens import DATABRICKS_RESOURCE, TokenAuthority, Verdict
from local.databricks.workspace.transport.unimplemented import known_operation
from local.databricks.workspace.tree.model import Language, NodeKind, WorkspaceTree
from local.databricks.workspace.tree.paths import disk_path, normalized
from tests.support.sdk_operations import sdk_operations

NOTEBOOK = {"notebook_task": {"notebook_path": "/nb"}}


@given(path=st.text(alphabet="ab./\0", max_size=12))
def test_no_path_leads_out_of_the_workspace(path: str) -> None:
    """Whatever a client writes, it is refused or stays below the root."""
    root = Path("/the/workspace")

    try:
        found = disk_path(root, normalized(path))
    except InvalidParameterError:
        return

    assert found.is_relative_to(root)
    assert ".." not in found.parts


def test_the_prefix_workspace_is_the_root() -> None:
    assert normalized("/Workspace/Tidegate//local/") == normalized("/Tidegate/local")


@given(path=st.text(alphabet="ab./\0", max_size=12))
def test_no_file_path_leads_out_of_its_root(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    root = tmp_path_factory.mktemp("volumes")
    files = FileStore({"Volumes": root})

    try:
        found = files.locate(f"/Volumes/{path}")
    except WorkspaceError:
        return

    assert found.is_relative_to(root)


@pytest.fixture
def make_tree(tmp_path: Path) -> Iterator[Callable[[], WorkspaceTree]]:
    """Give a function that opens the tree, as a restarted workspace would."""
    with ExitStack() as opened:

        def open_tree() -> WorkspaceTree:
            database = opened.enter_context(closing(open_database(tmp_path / "workspace.db")))
            return WorkspaceTree(tmp_path / "workspace", database, SystemClock())

        yield open_tree


def test_a_notebook_without_header_gets_one_and_one_with_it_is_kept_as_it_is(
    make_tree: Callable[[], WorkspaceTree],
) -> None:
    tree = make_tree()
    tree.write_notebook("/Shared/bare", b"print(1)", Language.PYTHON, overwrite=False)
    tree.write_notebook(
        "/Shared/whole", b"# Databricks notebook source\r\nprint(1)\n", Language.PYTHON, overwrite=False
    )

    assert tree.read("/Shared/bare")[1] == b"# Databricks notebook source\nprint(1)"
    assert tree.read("/Shared/whole")[1] == b"# Databricks notebook source\r\nprint(1)\n"


def test_object_ids_survive_a_restart_and_differ(make_tree: Callable[[], WorkspaceTree]) -> None:
    tree = make_tree()
    tree.write_file("/Shared/a", b"", overwrite=False)
    tree.write_file("/Shared/b", b"", overwrite=False)
    ids = [tree.get(path).object_id for path in ("/Shared/a", "/Shared/b")]

    again = make_tree()

    assert [again.get(path).object_id for path in ("/Shared/a", "/Shared/b")] == ids
    assert len(set(ids)) == 2


def test_what_a_notebook_writes_beside_itself_is_a_file_of_the_tree(
    tmp_path: Path, make_tree: Callable[[], WorkspaceTree]
) -> None:
    tree = make_tree()
    (tmp_path / "workspace/Shared/out.csv").write_text("a,b\n")

    assert [(node.path, node.kind) for node in tree.list("/Shared")] == [("/Shared/out.csv", NodeKind.FILE)]


def test_tokens_of_the_managed_identity_survive_a_restart(tmp_path: Path) -> None:
    """azure-identity caches tokens for hours, the workspace may restart in between."""
    token, _ = TokenAuthority("pat", tmp_path / "key", SystemClock()).mint_identity_token(DATABRICKS_RESOURCE)

    restarted = TokenAuthority("pat", tmp_path / "key", SystemClock())

    assert restarted.judge(f"Bearer {token}") is Verdict.ACCEPTED
    assert restarted.judge(f"Bearer {token[:-2]}xx") is Verdict.INVALID


def test_a_token_for_another_resource_does_not_open_the_workspace(tmp_path: Path) -> None:
    tokens = TokenAuthority("pat", tmp_path / "key", SystemClock())

    token, _ = tokens.mint_identity_token("https://storage.azure.com")

    assert tokens.judge(f"Bearer {token}") is Verdict.INVALID


def test_a_lent_token_ends_with_its_run(tmp_path: Path) -> None:
    tokens = TokenAuthority("pat", tmp_path / "key", SystemClock())
    token = tokens.lend_to_task_run(7)
    assert tokens.judge(f"Bearer {token}") is Verdict.ACCEPTED

    tokens.take_back(token)

    assert tokens.judge(f"Bearer {token}") is Verdict.INVALID


@pytest.mark.parametrize(
    ("given_", "meant"), [(True, True), ("True", True), ("false", False), ("", False), (None, False)]
)
def test_booleans_come_in_many_spellings(given_: object, *, meant: bool) -> None:
    assert Params({"flag": given_}).boolean("flag") is meant


def test_ids_may_be_strings_and_an_empty_page_token_is_none() -> None:
    params = Params({"job_id": "1023", "page_token": ""})

    assert params.integer("job_id") == 1023
    assert params.optional_integer("page_token") is None


def test_a_wrong_scalar_is_a_malformed_request() -> None:
    with pytest.raises(MalformedRequestError, match="Expected object for field 'notebook_params', found STRING"):
        Params({"notebook_params": "x"}).mapping("notebook_params")


def test_a_fault_is_used_up_by_the_requests_it_matches() -> None:
    plan = FaultPlan()
    plan.add({"method": "post", "path": "run-now$", "times": 2, "action": {"status": 429}})

    hits = [plan.take("POST", "/api/2.2/jobs/run-now") is not None for _ in range(3)]

    assert plan.take("GET", "/api/2.2/jobs/run-now") is None
    assert hits == [True, True, False]


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"action": {}},
        {"action": {"explode": True}},
        {"paths": "x", "action": {"status": 500}},
        {"path": "(", "action": {"status": 500}},
        {"times": 0, "action": {"status": 500}},
        {"action": {"delay_s": "long"}},
    ],
)
def test_a_fault_that_means_nothing_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError):
        FaultPlan().add(rule)


def facts(**changes: Any) -> RunFacts:
    known = {
        "job_id": 1, "job_name": "nightly", "run_id": 2, "task_key": "t", "task_run_id": 3, "attempt_number": 0,
        "start_ms": 1_709_210_096_789, "workspace_id": "9", "workspace_url": "http://here",
    }  # fmt: skip
    return RunFacts(**{**known, **changes})


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ("{{job.id}}", "1"),
        ("{{ job.run_id }}", "2"),
        ("{{job.name}}-{{task.name}}", "nightly-t"),
        ("{{task.run_id}}", "3"),
        ("{{task.execution_count}}", "1"),
        ("{{job.start_time.iso_date}}", "2024-02-29"),
        ("{{job.start_time.timestamp_ms}}", "1709210096789"),
        ("{{job.start_time.is_weekday}}", "true"),
        ("{{job.parameters.region}}", "north"),
        ("{{job.parameters.`region`}}", "north"),
        ("{{tasks.first.result_state}}", "failed"),
        ("{{workspace.id}}", "9"),
        ("{{run_id}}", "3"),
        ("{{job.nmae}}", "{{job.nmae}}"),
        ("{{1 + 1}}", "{{1 + 1}}"),
    ],
)
def test_dynamic_values_are_filled_in_and_unknown_ones_left_alone(reference: str, value: str) -> None:
    task = TaskSpec(task_key="t", notebook_path="/n", base_parameters={"x": reference})
    job = JobSpec(name="nightly", tasks=(task,), parameters={"region": "north"})

    parameters = notebook_parameters(job, task, Overrides(), facts(results={"first": "FAILED"}))

    assert parameters["x"] == value


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tasks": [{"task_key": "a b", **NOTEBOOK}]}, "task key"),
        ({"tasks": [{"task_key": "a", **NOTEBOOK}, {"task_key": "a", **NOTEBOOK}]}, "unique"),
        ({"tasks": [{"task_key": "a", "depends_on": [{"task_key": "b"}], **NOTEBOOK}]}, "not defined"),
        ({"tasks": [{"task_key": "a", "depends_on": [{"task_key": "a"}], **NOTEBOOK}]}, "cycle"),
        ({"tasks": [{"task_key": "a", "notebook_task": {"notebook_path": "nb"}}]}, "begin with '/'"),
        ({"tasks": [{"task_key": "a", "job_cluster_key": "c", **NOTEBOOK}]}, "not defined"),
        ({"tasks": [{"task_key": "a", "run_if": "NEVER", **NOTEBOOK}]}, "run_if"),
        ({"max_concurrent_runs": 1001}, "max_concurrent_runs"),
        ({"timeout_seconds": -1}, "timeout_seconds"),
        ({"parameters": [{"name": "a"}, {"name": "a"}]}, "twice"),
    ],
)
def test_wrong_settings_are_refused_with_the_reason(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidParameterError, match=said):
        parse_job(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"tasks": [{"task_key": "a", "spark_python_task": {"python_file": "x.py"}}]},
        {"tasks": [{"task_key": "a", "libraries": [{"pypi": {"package": "x"}}], **NOTEBOOK}]},
        {"schedule": {"quartz_cron_expression": "0 0 * * * ?", "pause_status": "UNPAUSED"}},
        {"continuous": {"pause_status": "UNPAUSED"}},
        {"git_source": {"git_url": "https://example.org"}},
    ],
)
def test_settings_that_would_not_be_honoured_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedLocallyError):
        parse_job(settings)


def test_a_paused_schedule_is_kept_as_it_promises_nothing() -> None:
    assert parse_job({"schedule": {"quartz_cron_expression": "x", "pause_status": "PAUSED"}}).tasks == ()


def test_a_flat_submission_has_one_task_of_the_runs_name() -> None:
    settings, flat = canonical({"run_name": "my run", "existing_cluster_id": "c", **NOTEBOOK}, "my run")

    assert flat
    assert settings["tasks"] == [{"task_key": "my_run", "existing_cluster_id": "c", **NOTEBOOK}]


def test_an_update_merges_tasks_by_key_and_removes_what_is_named() -> None:
    old = {"name": "a", "timeout_seconds": 5, "tasks": [{"task_key": "x", "n": 1}, {"task_key": "y"}]}

    new = merged(old, {"tasks": [{"task_key": "x", "n": 2}]}, ["timeout_seconds", "tasks/y"])

    assert new == {"name": "a", "tasks": [{"task_key": "x", "n": 2}]}


def test_the_list_of_known_operations_is_that_of_the_sdk() -> None:
    listed = Path("local/databricks/workspace/transport/operations.txt").read_text(encoding="utf-8").splitlines()

    assert len(listed) > 1000
    assert listed == sdk_operations()


def test_known_operations_have_names_and_fall_backs_have_none() -> None:
    pipelines = known_operation("GET", "/api/2.0/pipelines")

    assert pipelines is not None
    assert pipelines.name == "pipelines.list_pipelines"
    assert known_operation("GET", "/api/2.0/fs/endpoints") is None
    assert known_operation("GET", "/api/2.0/nobody/knows") is None


def test_a_wrong_configuration_names_every_mistake(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"token": "", "mlflow_url": 5, "storage": {"account": "a", "key": "k", "blob_port": "x"}}')

    with pytest.raises(ConfigError) as caught:
        load_config(file)

    assert all(
        key in str(caught.value) for key in ("'token'", "'mlflow_url'", "'identity_header'", "'storage.blob_port'")
    )
