"""Answers over HTTP those who ask for a run, or whether the app is healthy."""

import re
from urllib.parse import parse_qsl, urlsplit

import azure.functions as func

from functions.core.access import Role
from functions.core.errors import InvalidRequestError, Problem
from functions.core.model import RunState
from functions.core.reasons import SkipReason
from functions.triggers.answers import accepted, admit, answer, as_json
from functions.wiring import configuration, control_plane, new_request_id

__all__ = ["http_functions"]

_DRY_RUN = "dry_run"
_BAD_REQUESTS = {SkipReason.ILLEGAL_PLAN, SkipReason.FILES_OF_FOREIGN_PLACE}


def http_functions() -> func.Blueprint:
    """Return the functions that start runs and tell the app's health."""
    blueprint = func.Blueprint()  # type: ignore[no-untyped-call] # untyped in azure-functions

    @blueprint.function_name("request_run")
    @blueprint.route(route="runs", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    def request_run(req: func.HttpRequest) -> func.HttpResponse:
        """Start the run that the body asks for, once per Idempotency-Key; `?dry_run=1` explains instead."""
        return answer(lambda: _request_run(req))

    @blueprint.function_name("health")
    @blueprint.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
    def health(req: func.HttpRequest) -> func.HttpResponse:
        """Say green, or red with the names of the problems."""
        del req
        return answer(lambda: _health(with_details=False))

    @blueprint.function_name("health_details")
    @blueprint.route(route="health/details", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def health_details(req: func.HttpRequest) -> func.HttpResponse:
        """Say green, or red with every problem in words."""
        return answer(lambda: _health_details(req))

    return blueprint


def _request_run(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.decided import Skip
    from functions.services.requests import explain_request
    from functions.services.requests import request_run as ask
    from functions.services.turnstile import is_kept_out

    key = req.headers.get("idempotency-key")
    if key is None:  # an empty one is refused like any other that is none: its caller relies on it
        key = new_request_id()
    if _is_dry_run(req):
        plane, _ = admit(req, Role.READER)
        return as_json(200, explain_request(plane, req.get_body(), idempotency_key=key))
    plane, actor = admit(req, Role.OPERATOR)
    traceparent = req.headers.get("traceparent")
    result = ask(plane, req.get_body(), idempotency_key=key, actor=actor, traceparent=traceparent)
    if isinstance(result, Skip):
        status = 400 if result.reason in _BAD_REQUESTS else 409
        return as_json(status, {"error": str(result), "reason": result.reason.value})
    refusal = is_kept_out(plane, result.pipeline) if result.state is RunState.DECIDED else None
    waits = {} if refusal is None else {"waits": refusal.reason.value}
    return accepted(req, f"runs/{result.id}", {"id": result.id, **waits})


def _is_dry_run(req: func.HttpRequest) -> bool:
    """Return what `dry_run` says; whoever mistypes it must not start the run that they only asked about."""
    query = parse_qsl(urlsplit(req.url).query, keep_blank_values=True)  # the host's mapping hides blanks and repeats
    alike = [name for name, _ in query if name != _DRY_RUN and re.sub("[^a-z]", "", name.lower()) == "dryrun"]
    if alike:
        raise InvalidRequestError([Problem(repr(alike[0][:80]), "a name like dry_run", "dry_run, or another name")])
    values = [value for name, value in query if name == _DRY_RUN]
    if not values and _DRY_RUN in req.params:
        values = [req.params[_DRY_RUN]]
    match [value.lower() for value in values]:
        case [] | ["0" | "false"]:
            return False
        case ["1" | "true"]:
            return True
        case _:
            got = ", ".join(repr(value[:80]) for value in values[:5])
            raise InvalidRequestError([Problem(_DRY_RUN, got, "1, true, 0 or false, once")])


def _health(*, with_details: bool) -> func.HttpResponse:
    from functions.services.health import health_of, red

    problems = configuration().problems  # as the app started: what was mended since is listened to after a restart
    health = red(problems) if problems else health_of(control_plane())
    return as_json(200 if health.is_green else 503, health.to_public_json(with_details=with_details))


def _health_details(req: func.HttpRequest) -> func.HttpResponse:
    if not configuration().problems:  # with mistakes nobody can be told who may look: the key alone decides
        admit(req, Role.READER)
    return _health(with_details=True)
