"""Serves the Secrets API 2.0."""

import base64
import binascii

from aiohttp import web

from local.databricks.workspace.secret_scopes.model import SecretStore
from local.databricks.workspace.transport.errors import InvalidParameterError, NotImplementedLocallyError
from local.databricks.workspace.transport.params import JsonObject, Params
from local.databricks.workspace.transport.responses import json_endpoint

__all__ = ["secret_routes"]


def secret_routes(secrets: SecretStore) -> list[web.RouteDef]:
    """Return the routes below `/api/2.0/secrets`, except access control lists."""
    return [*_scope_routes(secrets), *_value_routes(secrets)]


def _scope_routes(secrets: SecretStore) -> list[web.RouteDef]:
    def create(params: Params) -> JsonObject:
        if params.optional_text("scope_backend_type", "DATABRICKS") != "DATABRICKS":
            raise NotImplementedLocallyError("secrets/scopes/create with a Key Vault behind it")
        secrets.create_scope(params.text("scope"))
        return {}

    def listing(_: Params) -> JsonObject:
        names = secrets.scopes()
        return {"scopes": [{"name": name, "backend_type": "DATABRICKS"} for name in names]} if names else {}

    def delete(params: Params) -> JsonObject:
        secrets.delete_scope(params.text("scope"))
        return {}

    return [
        web.post("/api/2.0/secrets/scopes/create", json_endpoint(create)),
        web.get("/api/2.0/secrets/scopes/list", json_endpoint(listing)),
        web.post("/api/2.0/secrets/scopes/delete", json_endpoint(delete)),
    ]


def _value_routes(secrets: SecretStore) -> list[web.RouteDef]:
    def put(params: Params) -> JsonObject:
        secrets.put(params.text("scope"), params.text("key"), _value(params))
        return {}

    def listing(params: Params) -> JsonObject:
        facts = secrets.list(params.text("scope"))
        return {"secrets": [{"key": f.key, "last_updated_timestamp": f.updated_ms} for f in facts]} if facts else {}

    def get(params: Params) -> JsonObject:
        key = params.text("key")
        return {"key": key, "value": base64.b64encode(secrets.get(params.text("scope"), key)).decode()}

    def delete(params: Params) -> JsonObject:
        secrets.delete(params.text("scope"), params.text("key"))
        return {}

    return [
        web.post("/api/2.0/secrets/put", json_endpoint(put)),
        web.get("/api/2.0/secrets/list", json_endpoint(listing)),
        web.get("/api/2.0/secrets/get", json_endpoint(get)),
        web.post("/api/2.0/secrets/delete", json_endpoint(delete)),
    ]


def _value(params: Params) -> bytes:
    if "bytes_value" in params.values:
        try:
            return base64.b64decode(params.optional_text("bytes_value"))
        except binascii.Error as error:
            raise InvalidParameterError(f"bytes_value is not base64: {error}") from error
    if "string_value" not in params.values:
        raise InvalidParameterError("One of string_value and bytes_value must be given")
    return params.optional_text("string_value").encode()
