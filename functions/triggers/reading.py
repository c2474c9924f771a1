"""Answers over HTTP those who look: runs and what became of them."""

import azure.functions as func

from functions.core.access import Role
from functions.core.model import PipelineKey
from functions.triggers.answers import Query, admit, answer, as_json, run_id_in

__all__ = ["reading_functions"]


def reading_functions() -> func.Blueprint:
    """Return the functions that change nothing; each has a key of its own, so a reader's key opens nothing else."""
    blueprint = func.Blueprint()  # type: ignore[no-untyped-call] # untyped in azure-functions

    @blueprint.function_name("list_runs")
    @blueprint.route(route="runs", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def list_runs(req: func.HttpRequest) -> func.HttpResponse:
        """List runs, newest first: `?pipeline=`, `?since=`, `?limit=`."""
        return answer(lambda: _list_runs(req))

    @blueprint.function_name("show_run")
    @blueprint.route(route="runs/{id}", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def show_run(req: func.HttpRequest) -> func.HttpResponse:
        """Show one run."""
        return answer(lambda: _show_run(req))

    return blueprint


def _list_runs(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.ledger_rows import run_to_public_json
    from functions.services.requests import list_runs

    plane, _ = admit(req, Role.READER)
    query = Query(req)
    since, limit, name = query.instant("since"), query.limit(), query.text("pipeline")
    query.check()
    runs = list_runs(plane, pipeline=PipelineKey(name) if name else None, since=since, limit=limit)
    return as_json(200, {"runs": [run_to_public_json(run) for run in runs]})


def _show_run(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.ledger_rows import run_to_public_json
    from functions.services.requests import show_run

    plane, _ = admit(req, Role.READER)
    return as_json(200, run_to_public_json(show_run(plane, run_id_in(req))))
