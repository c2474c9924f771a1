"""Keeps Unity Catalog's models in the MLflow server's registry."""

import re
import shutil
import sqlite3

from local.databricks.workspace.storage.model import FileStore
from local.databricks.workspace.tracking.locations import model_root
from local.databricks.workspace.tracking.upstream import MlflowServer, UpstreamRefusalError
from local.databricks.workspace.transport.errors import DoesNotExistError, InvalidParameterError
from local.databricks.workspace.transport.params import JsonObject

__all__ = ["ModelCatalog"]

_NAME = re.compile(r"[^./\s]+\.[^./\s]+\.[^./\s]+")


class ModelCatalog:
    """Registered models with names of three levels; catalogs and schemas exist as soon as they are named."""

    def __init__(self, upstream: MlflowServer, database: sqlite3.Connection, files: FileStore) -> None:
        self._upstream = upstream
        self._database = database
        self._files = files

    async def create(self, name: str, description: str, tags: list[JsonObject]) -> JsonObject:
        """Return a new registered model."""
        _check(name)
        body = {"name": name, "description": description or None, "tags": tags}
        return dict((await self._upstream.call("POST", "registered-models/create", body))["registered_model"])

    async def get(self, name: str) -> JsonObject:
        """Return a registered model."""
        return dict((await self._upstream.call("GET", "registered-models/get", {"name": name}))["registered_model"])

    async def search(self, max_results: int | None, page_token: str) -> JsonObject:
        """Return one page of registered models."""
        query = {"max_results": max_results, "page_token": page_token or None}
        return await self._upstream.call("GET", "registered-models/search", query)

    async def update(self, name: str, description: str, new_name: str) -> JsonObject:
        """Return the model with another description or another name."""
        if new_name:
            _check(new_name)
            answer = await self._upstream.call("POST", "registered-models/rename", {"name": name, "new_name": new_name})
        else:
            body = {"name": name, "description": description}
            answer = await self._upstream.call("PATCH", "registered-models/update", body)
        return dict(answer["registered_model"])

    async def delete(self, name: str) -> None:
        """Remove a model, its versions and their files."""
        await self._upstream.call("DELETE", "registered-models/delete", {"name": name})
        self._database.execute("DELETE FROM pending_model_versions WHERE name = ?", (name,))
        shutil.rmtree(self._files.locate(model_root(name, "")), ignore_errors=True)

    async def create_version(self, fields: JsonObject) -> JsonObject:
        """Return a new version, pending until `finalize`."""
        answer = await self._upstream.call("POST", "model-versions/create", fields)
        version = dict(answer["model_version"])
        self._database.execute(
            "INSERT OR REPLACE INTO pending_model_versions VALUES (?, ?)", (version["name"], version["version"])
        )
        return self._with_status(version)

    async def finalize(self, name: str, version: str) -> JsonObject:
        """Return the version, now ready: its files are uploaded."""
        self._database.execute("DELETE FROM pending_model_versions WHERE name = ? AND version = ?", (name, version))
        return await self.get_version(name, version)

    async def get_version(self, name: str, version: str) -> JsonObject:
        """Return a version."""
        answer = await self._upstream.call("GET", "model-versions/get", {"name": name, "version": version})
        return self._with_status(dict(answer["model_version"]))

    async def update_version(self, name: str, version: str, description: str) -> JsonObject:
        """Return the version with another description."""
        body = {"name": name, "version": version, "description": description}
        answer = await self._upstream.call("PATCH", "model-versions/update", body)
        return self._with_status(dict(answer["model_version"]))

    async def search_versions(self, filter_: str, max_results: int | None, page_token: str) -> JsonObject:
        """Return one page of versions, newest first."""
        query = {"filter": filter_ or None, "max_results": max_results, "page_token": page_token or None}
        answer = await self._upstream.call("GET", "model-versions/search", query)
        return {**answer, "model_versions": [self._with_status(item) for item in answer.get("model_versions", [])]}

    async def delete_version(self, name: str, version: str) -> None:
        """Remove a version and its files."""
        await self._upstream.call("DELETE", "model-versions/delete", {"name": name, "version": version})
        self._database.execute("DELETE FROM pending_model_versions WHERE name = ? AND version = ?", (name, version))
        shutil.rmtree(self._files.locate(model_root(name, version)), ignore_errors=True)

    async def version_by_alias(self, name: str, alias: str) -> JsonObject:
        """Return the version that an alias points to."""
        try:
            answer = await self._upstream.call("GET", "registered-models/alias", {"name": name, "alias": alias})
        except UpstreamRefusalError as error:
            raise DoesNotExistError(f"Alias '{alias}' of model '{name}' does not exist.") from error
        return self._with_status(dict(answer["model_version"]))

    async def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias to a version."""
        body = {"name": name, "alias": alias, "version": version}
        await self._upstream.call("POST", "registered-models/alias", body)

    async def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias."""
        await self._upstream.call("DELETE", "registered-models/alias", {"name": name, "alias": alias})

    async def tag(self, operation: str, fields: JsonObject) -> None:
        """Set or delete a tag of a model or version; the fields are the same on both sides."""
        await self._upstream.call("DELETE" if "delete" in operation else "POST", operation, fields)

    def _with_status(self, version: JsonObject) -> JsonObject:
        row = self._database.execute(
            "SELECT 1 FROM pending_model_versions WHERE name = ? AND version = ?",
            (version["name"], version["version"]),
        ).fetchone()
        return {**version, "status": "READY" if row is None else "PENDING_REGISTRATION"}


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidParameterError(
            f"Registered model name '{name}' is not a valid name in Unity Catalog. Please specify all three levels of "
            "the model in the form `catalog_name.schema_name.model_name`"
        )
