"""Answers over HTTP those who look at pipelines, pause and resume them, and allow more runs for a day."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import azure.functions as func

from functions.core.access import Actor, Role
from functions.core.model import PipelineKey
from functions.triggers.answers import admit, answer, as_json

if TYPE_CHECKING:
    from functions.services.acted import Acted
    from functions.services.plane import ControlPlane

__all__ = ["pipeline_functions"]

_SHOWN_CHARACTERS = 80


def pipeline_functions() -> func.Blueprint:
    """Return the functions below /api/pipelines; each has a key of its own."""
    blueprint = func.Blueprint()  # type: ignore[no-untyped-call] # untyped in azure-functions

    @blueprint.function_name("list_pipelines")
    @blueprint.route(route="pipelines", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def list_pipelines(req: func.HttpRequest) -> func.HttpResponse:
        """List the pipelines, all together first: what is in flight, what began today, what waits and why."""
        return answer(lambda: _list_pipelines(req))

    @blueprint.function_name("pause_pipeline")
    @blueprint.route(route="pipelines/{key}/pause", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    def pause_pipeline(req: func.HttpRequest) -> func.HttpResponse:
        """Have nothing of a pipeline, or of `all`, start any more."""
        return answer(lambda: _pause(req))

    @blueprint.function_name("resume_pipeline")
    @blueprint.route(route="pipelines/{key}/resume", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    def resume_pipeline(req: func.HttpRequest) -> func.HttpResponse:
        """Have what a pipeline, or `all`, holds start in its order."""
        return answer(lambda: _resume(req))

    @blueprint.function_name("allow_runs")
    @blueprint.route(route="pipelines/{key}/allow", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    def allow_runs(req: func.HttpRequest) -> func.HttpResponse:
        """Let a pipeline, or `all` together, begin another number of runs today."""
        return answer(lambda: _allow(req))

    return blueprint


def _list_pipelines(req: func.HttpRequest) -> func.HttpResponse:
    from functions.services.pausing import list_pipelines

    plane, _ = admit(req, Role.READER)
    return as_json(200, {"pipelines": [status.to_json() for status in list_pipelines(plane)]})


def _pause(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.turnstile_requests import parse_pause_request
    from functions.services.pausing import pause_pipeline

    plane, actor = admit(req, Role.OPERATOR)
    wanted = parse_pause_request(req.get_body())
    return _act(
        req, plane, lambda key: pause_pipeline(plane, key, _named(plane, actor, wanted.by), reason=wanted.reason)
    )


def _resume(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.turnstile_requests import parse_pause_request
    from functions.services.pausing import resume_pipeline

    plane, actor = admit(req, Role.OPERATOR)
    wanted = parse_pause_request(req.get_body())
    return _act(
        req, plane, lambda key: resume_pipeline(plane, key, _named(plane, actor, wanted.by), reason=wanted.reason)
    )


def _allow(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.turnstile_requests import parse_allowance_request
    from functions.services.pausing import allow_runs

    plane, actor = admit(req, Role.OPERATOR)
    wanted = parse_allowance_request(req.get_body())
    return _act(req, plane, lambda key: allow_runs(plane, key, wanted.runs_today, _named(plane, actor, wanted.by)))


def _named(plane: "ControlPlane", actor: Actor, said: str) -> Actor:
    """Return who acts: whom App Service signed in, or else whom a holder of the key says that they are."""
    return actor if plane.are_roles_required or not said else actor.saying(said)


def _act(req: func.HttpRequest, plane: "ControlPlane", act: "Callable[[PipelineKey], Acted]") -> func.HttpResponse:
    from functions.services.pausing import show_pipeline

    key = PipelineKey(req.route_params.get("key", "")[:_SHOWN_CHARACTERS])
    acted = act(key)
    return as_json(200, {**acted.to_json(), "status": show_pipeline(plane, key).to_json()})
