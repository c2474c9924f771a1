"""Lets only requests with an accepted token reach the APIs."""

from aiohttp import web
from aiohttp.typedefs import Middleware

from local.databricks.workspace.transport.responses import Handler, error_response
from local.databricks.workspace.transport.tokens import TokenAuthority, Verdict

__all__ = ["make_auth"]

_PROTECTED = ("/api/", "/dbfs/", "/_faults")
"""Everything else is for a person's browser, for readiness probes, or carries its own signature."""


def make_auth(tokens: TokenAuthority) -> Middleware:
    """Return the middleware that answers 401 without credentials and 403 with wrong ones."""

    @web.middleware
    async def auth(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith(_PROTECTED):
            return await handler(request)
        authorization = request.headers.get("Authorization")
        match tokens.judge(authorization):
            case Verdict.ACCEPTED:
                request["token"] = (authorization or "").partition(" ")[2]
                return await handler(request)
            case Verdict.MISSING:
                return error_response(401, "Credential was not sent or was of an unsupported type for this API.", 401)
            case Verdict.INVALID:
                refusal = error_response(403, "Invalid access token.", 403)
                refusal.headers["X-Databricks-Reason-Phrase"] = "Invalid access token."
                return refusal

    return auth
