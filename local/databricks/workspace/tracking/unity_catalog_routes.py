"""Serves registered models through Unity Catalog's own API, as databricks-sdk asks for them."""

from aiohttp import web

from local.databricks.workspace.identity.routes import USER_NAME
from local.databricks.workspace.tracking.locations import model_root
from local.databricks.workspace.tracking.registry import ModelCatalog
from local.databricks.workspace.transport.params import JsonObject, Params
from local.databricks.workspace.transport.responses import ORGANIZATION_ID, json_endpoint

__all__ = ["unity_catalog_routes"]

_METASTORE_ID = "00000000-0000-0000-0000-00000000ca7a"


def unity_catalog_routes(catalog: ModelCatalog) -> list[web.RouteDef]:
    """Return the routes below `/api/2.1/unity-catalog/models`."""
    api = _ModelsApi(catalog)
    models = "/api/2.1/unity-catalog/models"
    one = f"{models}/{{full_name}}"
    return [
        web.get(models, json_endpoint(api.list)),
        web.post(models, json_endpoint(api.create)),
        web.get(one, json_endpoint(api.get)),
        web.delete(one, json_endpoint(api.delete)),
        web.put(f"{one}/aliases/{{alias}}", json_endpoint(api.set_alias)),
        web.delete(f"{one}/aliases/{{alias}}", json_endpoint(api.delete_alias)),
        web.get(f"{one}/aliases/{{alias}}", json_endpoint(api.version_by_alias)),
        web.get(f"{one}/versions", json_endpoint(api.list_versions)),
        web.get(f"{one}/versions/{{version}}", json_endpoint(api.get_version)),
        web.delete(f"{one}/versions/{{version}}", json_endpoint(api.delete_version)),
    ]


class _ModelsApi:
    def __init__(self, catalog: ModelCatalog) -> None:
        self._catalog = catalog

    async def list(self, params: Params) -> JsonObject:
        page = await self._catalog.search(params.optional_integer("max_results"), params.optional_text("page_token"))
        prefix = ".".join(
            part for part in (params.optional_text("catalog_name"), params.optional_text("schema_name")) if part
        )
        models = [model for model in page.get("registered_models", []) if model["name"].startswith(prefix)]
        answer: JsonObject = {"registered_models": [_model(model) for model in models]} if models else {}
        return answer | ({"next_page_token": page["next_page_token"]} if page.get("next_page_token") else {})

    async def create(self, params: Params) -> JsonObject:
        name = f"{params.text('catalog_name')}.{params.text('schema_name')}.{params.text('name')}"
        return _model(await self._catalog.create(name, params.optional_text("comment"), []))

    async def get(self, params: Params) -> JsonObject:
        return _model(await self._catalog.get(params.text("full_name")))

    async def delete(self, params: Params) -> JsonObject:
        await self._catalog.delete(params.text("full_name"))
        return {}

    async def set_alias(self, params: Params) -> JsonObject:
        name, alias, number = params.text("full_name"), params.text("alias"), params.integer("version_num")
        await self._catalog.set_alias(name, alias, str(number))
        return _alias(name, alias, str(number))

    async def delete_alias(self, params: Params) -> JsonObject:
        await self._catalog.delete_alias(params.text("full_name"), params.text("alias"))
        return {}

    async def version_by_alias(self, params: Params) -> JsonObject:
        return _version(await self._catalog.version_by_alias(params.text("full_name"), params.text("alias")))

    async def list_versions(self, params: Params) -> JsonObject:
        name = params.text("full_name")
        await self._catalog.get(name)
        page = await self._catalog.search_versions(
            f"name = '{name}'", params.optional_integer("max_results"), params.optional_text("page_token")
        )
        answer: JsonObject = {"model_versions": [_version(version) for version in page["model_versions"]]}
        return answer | ({"next_page_token": page["next_page_token"]} if page.get("next_page_token") else {})

    async def get_version(self, params: Params) -> JsonObject:
        return _version(await self._catalog.get_version(params.text("full_name"), params.text("version")))

    async def delete_version(self, params: Params) -> JsonObject:
        await self._catalog.delete_version(params.text("full_name"), params.text("version"))
        return {}


def _model(model: JsonObject) -> JsonObject:
    name = str(model["name"])
    catalog, schema, short = name.split(".") if name.count(".") == 2 else ("", "", name)  # noqa: PLR2004 - three levels
    return {
        "full_name": name,
        "name": short,
        "catalog_name": catalog,
        "schema_name": schema,
        "owner": USER_NAME,
        "comment": model.get("description", ""),
        "metastore_id": _METASTORE_ID,
        "storage_location": f"dbfs:{model_root(name, '').rstrip('/')}",
        "created_at": model.get("creation_timestamp"),
        "updated_at": model.get("last_updated_timestamp"),
        "created_by": USER_NAME,
        "aliases": [_alias(name, item["alias"], item["version"]) for item in model.get("aliases", [])],
    }


def _version(version: JsonObject) -> JsonObject:
    name, number = str(version["name"]), str(version["version"])
    catalog, schema, short = name.split(".") if name.count(".") == 2 else ("", "", name)  # noqa: PLR2004 - three levels
    return {
        "model_name": short,
        "catalog_name": catalog,
        "schema_name": schema,
        "version": int(number),
        "status": version["status"],
        "source": version.get("source"),
        "run_id": version.get("run_id"),
        "run_workspace_id": int(ORGANIZATION_ID),
        "comment": version.get("description", ""),
        "metastore_id": _METASTORE_ID,
        "storage_location": f"dbfs:{model_root(name, number)}",
        "created_at": version.get("creation_timestamp"),
        "updated_at": version.get("last_updated_timestamp"),
        "created_by": USER_NAME,
        "id": f"{name}/{number}",
        "aliases": [_alias(name, alias, number) for alias in version.get("aliases", [])],
    }


def _alias(full_name: str, alias: str, version: str) -> JsonObject:
    parts = [*full_name.split("."), "", ""]
    return {
        "alias_name": alias,
        "version_num": int(version),
        "catalog_name": parts[0],
        "schema_name": parts[1],
        "model_name": parts[2],
    }
