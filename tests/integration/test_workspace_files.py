"""Workspace objects, volumes, DBFS, secrets and clusters of the local workspace, through databricks-sdk."""

import base64
import io
from collections.abc import Iterator

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import (
    BadRequest,
    InvalidParameterValue,
    NotFound,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
)
from databricks.sdk.service.workspace import ExportFormat, ImportFormat, Language, ObjectType

from tests.support.workspace import TOKEN, Workspace

pytestmark = pytest.mark.integration

SOURCE = b"# Databricks notebook source\nprint(1)\n"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    started = Workspace(tmp_path_factory.mktemp("workspace")).start()
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def client(workspace: Workspace) -> WorkspaceClient:
    return workspace.client()


def test_an_automatic_import_takes_the_extension_off_a_notebook_only(client: WorkspaceClient) -> None:
    client.workspace.mkdirs("/Tidegate/local/auto")
    client.workspace.upload("/Tidegate/local/auto/scoring.py", SOURCE, format=ImportFormat.AUTO)
    client.workspace.upload("/Tidegate/local/auto/module.py", b"X = 1\n", format=ImportFormat.AUTO)

    listed = {item.path: item.object_type for item in client.workspace.list("/Tidegate/local/auto")}

    assert listed == {
        "/Tidegate/local/auto/scoring": ObjectType.NOTEBOOK,
        "/Tidegate/local/auto/module.py": ObjectType.FILE,
    }


def test_import_and_export_give_the_same_source_back(client: WorkspaceClient) -> None:
    client.workspace.mkdirs("/Shared/round")
    encoded = base64.b64encode(SOURCE).decode()
    client.workspace.import_("/Shared/round/nb", content=encoded, format=ImportFormat.SOURCE, language=Language.PYTHON)

    exported = client.workspace.export("/Workspace/Shared/round/nb", format=ExportFormat.SOURCE)
    downloaded = client.workspace.download("/Shared/round/nb").read()

    assert exported.content is not None
    assert base64.b64decode(exported.content) == SOURCE
    assert exported.file_type == "py"
    assert downloaded == SOURCE


def test_a_second_import_needs_overwrite(client: WorkspaceClient) -> None:
    client.workspace.upload("/Shared/twice.py", SOURCE, format=ImportFormat.AUTO)

    with pytest.raises(ResourceAlreadyExists):
        client.workspace.upload("/Shared/twice.py", SOURCE, format=ImportFormat.AUTO)
    client.workspace.upload("/Shared/twice.py", SOURCE + b"# 2\n", format=ImportFormat.AUTO, overwrite=True)

    assert client.workspace.download("/Shared/twice").read().endswith(b"# 2\n")


def test_a_wheel_is_a_workspace_file(client: WorkspaceClient) -> None:
    content = bytes(range(256)) * 400
    client.workspace.mkdirs("/Tidegate/local/wheels")
    client.workspace.upload("/Tidegate/local/wheels/a.whl", io.BytesIO(content), format=ImportFormat.AUTO)

    status = client.workspace.get_status("/Tidegate/local/wheels/a.whl")

    assert (status.object_type, status.size) == (ObjectType.FILE, len(content))
    assert client.workspace.download("/Tidegate/local/wheels/a.whl", format=ExportFormat.AUTO).read() == content


def test_a_missing_parent_or_path_does_not_exist(client: WorkspaceClient) -> None:
    with pytest.raises(NotFound):
        client.workspace.upload("/Nowhere/a.txt", b"x", format=ImportFormat.AUTO)
    with pytest.raises(ResourceDoesNotExist, match=r"Path \(/Nowhere\) doesn't exist"):
        client.workspace.get_status("/Nowhere")


def test_a_directory_with_entries_is_deleted_recursively_only(client: WorkspaceClient) -> None:
    client.workspace.mkdirs("/Shared/full/deep")

    with pytest.raises(BadRequest, match="not empty"):
        client.workspace.delete("/Shared/full")
    client.workspace.delete("/Shared/full", recursive=True)

    assert all(item.path != "/Shared/full" for item in client.workspace.list("/Shared"))


def test_paths_that_step_upwards_are_refused(workspace: Workspace, client: WorkspaceClient) -> None:
    with pytest.raises(InvalidParameterValue):
        client.workspace.mkdirs("/Shared/../../out")
    assert workspace.api("GET", "/api/2.0/fs/files/Volumes/..%2F..%2Fworkspace.db").status_code in {400, 404}


def test_volumes_keep_files_and_directories(client: WorkspaceClient) -> None:
    client.files.create_directory("/Volumes/main/default/raw/day=1")
    client.files.upload("/Volumes/main/default/raw/day=1/a b.csv", io.BytesIO(b"x,y\n"))

    entries = list(client.files.list_directory_contents("/Volumes/main/default/raw/day=1"))
    metadata = client.files.get_metadata("/Volumes/main/default/raw/day=1/a b.csv")
    download = client.files.download("/Volumes/main/default/raw/day=1/a b.csv")

    assert [(entry.name, entry.file_size) for entry in entries] == [("a b.csv", 4)]
    assert metadata.content_length == 4
    assert download.contents is not None
    assert download.contents.read() == b"x,y\n"
    with pytest.raises(ResourceAlreadyExists):
        client.files.upload("/Volumes/main/default/raw/day=1/a b.csv", io.BytesIO(b""), overwrite=False)
    client.files.delete("/Volumes/main/default/raw/day=1/a b.csv")
    client.files.delete_directory("/Volumes/main/default/raw/day=1")
    with pytest.raises(NotFound):
        client.files.get_metadata("/Volumes/main/default/raw/day=1/a b.csv")


def test_a_large_file_arrives_in_parts(workspace: Workspace) -> None:
    """From 50 MiB on the SDK uploads in parts and has no other way; a low limit tries the same with less."""
    config = Config(host=workspace.url, token=TOKEN)
    config.files_ext_multipart_upload_min_stream_size = 1024
    config.files_ext_multipart_upload_default_part_size = 1 << 20
    client = WorkspaceClient(config=config)
    content = bytes(range(256)) * (3 * 4096 + 5)

    client.files.upload("/Volumes/main/default/raw/large.bin", io.BytesIO(content), overwrite=True)

    download = client.files.download("/Volumes/main/default/raw/large.bin")
    assert download.contents is not None
    assert download.contents.read() == content


def test_other_roots_are_no_place_for_files(client: WorkspaceClient) -> None:
    with pytest.raises(InvalidParameterValue, match="paths start with one of"):
        client.files.upload("/etc/passwd", io.BytesIO(b"x"))


def test_dbfs_reads_what_was_written(client: WorkspaceClient) -> None:
    content = b"0123456789" * 200_000
    with client.dbfs.open("dbfs:/blocks/two.bin", write=True, overwrite=True) as file:
        file.write(content)

    with client.dbfs.open("dbfs:/blocks/two.bin", read=True) as file:
        read = file.read()

    assert read == content
    assert client.dbfs.get_status("/blocks/two.bin").file_size == len(content)
    assert [entry.path for entry in client.dbfs.list("/blocks")] == ["/blocks/two.bin"]
    client.dbfs.delete("/blocks/two.bin")
    with pytest.raises(NotFound):
        client.dbfs.get_status("/blocks/two.bin")


def test_dbfs_put_takes_a_block_and_no_more(workspace: Workspace, client: WorkspaceClient) -> None:
    client.dbfs.put("/tmp/small", contents=base64.b64encode(b"small").decode(), overwrite=True)

    too_large = {"path": "/tmp/large", "contents": base64.b64encode(b"x" * (1 << 21)).decode()}

    assert base64.b64decode(client.dbfs.read("/tmp/small").data or "") == b"small"
    assert workspace.api("POST", "/api/2.0/dbfs/put", too_large).json()["error_code"] == "MAX_BLOCK_SIZE_EXCEEDED"


def test_secrets_are_kept_by_scope_and_key(client: WorkspaceClient) -> None:
    client.secrets.create_scope("tidegate")
    client.secrets.put_secret("tidegate", "eventgrid-topic-key", string_value="s3cret")

    assert [scope.name for scope in client.secrets.list_scopes()] == ["tidegate"]
    assert [secret.key for secret in client.secrets.list_secrets("tidegate")] == ["eventgrid-topic-key"]
    value = client.secrets.get_secret("tidegate", "eventgrid-topic-key").value
    assert base64.b64decode(value or "") == b"s3cret"
    with pytest.raises(ResourceAlreadyExists):
        client.secrets.create_scope("tidegate")
    client.secrets.delete_secret("tidegate", "eventgrid-topic-key")
    with pytest.raises(ResourceDoesNotExist):
        client.secrets.get_secret("tidegate", "eventgrid-topic-key")
    client.secrets.delete_scope("tidegate")
    with pytest.raises(ResourceDoesNotExist):
        client.secrets.list_secrets("tidegate").__iter__().__next__()


def test_clusters_are_kept_in_the_books(client: WorkspaceClient) -> None:
    version = client.clusters.select_spark_version(ml=True, long_term_support=True, scala="2.13")
    created = client.clusters.create(
        cluster_name="Shared", spark_version=version, node_type_id="Standard_D4ds_v5", num_workers=1
    ).result()

    assert created.cluster_id is not None
    assert [cluster.cluster_id for cluster in client.clusters.list()] == [created.cluster_id]
    assert client.clusters.select_node_type(local_disk=True).startswith("Standard_")
    with pytest.raises(ResourceDoesNotExist):
        client.clusters.get("unknown")
