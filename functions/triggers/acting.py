"""Answers over HTTP those who act on runs: another attempt, an end before its time, a repair."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import azure.functions as func

from functions.core.access import Actor, Role
from functions.core.model import RunId
from functions.triggers.answers import accepted, admit, answer, run_id_in

if TYPE_CHECKING:
    from functions.services.acted import Acted
    from functions.services.plane import ControlPlane

__all__ = ["acting_functions"]


def acting_functions() -> func.Blueprint:
    """Return the functions that change something; each has a key of its own."""
    blueprint = func.Blueprint()  # type: ignore[no-untyped-call] # untyped in azure-functions

    @blueprint.function_name("retry_run")
    @blueprint.route(route="runs/{id}/retry", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    def retry_run(req: func.HttpRequest) -> func.HttpResponse:
        """Begin the next attempt of a run that did not complete."""
        from functions.services.retry import retry_run as retry

        return answer(lambda: _act_on_run(req, retry))

    @blueprint.function_name("cancel_run")
    @blueprint.route(route="runs/{id}/cancel", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    def cancel_run(req: func.HttpRequest) -> func.HttpResponse:
        """Have a run end as cancelled."""
        from functions.services.cancel import cancel_run as cancel

        return answer(lambda: _act_on_run(req, cancel))

    @blueprint.function_name("repair_run")
    @blueprint.route(route="runs/{id}/repair", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    def repair_run(req: func.HttpRequest) -> func.HttpResponse:
        """Have the failed tasks of a run's Databricks run done again."""
        from functions.services.repair import repair_run as repair

        return answer(lambda: _act_on_run(req, repair))

    return blueprint


def _act_on_run(req: func.HttpRequest, act: "Callable[[ControlPlane, RunId, Actor], Acted]") -> func.HttpResponse:
    plane, actor = admit(req, Role.OPERATOR)
    run_id = run_id_in(req)
    acted = act(plane, run_id, actor)
    return accepted(req, f"runs/{run_id}", {"id": run_id, **acted.to_json()})
