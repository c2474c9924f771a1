"""Serves the registry that MLflow clients know as `databricks-uc`."""

from aiohttp import web

from local.databricks.workspace.tracking.lineage import Lineage, MadeVersion
from local.databricks.workspace.tracking.locations import model_root
from local.databricks.workspace.tracking.registry import ModelCatalog
from local.databricks.workspace.transport.errors import NotImplementedLocallyError
from local.databricks.workspace.transport.params import JsonObject, Params
from local.databricks.workspace.transport.responses import Handler, json_endpoint

__all__ = ["registry_routes"]

_API = "/api/2.0/mlflow/unity-catalog"
_VERSION_FIELDS = ("name", "source", "run_id", "description", "tags", "model_id")


def registry_routes(catalog: ModelCatalog, lineage: Lineage) -> list[web.RouteDef]:
    """Return the routes below `/api/2.0/mlflow/unity-catalog`."""
    api = _RegistryApi(catalog, lineage)
    models, versions = f"{_API}/registered-models", f"{_API}/model-versions"
    return [
        web.get(f"{models}:is-databricks-sdk-models-artifact-repository-enabled", json_endpoint(_uses_files_api)),
        web.post(f"{models}/create", json_endpoint(api.create)),
        web.patch(f"{models}/update", json_endpoint(api.update)),
        web.delete(f"{models}/delete", json_endpoint(api.delete)),
        web.get(f"{models}/get", json_endpoint(api.get)),
        web.get(f"{models}/search", json_endpoint(api.search)),
        web.post(f"{models}/alias", json_endpoint(api.set_alias)),
        web.delete(f"{models}/alias", json_endpoint(api.delete_alias)),
        web.get(f"{models}/alias", json_endpoint(api.version_by_alias)),
        web.post(f"{models}/set-tag", api.tag("registered-models/set-tag")),
        web.delete(f"{models}/delete-tag", api.tag("registered-models/delete-tag")),
        web.post(f"{versions}/create", json_endpoint(api.create_version)),
        web.post(f"{versions}/finalize", json_endpoint(api.finalize)),
        web.patch(f"{versions}/update", json_endpoint(api.update_version)),
        web.delete(f"{versions}/delete", json_endpoint(api.delete_version)),
        web.get(f"{versions}/get", json_endpoint(api.get_version)),
        web.get(f"{versions}/search", json_endpoint(api.search_versions)),
        web.get(f"{versions}/get-download-uri", json_endpoint(api.download_uri)),
        web.post(f"{versions}/set-tag", api.tag("model-versions/set-tag")),
        web.delete(f"{versions}/delete-tag", api.tag("model-versions/delete-tag")),
        web.post(f"{versions}/generate-temporary-credentials", json_endpoint(_refuse_credentials)),
        web.post(f"{versions}/emit-lineage", json_endpoint(lambda _: {})),
    ]


def _uses_files_api(_: Params) -> JsonObject:
    return {"is_databricks_sdk_models_artifact_repository_enabled": True}


def _refuse_credentials(_: Params) -> JsonObject:
    raise NotImplementedLocallyError("model-versions/generate-temporary-credentials: files go through the Files API")


class _RegistryApi:
    def __init__(self, catalog: ModelCatalog, lineage: Lineage) -> None:
        self._catalog = catalog
        self._lineage = lineage

    async def create(self, params: Params) -> JsonObject:
        model = await self._catalog.create(
            params.text("name"), params.optional_text("description"), params.items("tags")
        )
        return {"registered_model": _model(model)}

    async def update(self, params: Params) -> JsonObject:
        model = await self._catalog.update(
            params.text("name"), params.optional_text("description"), params.optional_text("new_name")
        )
        return {"registered_model": _model(model)}

    async def delete(self, params: Params) -> JsonObject:
        await self._catalog.delete(params.text("name"))
        return {}

    async def get(self, params: Params) -> JsonObject:
        return {"registered_model": _model(await self._catalog.get(params.text("name")))}

    async def search(self, params: Params) -> JsonObject:
        page = await self._catalog.search(params.optional_integer("max_results"), params.optional_text("page_token"))
        return {**page, "registered_models": [_model(model) for model in page.get("registered_models", [])]}

    async def set_alias(self, params: Params) -> JsonObject:
        await self._catalog.set_alias(params.text("name"), params.text("alias"), params.text("version"))
        return {}

    async def delete_alias(self, params: Params) -> JsonObject:
        await self._catalog.delete_alias(params.text("name"), params.text("alias"))
        return {}

    async def version_by_alias(self, params: Params) -> JsonObject:
        return {
            "model_version": _version(await self._catalog.version_by_alias(params.text("name"), params.text("alias")))
        }

    async def create_version(self, params: Params) -> JsonObject:
        fields = {key: params.values[key] for key in _VERSION_FIELDS if params.values.get(key)}
        version = await self._catalog.create_version(fields)
        made = MadeVersion(name=version["name"], version=version["version"])
        self._lineage.record_version(params.caller, made)
        return {"model_version": _version(version)}

    async def finalize(self, params: Params) -> JsonObject:
        return {"model_version": _version(await self._catalog.finalize(params.text("name"), params.text("version")))}

    async def update_version(self, params: Params) -> JsonObject:
        version = await self._catalog.update_version(
            params.text("name"), params.text("version"), params.optional_text("description")
        )
        return {"model_version": _version(version)}

    async def delete_version(self, params: Params) -> JsonObject:
        await self._catalog.delete_version(params.text("name"), params.text("version"))
        return {}

    async def get_version(self, params: Params) -> JsonObject:
        return {"model_version": _version(await self._catalog.get_version(params.text("name"), params.text("version")))}

    async def search_versions(self, params: Params) -> JsonObject:
        page = await self._catalog.search_versions(
            params.optional_text("filter"), params.optional_integer("max_results"), params.optional_text("page_token")
        )
        return {**page, "model_versions": [_version(version) for version in page["model_versions"]]}

    async def download_uri(self, params: Params) -> JsonObject:
        version = await self._catalog.get_version(params.text("name"), params.text("version"))
        return {"artifact_uri": _storage_location(version)}

    def tag(self, operation: str) -> Handler:
        async def change(params: Params) -> JsonObject:
            await self._catalog.tag(operation, params.values)
            return {}

        return json_endpoint(change)


def _model(model: JsonObject) -> JsonObject:
    return {key: value for key, value in model.items() if key != "latest_versions"}


def _version(version: JsonObject) -> JsonObject:
    """Return a version as Unity Catalog has it: aliases are objects, and there are no stages."""
    number = version["version"]
    aliases = [{"alias": alias, "version": number} for alias in version.get("aliases", [])]
    kept = {key: value for key, value in version.items() if key not in {"current_stage", "aliases", "run_link"}}
    source = str(version.get("source", ""))
    if source.startswith("models:/m-"):
        kept["model_id"] = source.removeprefix("models:/")
    return {**kept, "storage_location": _storage_location(version), **({"aliases": aliases} if aliases else {})}


def _storage_location(version: JsonObject) -> str:
    return f"dbfs:{model_root(version['name'], version['version'])}"
