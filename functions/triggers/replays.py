"""Answers over HTTP those who replay or dismiss what was given up, or backfill what was there before."""

import azure.functions as func

from functions.core.access import Role
from functions.triggers.answers import Query, accepted, admit, answer, as_json, as_list

__all__ = ["replay_functions"]


def replay_functions() -> func.Blueprint:
    """Return the functions of replays and backfills; reading and acting are different ones."""
    blueprint = func.Blueprint()  # type: ignore[no-untyped-call] # untyped in azure-functions

    @blueprint.function_name("replay")
    @blueprint.route(route="replays", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    def replay(req: func.HttpRequest) -> func.HttpResponse:
        """Replay an arrival, a run or a dead letter, once per Idempotency-Key."""
        return answer(lambda: _replay(req))

    @blueprint.function_name("dismiss")
    @blueprint.route(route="dismissals", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    def dismiss(req: func.HttpRequest) -> func.HttpResponse:
        """Say of a dead letter that it needs nobody any more, and why; the first one stays."""
        return answer(lambda: _dismiss(req))

    @blueprint.function_name("list_dead_letters")
    @blueprint.route(route="dead-letters", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def list_dead_letters(req: func.HttpRequest) -> func.HttpResponse:
        """List what was given up and neither replayed nor dismissed: `?prefix=`, `?limit=`; `?all=1`: also what was."""
        return answer(lambda: _list_dead_letters(req))

    @blueprint.function_name("request_backfill")
    @blueprint.route(route="backfills", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    def request_backfill(req: func.HttpRequest) -> func.HttpResponse:
        """Begin, go on with, confirm or stop the backfill that the body describes."""
        return answer(lambda: _request_backfill(req))

    @blueprint.function_name("list_backfills")
    @blueprint.route(route="backfills", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def list_backfills(req: func.HttpRequest) -> func.HttpResponse:
        """List backfills, the latest first: `?limit=`."""
        return answer(lambda: _list_backfills(req))

    @blueprint.function_name("show_backfill")
    @blueprint.route(route="backfills/{id}", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def show_backfill(req: func.HttpRequest) -> func.HttpResponse:
        """Show how far a backfill is."""
        return answer(lambda: _show_backfill(req))

    return blueprint


def _replay(req: func.HttpRequest) -> func.HttpResponse:
    from functions.services.replay import replay

    plane, actor = admit(req, Role.OPERATOR)
    key = req.headers.get("idempotency-key")
    replayed, acted = replay(plane, req.get_body(), idempotency_key=key, actor=actor)
    return as_json(200, {"id": replayed.id, "target": replayed.target, **acted.to_json()})


def _dismiss(req: func.HttpRequest) -> func.HttpResponse:
    from functions.services.dismiss import dismiss

    plane, actor = admit(req, Role.OPERATOR)
    name, acted = dismiss(plane, req.get_body(), actor)
    return as_json(200, {"dead_letter": name, **acted.to_json()})


def _list_dead_letters(req: func.HttpRequest) -> func.HttpResponse:
    from functions.services.dead_letters import list_dead_letters

    plane, _ = admit(req, Role.READER)
    query = Query(req)
    prefix, limit, every = query.text("prefix", at_most=1024), query.limit(), query.one_of("all", ("0", "1"))
    query.check()
    found = list_dead_letters(plane, prefix=prefix or "", are_all_wanted=every == "1", limit=limit + 1)
    return as_list("dead_letters", found, lambda letter: letter, limit=limit)


def _request_backfill(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.backfill_rows import backfill_to_public_json
    from functions.services.backfill import request_backfill

    plane, actor = admit(req, Role.OPERATOR)
    backfill, acted = request_backfill(plane, req.get_body(), actor)
    document = {**backfill_to_public_json(backfill), **acted.to_json()}
    return accepted(req, f"backfills/{backfill.id}", document)


def _list_backfills(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.backfill_rows import backfill_to_public_json
    from functions.services.backfill import list_backfills

    plane, _ = admit(req, Role.READER)
    query = Query(req)
    limit = query.limit()
    query.check()
    return as_list("backfills", list_backfills(plane, limit=limit + 1), backfill_to_public_json, limit=limit)


def _show_backfill(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.backfill_rows import backfill_to_public_json
    from functions.services.backfill import show_backfill

    plane, _ = admit(req, Role.READER)
    return as_json(200, backfill_to_public_json(show_backfill(plane, req.route_params.get("id", ""))))
