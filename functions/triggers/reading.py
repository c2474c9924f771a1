"""Answers over HTTP those who look: runs, arrivals, signals, and what became of them."""

import azure.functions as func

from functions.core.access import Role
from functions.core.errors import InvalidRequestError, NotFoundError, Problem
from functions.core.ledger import Run
from functions.core.listing import RUN_STATES, ArrivalFilter, RunFilter, parse_blob_place
from functions.core.model import ArrivalId, ArrivalState, PipelineKey
from functions.triggers.answers import Query, admit, answer, as_json, as_list, run_id_in

__all__ = ["reading_functions"]

_ID_CHARACTERS = 64
_BLOB_EXPECTED = "https://<account>.blob.core.windows.net/<container>/<path>, percent-encoded, without a query"


def reading_functions() -> func.Blueprint:
    """Return the functions that change nothing; each has a key of its own, so a reader's key opens nothing else."""
    blueprint = func.Blueprint()  # type: ignore[no-untyped-call] # untyped in azure-functions

    @blueprint.function_name("list_runs")
    @blueprint.route(route="runs", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def list_runs(req: func.HttpRequest) -> func.HttpResponse:
        """List runs, newest first: `?pipeline=`, `?since=`, `?state=`, `?blob=`, `?model=`, `?limit=`."""
        return answer(lambda: _list_runs(req))

    @blueprint.function_name("show_run")
    @blueprint.route(route="runs/{id}", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def show_run(req: func.HttpRequest) -> func.HttpResponse:
        """Show one run."""
        return answer(lambda: _show_run(req))

    @blueprint.function_name("list_arrivals")
    @blueprint.route(route="arrivals", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def list_arrivals(req: func.HttpRequest) -> func.HttpResponse:
        """List arrivals, the latest recorded first; docs/http-api.md has the filters."""
        return answer(lambda: _list_arrivals(req))

    @blueprint.function_name("show_arrival")
    @blueprint.route(route="arrivals/{id}", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def show_arrival(req: func.HttpRequest) -> func.HttpResponse:
        """Show one arrival, and what would be decided about it now; `?at=` finds one of more than a month ago."""
        return answer(lambda: _show_arrival(req))

    @blueprint.function_name("list_signals")
    @blueprint.route(route="signals", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def list_signals(req: func.HttpRequest) -> func.HttpResponse:
        """List signals about models, the newest first, and what became of each: `?limit=`."""
        return answer(lambda: _list_signals(req))

    @blueprint.function_name("show_lineage")
    @blueprint.route(route="lineage", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def show_lineage(req: func.HttpRequest) -> func.HttpResponse:
        """Show what a blob was scored by, or what it was made from: `?blob=`."""
        return answer(lambda: _show_lineage(req))

    return blueprint


def _list_runs(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.ledger_rows import run_to_public_json
    from functions.services.listing import list_runs, list_runs_of_blob
    from functions.services.waiting import Waiting

    plane, _ = admit(req, Role.READER)
    query = Query(req)
    since, limit, name = query.instant("since"), query.limit(), query.text("pipeline")
    wanted = RunFilter(state=query.one_of("state", RUN_STATES), model=query.model())
    place = _place(query)
    query.check()
    pipeline = PipelineKey(name) if name else None
    if place is not None:
        found = list_runs_of_blob(plane.ledger, place, wanted, pipeline=pipeline, since=since, limit=limit + 1)
    else:
        now = plane.clock.now()
        found = list_runs(
            plane.ledger, plane.pipelines, wanted, pipeline=pipeline, since=since, limit=limit + 1, now=now
        )
    waiting = Waiting(plane)

    def shown(run: Run) -> dict[str, object]:
        return run_to_public_json(run, waits=waiting.of_run(run), setback=waiting.setback_of(run))

    return as_list("runs", found, shown, limit=limit)


def _show_run(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.ledger_rows import run_to_public_json
    from functions.services.requests import show_run
    from functions.services.waiting import Waiting

    plane, _ = admit(req, Role.READER)
    run = show_run(plane, run_id_in(req))
    waiting = Waiting(plane)
    return as_json(200, run_to_public_json(run, waits=waiting.of_run(run), setback=waiting.setback_of(run)))


def _list_arrivals(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.ledger_rows import arrival_to_public_json
    from functions.services.listing import list_arrivals, list_arrivals_of_blob
    from functions.services.waiting import Waiting

    plane, _ = admit(req, Role.READER)
    query = Query(req)
    since, limit, name = query.instant("since"), query.limit(), query.text("pipeline")
    state, outputs = query.one_of("state", tuple(ArrivalState)), query.one_of("outputs", ("0", "1"))
    place = _place(query)
    query.check()
    wanted = ArrivalFilter(
        pipeline=PipelineKey(name) if name else None,
        state=None if state is None else ArrivalState(state),
        since=since,
    )
    if place is not None:
        found = list_arrivals_of_blob(plane.ledger, place, wanted, limit=limit + 1)
    else:
        found = list_arrivals(
            plane.ledger,
            plane.pipelines,
            wanted,
            are_outputs_wanted=outputs == "1",
            limit=limit + 1,
            now=plane.clock.now(),
        )
    waiting = Waiting(plane)
    return as_list(
        "arrivals", found, lambda one: arrival_to_public_json(one, waits=waiting.of_arrival(one)), limit=limit
    )


def _show_arrival(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.ledger_rows import arrival_to_public_json, run_to_summary_json
    from functions.services.listing import explain_arrival, find_arrival
    from functions.services.waiting import Waiting

    plane, _ = admit(req, Role.READER)
    arrival_id = req.route_params.get("id", "")
    if len(arrival_id) != _ID_CHARACTERS:
        raise NotFoundError(f"looking for arrival {arrival_id[:64]!r}", "an arrival's id has 64 characters")
    query = Query(req)
    at = query.instant("at")
    query.check()
    found = find_arrival(plane.ledger, plane.pipelines, ArrivalId(arrival_id), at=at, now=plane.clock.now())
    arrival = found.value
    run = None if arrival.run_id is None else plane.ledger.get_run(arrival.run_id)
    waiting = Waiting(plane)
    document: dict[str, object] = arrival_to_public_json(arrival, waits=waiting.of_arrival(arrival))
    document["run"] = None if run is None else run_to_summary_json(run.value, setback=waiting.setback_of(run.value))
    document |= explain_arrival(arrival, plane.pipelines, environment=plane.environment, account=plane.account)
    return as_json(200, document)


def _list_signals(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.signal_records import signal_to_public_json

    plane, _ = admit(req, Role.READER)
    query = Query(req)
    limit = query.limit()
    query.check()
    return as_list("signals", plane.signals.recent(limit=limit + 1), signal_to_public_json, limit=limit)


def _show_lineage(req: func.HttpRequest) -> func.HttpResponse:
    from functions.services.lineage import show_lineage

    plane, _ = admit(req, Role.READER)
    query = Query(req)
    place = _place(query)
    query.check()
    if place is None:
        raise InvalidRequestError([Problem("blob", "nothing", _BLOB_EXPECTED)])
    return as_json(200, {"url": req.params["blob"], **show_lineage(plane, place)})


def _place(query: Query) -> tuple[str, str, str] | None:
    url = query.text("blob", is_repeated=False)
    place = None if url is None else parse_blob_place(url)
    if url is not None and place is None:
        query.problems.append(Problem("blob", "another text", _BLOB_EXPECTED))  # it may carry a signature
    return place
