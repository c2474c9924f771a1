"""Serves MLflow's artifact operations from the files on disk, with signed URLs in place of cloud credentials."""

import posixpath
from collections.abc import Awaitable, Callable

from aiohttp import web

from local.databricks.workspace.storage.errors import FileMissingError
from local.databricks.workspace.storage.model import FileStore
from local.databricks.workspace.storage.signed_routes import UrlSigner
from local.databricks.workspace.tracking.locations import ArtifactLocations
from local.databricks.workspace.tracking.upstream import MlflowServer
from local.databricks.workspace.transport.params import JsonObject, Params
from local.databricks.workspace.transport.responses import json_endpoint

__all__ = ["artifact_routes"]

_API = "/api/2.0/mlflow"

type _Operation = Callable[[Params], Awaitable[JsonObject]]


def artifact_routes(
    upstream: MlflowServer, locations: ArtifactLocations, files: FileStore, signer: UrlSigner
) -> list[web.RouteDef]:
    """Return the routes that list artifacts and sign URLs for them."""
    artifacts = _Artifacts(locations, files, signer)
    registry = _RegistryArtifacts(upstream, locations, files, signer)
    model = f"{_API}/logged-models/{{model_id}}/artifacts"
    trace = f"{_API}/traces/{{trace_id}}"
    return [
        web.get(f"{_API}/artifacts/list", json_endpoint(artifacts.list_of_run)),
        web.get(f"{model}/directories", json_endpoint(artifacts.list_of_model)),
        web.post(f"{_API}/artifacts/credentials-for-read", json_endpoint(artifacts.credentials_of_run("GET"))),
        web.post(f"{_API}/artifacts/credentials-for-write", json_endpoint(artifacts.credentials_of_run("PUT"))),
        web.post(f"{model}/credentials-for-download", json_endpoint(artifacts.credentials_of_model("GET"))),
        web.post(f"{model}/credentials-for-upload", json_endpoint(artifacts.credentials_of_model("PUT"))),
        web.get(f"{trace}/credentials-for-data-download", json_endpoint(artifacts.credentials_of_trace("GET"))),
        web.get(f"{trace}/credentials-for-data-upload", json_endpoint(artifacts.credentials_of_trace("PUT"))),
        web.get(f"{_API}/model-versions/list-artifacts", json_endpoint(registry.list_of_version)),
        web.get(f"{_API}/model-versions/get-signed-download-uri", json_endpoint(registry.download_of_version)),
        web.get(f"{_API}/databricks/registered-models/get", json_endpoint(registry.get_model)),
    ]


class _Artifacts:
    """What belongs to runs, logged models and traces."""

    def __init__(self, locations: ArtifactLocations, files: FileStore, signer: UrlSigner) -> None:
        self._locations = locations
        self._files = files
        self._signer = signer

    async def list_of_run(self, params: Params) -> JsonObject:
        root = await self._locations.of_run(params.text("run_id"))
        return _listing(self._files, root, params.optional_text("path"))

    async def list_of_model(self, params: Params) -> JsonObject:
        root = await self._locations.of_logged_model(params.text("model_id"))
        return _listing(self._files, root, params.optional_text("artifact_directory_path"))

    def credentials_of_run(self, verb: str) -> _Operation:
        async def credentials(params: Params) -> JsonObject:
            run_id = params.text("run_id")
            root = await self._locations.of_run(run_id)
            paths = [str(path) for path in params.items("path")]
            return {"credential_infos": [{"run_id": run_id, **self._credential(verb, root, path)} for path in paths]}

        return credentials

    def credentials_of_model(self, verb: str) -> _Operation:
        async def credentials(params: Params) -> JsonObject:
            model_id = params.text("model_id")
            root = await self._locations.of_logged_model(model_id)
            return {
                "credentials": [
                    {"model_id": model_id, "credential_info": self._credential(verb, root, str(path))}
                    for path in params.items("paths")
                ]
            }

        return credentials

    def credentials_of_trace(self, verb: str) -> _Operation:
        async def credentials(params: Params) -> JsonObject:
            folder, name = posixpath.split(self._locations.of_trace(params.text("trace_id")))
            return {"credential_info": self._credential(verb, folder, name)}

        return credentials

    def _credential(self, verb: str, root: str, path: str) -> JsonObject:
        url = self._signer.sign(verb, f"{root}/{path}")
        return {"path": path, "signed_uri": url, "type": "AWS_PRESIGNED_URL", "headers": []}


class _RegistryArtifacts:
    """What belongs to versions in the workspace's own registry (registry URI `databricks`)."""

    def __init__(
        self, upstream: MlflowServer, locations: ArtifactLocations, files: FileStore, signer: UrlSigner
    ) -> None:
        self._upstream = upstream
        self._locations = locations
        self._files = files
        self._signer = signer

    async def list_of_version(self, params: Params) -> JsonObject:
        return _listing(self._files, await self._root(params), params.optional_text("path"))

    async def download_of_version(self, params: Params) -> JsonObject:
        path = f"{await self._root(params)}/{params.optional_text('path')}"
        return {"signed_uri": self._signer.sign("GET", path), "headers": []}

    async def get_model(self, params: Params) -> JsonObject:
        answer = await self._upstream.call("GET", "registered-models/get", {"name": params.text("name")})
        return {"registered_model_databricks": answer["registered_model"]}

    async def _root(self, params: Params) -> str:
        version = {"name": params.text("name"), "version": params.text("version")}
        answer = await self._upstream.call("GET", "model-versions/get", version)
        return await self._locations.of_source(str(answer["model_version"]["source"]))


def _listing(files: FileStore, root: str, path: str) -> JsonObject:
    answer: JsonObject = {"root_uri": f"dbfs:{root}"}
    try:
        entries = files.list(posixpath.join(root, path) if path else root)
    except FileMissingError:
        return answer
    found = [
        {
            "path": posixpath.relpath(entry.path, root),
            "is_dir": entry.is_directory,
            **({} if entry.is_directory else {"file_size": entry.size_bytes}),
        }
        for entry in entries
    ]
    return answer | ({"files": found} if found else {})
