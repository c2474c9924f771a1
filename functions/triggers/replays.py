"""Answers over HTTP those who look at what was given up, or replay it."""

import azure.functions as func

from functions.core.access import Role
from functions.triggers.answers import Query, admit, answer, as_json

__all__ = ["replay_functions"]


def replay_functions() -> func.Blueprint:
    """Return the functions of replays; reading and acting are different ones."""
    blueprint = func.Blueprint()  # type: ignore[no-untyped-call] # untyped in azure-functions

    @blueprint.function_name("replay")
    @blueprint.route(route="replays", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    def replay(req: func.HttpRequest) -> func.HttpResponse:
        """Replay an arrival, a run or a dead letter, once per Idempotency-Key."""
        return answer(lambda: _replay(req))

    @blueprint.function_name("list_dead_letters")
    @blueprint.route(route="dead-letters", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def list_dead_letters(req: func.HttpRequest) -> func.HttpResponse:
        """List what was given up: `?prefix=`, `?limit=`."""
        return answer(lambda: _list_dead_letters(req))

    return blueprint


def _replay(req: func.HttpRequest) -> func.HttpResponse:
    from functions.services.replay import replay

    plane, actor = admit(req, Role.OPERATOR)
    key = req.headers.get("idempotency-key") or None
    replayed, acted = replay(plane, req.get_body(), idempotency_key=key, actor=actor)
    return as_json(200, {"id": replayed.id, "target": replayed.target, **acted.to_json()})


def _list_dead_letters(req: func.HttpRequest) -> func.HttpResponse:
    from functions.services.dead_letters import list_dead_letters

    plane, _ = admit(req, Role.READER)
    query = Query(req)
    prefix, limit = query.text("prefix", at_most=1024), query.limit()
    query.check()
    return as_json(200, {"dead_letters": list_dead_letters(plane, prefix=prefix or "", limit=limit)})
