"""Answers over HTTP: runs that are asked for, what became of them, and whether the app is healthy."""

import json
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, urlsplit

import azure.functions as func

from functions.core.errors import (
    IllegalTransitionError,
    InvalidRequestError,
    InvalidSettingsError,
    MlopsError,
    Problem,
    TransientError,
    UnknownPipelineError,
    UnknownRunError,
)
from functions.core.model import PipelineKey, RunId
from functions.core.reading import parse_utc
from functions.core.reasons import SkipReason
from functions.core.tokens import pipeline_of_run
from functions.wiring import control_plane, load_configuration, new_request_id

__all__ = ["http_functions"]

_BAD_REQUESTS = {SkipReason.ILLEGAL_PLAN, SkipReason.FILES_OF_FOREIGN_PLACE}
_MOST_LISTED = 1000


def http_functions() -> func.Blueprint:
    """Return the functions behind /api."""
    blueprint = func.Blueprint()  # type: ignore[no-untyped-call] # untyped in azure-functions

    @blueprint.function_name("request_run")
    @blueprint.route(route="runs", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    def request_run(req: func.HttpRequest) -> func.HttpResponse:
        """Start the run that the body asks for, once per Idempotency-Key; `?dry_run=1` explains instead."""
        return _answer(lambda: _request_run(req))

    @blueprint.function_name("list_runs")
    @blueprint.route(route="runs", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def list_runs(req: func.HttpRequest) -> func.HttpResponse:
        """List runs, newest first: `?pipeline=`, `?since=`, `?limit=`."""
        return _answer(lambda: _list_runs(req))

    @blueprint.function_name("show_run")
    @blueprint.route(route="runs/{id}", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def show_run(req: func.HttpRequest) -> func.HttpResponse:
        """Show one run."""
        return _answer(lambda: _show_run(req))

    @blueprint.function_name("retry_run")
    @blueprint.route(route="runs/{id}/retry", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    def retry_run(req: func.HttpRequest) -> func.HttpResponse:
        """Begin the next attempt of a run that did not complete."""
        return _answer(lambda: _retry_run(req))

    @blueprint.function_name("health")
    @blueprint.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
    def health(req: func.HttpRequest) -> func.HttpResponse:
        """Say green, or red with the names of the problems."""
        del req
        return _answer(lambda: _health(with_details=False))

    @blueprint.function_name("health_details")
    @blueprint.route(route="health/details", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    def health_details(req: func.HttpRequest) -> func.HttpResponse:
        """Say green, or red with every problem in words."""
        del req
        return _answer(lambda: _health(with_details=True))

    return blueprint


def _request_run(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.decided import Skip
    from functions.services.requests import explain_request
    from functions.services.requests import request_run as ask

    key = req.headers.get("idempotency-key") or new_request_id()
    if _is_dry_run(req):
        return _json(200, explain_request(control_plane(), req.get_body(), idempotency_key=key))
    traceparent = req.headers.get("traceparent")
    result = ask(control_plane(), req.get_body(), idempotency_key=key, traceparent=traceparent)
    if isinstance(result, Skip):
        status = 400 if result.reason in _BAD_REQUESTS else 409
        return _json(status, {"error": str(result), "reason": result.reason.value})
    return _accepted(req, result.id)


def _is_dry_run(req: func.HttpRequest) -> bool:
    """Return what `dry_run` says; whoever mistypes it must not start the run that they only asked about."""
    query = parse_qsl(urlsplit(req.url).query, keep_blank_values=True)  # the host's mapping hides blanks and repeats
    values = [value for name, value in query if name == "dry_run"]
    if not values and "dry_run" in req.params:
        values = [req.params["dry_run"]]
    match [value.lower() for value in values]:
        case [] | ["0" | "false"]:
            return False
        case ["1" | "true"]:
            return True
        case _:
            got = ", ".join(repr(value[:80]) for value in values[:5])
            raise InvalidRequestError([Problem("dry_run", got, "1, true, 0 or false, once")])


def _accepted(req: func.HttpRequest, run_id: RunId) -> func.HttpResponse:
    url = urlsplit(req.url)
    prefix = url.path.split("/runs", 1)[0]
    status_url = f"{url.scheme}://{url.netloc}{prefix}/runs/{run_id}"
    return _json(202, {"id": run_id, "status_url": status_url}, headers={"Location": status_url})


def _list_runs(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.ledger_rows import run_to_public_json
    from functions.services.requests import list_runs as find

    problems: list[Problem] = []
    since_text, limit_text = req.params.get("since", ""), req.params.get("limit", "100")
    since = parse_utc(since_text) if since_text else None
    if since_text and since is None:
        problems.append(Problem("since", repr(since_text[:80]), "an ISO 8601 time with its zone"))
    limit = int(limit_text) if limit_text.isascii() and limit_text.isdigit() and len(limit_text) < 5 else 0  # noqa: PLR2004
    if not 1 <= limit <= _MOST_LISTED:
        problems.append(Problem("limit", repr(limit_text[:80]), f"a whole number from 1 to {_MOST_LISTED}"))
    if problems:
        raise InvalidRequestError(problems)
    name = req.params.get("pipeline")
    pipeline = PipelineKey(name) if name else None
    runs = find(control_plane(), pipeline=pipeline, since=since, limit=limit)
    return _json(200, {"runs": [run_to_public_json(run) for run in runs]})


def _show_run(req: func.HttpRequest) -> func.HttpResponse:
    from functions.core.ledger_rows import run_to_public_json
    from functions.services.requests import show_run as show

    return _json(200, run_to_public_json(show(control_plane(), _run_id(req))))


def _retry_run(req: func.HttpRequest) -> func.HttpResponse:
    from functions.services.requests import retry_run as retry

    return _accepted(req, retry(control_plane(), _run_id(req)).id)


def _run_id(req: func.HttpRequest) -> RunId:
    run_id = RunId(req.route_params.get("id", ""))
    try:
        pipeline_of_run(run_id)
    except ValueError:
        raise UnknownRunError(RunId(run_id[:120])) from None
    return run_id


def _health(*, with_details: bool) -> func.HttpResponse:
    from functions.services.health import health_of, red

    configuration = load_configuration()
    health = red(configuration.problems) if configuration.problems else health_of(control_plane())
    return _json(200 if health.is_green else 503, health.to_public_json(with_details=with_details))


_STATUSES: tuple[tuple[type[MlopsError], int], ...] = (
    (InvalidRequestError, 400),
    (UnknownRunError, 404),
    (UnknownPipelineError, 404),
    (IllegalTransitionError, 409),
    (InvalidSettingsError, 503),
    (TransientError, 503),
    (MlopsError, 502),
)


def _answer(make: Callable[[], func.HttpResponse]) -> func.HttpResponse:
    """Return what `make` returns, or the answer to its error; an unknown error is the host's to answer with 500."""
    try:
        return make()
    except MlopsError as error:
        status = next(status for kind, status in _STATUSES if isinstance(error, kind))
        document: dict[str, object] = {"error": str(error)}
        if isinstance(error, InvalidRequestError):
            document["errors"] = [
                {"field": item.place, "got": item.got, "expected": item.expected} for item in error.problems
            ]
        after_s = error.retry_after_s or 5 if isinstance(error, TransientError) else None
        return _json(status, document, headers=None if after_s is None else {"Retry-After": str(round(after_s))})


def _json(status: int, document: object, *, headers: Mapping[str, str] | None = None) -> func.HttpResponse:
    return func.HttpResponse(
        json.dumps(document, ensure_ascii=False),
        status_code=status,
        mimetype="application/json",
        charset="utf-8",
        headers=dict(headers or {}),
    )
