"""What every client of the local workspace meets first: discovery, credentials, refusals, forgiving parsing."""

import base64
import time
from collections.abc import Iterator

import pytest
import requests
from azure.identity import ManagedIdentityCredential
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import NotImplemented as OperationNotImplemented
from databricks.sdk.errors import PermissionDenied, TooManyRequests

from tests.support.workspace import IDENTITY_HEADER, TOKEN, Workspace

pytestmark = pytest.mark.integration

DATABRICKS = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    started = Workspace(tmp_path_factory.mktemp("workspace")).start()
    yield started
    assert started.stop() == 0


@pytest.fixture(autouse=True)
def _no_faults(workspace: Workspace) -> Iterator[None]:
    """What one test has scripted is gone for the next."""
    yield
    workspace.api("DELETE", "/_faults")


def test_the_sdk_knows_the_workspace_as_an_azure_one(workspace: Workspace) -> None:
    client = workspace.client()

    assert client.config.is_azure
    assert client.current_user.me().user_name == "tidegate@localhost"
    assert client.get_workspace_id() == int(client.config.workspace_id)


def test_a_wrong_token_is_refused_as_databricks_refuses_it(workspace: Workspace) -> None:
    answer = requests.get(
        f"{workspace.url}/api/2.0/preview/scim/v2/Me", headers={"Authorization": "Bearer wrong"}, timeout=5
    )

    assert answer.status_code == 403
    assert answer.json() == {"error_code": 403, "message": "Invalid access token."}
    assert answer.headers["X-Databricks-Reason-Phrase"] == "Invalid access token."
    with pytest.raises(PermissionDenied):
        workspace.client(token="wrong").current_user.me()


def test_a_missing_token_is_another_refusal(workspace: Workspace) -> None:
    answer = requests.get(f"{workspace.url}/api/2.2/jobs/list", timeout=5)

    assert answer.status_code == 401
    assert answer.json()["error_code"] == 401


def test_a_managed_identity_opens_the_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """azure-identity asks the same endpoint that App Service gives a Function."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{workspace.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", IDENTITY_HEADER)
    with ManagedIdentityCredential() as credential:
        token = credential.get_token(f"{DATABRICKS}/.default")

    assert token.expires_on > time.time()
    assert workspace.client(token=token.token).current_user.me().active


def test_the_identity_endpoint_wants_its_header(workspace: Workspace) -> None:
    answer = requests.get(f"{workspace.url}/msi/token", params={"resource": DATABRICKS}, timeout=5)

    assert answer.status_code == 401


def test_an_unknown_path_is_endpoint_not_found(workspace: Workspace) -> None:
    answer = workspace.api("GET", "/api/2.0/nobody/knows")

    assert answer.status_code == 404
    assert answer.json()["error_code"] == "ENDPOINT_NOT_FOUND"


def test_a_known_operation_that_is_missing_says_its_name(workspace: Workspace) -> None:
    with pytest.raises(OperationNotImplemented, match=r"pipelines\.list_pipelines"):
        list(workspace.client().pipelines.list_pipelines())


def test_a_body_is_json_whatever_its_type_and_even_on_a_get(workspace: Workspace) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "text/json"}
    url = f"{workspace.url}/api/2.0/workspace"

    made = requests.post(f"{url}/mkdirs", data='{"path": "/Shared/tolerant/"}', headers=headers, timeout=5)
    found = requests.get(f"{url}/get-status", data='{"path": "/Shared/tolerant"}', headers=headers, timeout=5)

    assert made.json() == {}
    assert found.json()["object_type"] == "DIRECTORY"


def test_a_body_that_is_no_json_is_a_malformed_request(workspace: Workspace) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}

    answer = requests.post(f"{workspace.url}/api/2.2/jobs/create", data="{", headers=headers, timeout=5)

    assert (answer.status_code, answer.json()["error_code"]) == (400, "MALFORMED_REQUEST")


def test_faults_can_be_listed_and_cleared(workspace: Workspace) -> None:
    workspace.fault(path="scim", times=3, action={"status": 503, "body": {"error_code": "X", "message": "scripted"}})
    first = workspace.api("GET", "/api/2.0/preview/scim/v2/Me")
    listed = workspace.api("GET", "/_faults").json()["rules"]

    workspace.api("DELETE", "/_faults")

    assert (first.status_code, first.json()["message"]) == (503, "scripted")
    assert [(rule["hits"], rule["remaining"]) for rule in listed] == [(1, 2)]
    assert workspace.api("GET", "/api/2.0/preview/scim/v2/Me").status_code == 200


def test_a_delay_delays(workspace: Workspace) -> None:
    workspace.fault(path="scim", action={"delay_s": 0.3})

    began = time.monotonic()
    workspace.api("GET", "/api/2.0/preview/scim/v2/Me")

    assert time.monotonic() - began >= 0.3


def test_a_call_that_is_throttled_for_too_long_times_out(workspace: Workspace) -> None:
    workspace.fault(path="scim", times=9, action={"status": 429, "retry_after": 1})
    client = WorkspaceClient(config=Config(host=workspace.url, token=TOKEN, retry_timeout_seconds=1))

    with pytest.raises(TimeoutError) as caught:
        client.current_user.me()

    assert isinstance(caught.value.__cause__, TooManyRequests)


def test_pages_need_no_token_and_faults_do(workspace: Workspace) -> None:
    assert requests.get(f"{workspace.url}/", timeout=5).status_code == 200
    assert requests.get(f"{workspace.url}/health", timeout=5).json() == {"status": "ok"}
    assert requests.get(f"{workspace.url}/_faults", timeout=5).status_code == 401


def test_a_content_that_is_no_base64_is_an_invalid_parameter(workspace: Workspace) -> None:
    body = {"path": "/Shared/x", "format": "SOURCE", "language": "PYTHON", "content": "a"}

    answer = workspace.api("POST", "/api/2.0/workspace/import", body)

    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    body["content"] = base64.b64encode(b"print(1)").decode()
    assert workspace.api("POST", "/api/2.0/workspace/import", body).json() == {}
