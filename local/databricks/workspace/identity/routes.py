"""Serves discovery, the App Service managed-identity endpoint, SCIM and readiness."""

from collections.abc import Callable

from aiohttp import web

from local.databricks.workspace.transport.params import JsonObject, Params
from local.databricks.workspace.transport.responses import ORGANIZATION_ID, error_response, json_endpoint
from local.databricks.workspace.transport.tokens import TokenAuthority

__all__ = ["USER_NAME", "identity_routes"]

USER_NAME = "tidegate@localhost"


def identity_routes(
    tokens: TokenAuthority, identity_header: str, host: str, is_ready: Callable[[], bool]
) -> list[web.RouteDef]:
    """Return the routes of `/health`, `/.well-known/databricks-config`, `/msi/token` and SCIM's `Me`."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok" if is_ready() else "starting"}, status=200 if is_ready() else 503)

    async def discovery(_: web.Request) -> web.Response:
        return web.json_response({"oidc_endpoint": f"{host}/oidc", "workspace_id": ORGANIZATION_ID, "cloud": "AZURE"})

    async def managed_identity(request: web.Request) -> web.Response:
        return _answer_identity(request, tokens, identity_header)

    return [
        web.get("/health", health),
        web.get("/.well-known/databricks-config", discovery),
        web.get("/msi/token", managed_identity),
        web.get("/api/2.0/preview/scim/v2/Me", json_endpoint(_me)),
    ]


def _answer_identity(request: web.Request, tokens: TokenAuthority, identity_header: str) -> web.Response:
    """Answer as App Service does (API version 2019-08-01)."""
    if request.headers.get("X-IDENTITY-HEADER") != identity_header:
        return error_response("401", "The X-IDENTITY-HEADER header is missing or wrong", 401)
    resource = request.query.get("resource", "")
    if not resource:
        return error_response("400", "The resource query parameter is missing", 400)
    token, expires_on = tokens.mint_identity_token(resource)
    return web.json_response(
        {
            "access_token": token,
            "expires_on": str(expires_on),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": request.query.get("client_id", "00000000-0000-0000-0000-00000000cafe"),
        }
    )


def _me(_: Params) -> JsonObject:
    return {
        "id": "1001",
        "userName": USER_NAME,
        "displayName": "Tidegate",
        "active": True,
        "emails": [{"value": USER_NAME, "type": "work", "primary": True}],
        "groups": [{"display": "users"}, {"display": "admins"}],
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
    }
