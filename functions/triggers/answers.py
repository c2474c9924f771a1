"""Turns what a service returns, or the error that it raises, into an answer over HTTP, for callers who may ask."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import azure.functions as func

from functions.core.access import PRINCIPAL_HEADER, Actor, Role, actor_of
from functions.core.errors import (
    DeadLetterRefusedError,
    IllegalTransitionError,
    InvalidRequestError,
    InvalidSettingsError,
    MlopsError,
    NotFoundError,
    NotSignedInError,
    Problem,
    RoleMissingError,
    TransientError,
    UnknownPipelineError,
    UnknownRunError,
)
from functions.core.model import MODEL_NAME, RunId
from functions.core.reading import parse_utc
from functions.core.tokens import pipeline_of_run
from functions.wiring import control_plane

if TYPE_CHECKING:
    from functions.services.plane import ControlPlane

__all__ = ["Query", "accepted", "admit", "answer", "as_json", "as_list", "run_id_in"]

_MOST_LISTED = 1000

_STATUSES: tuple[tuple[type[MlopsError], int], ...] = (
    (InvalidRequestError, 400),
    (NotSignedInError, 401),
    (RoleMissingError, 403),
    (UnknownRunError, 404),
    (UnknownPipelineError, 404),
    (NotFoundError, 404),
    (IllegalTransitionError, 409),
    (DeadLetterRefusedError, 409),
    (InvalidSettingsError, 503),
    (TransientError, 503),
    (MlopsError, 502),
)


def admit(req: func.HttpRequest, needed: Role) -> "tuple[ControlPlane, Actor]":
    """Return the control plane for a caller who may use it so, and who that is.

    Raises:
        NotSignedInError: App roles are required, and App Service names no caller.
        RoleMissingError: The caller has not got the role.
        InvalidSettingsError: The configuration has mistakes.
    """
    plane = control_plane()
    header = req.headers.get(PRINCIPAL_HEADER)
    return plane, actor_of(header, needed=needed, are_roles_required=plane.are_roles_required)


def answer(make: Callable[[], func.HttpResponse]) -> func.HttpResponse:
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
        if isinstance(error, DeadLetterRefusedError):
            document |= {"did": list(error.did), "did_not": list(error.did_not)}
        after_s = error.retry_after_s or 5 if isinstance(error, TransientError) else None
        return as_json(status, document, headers=None if after_s is None else {"Retry-After": str(round(after_s))})


def as_json(status: int, document: object, *, headers: Mapping[str, str] | None = None) -> func.HttpResponse:
    """Return an answer with a JSON body."""
    return func.HttpResponse(
        json.dumps(document, ensure_ascii=False),
        status_code=status,
        mimetype="application/json",
        charset="utf-8",
        headers=dict(headers or {}),
    )


def as_list[T](name: str, found: Sequence[T], show: Callable[[T], object], *, limit: int) -> func.HttpResponse:
    """Return 200 with the first `limit` of what was found, of which one more was asked for, and if there are more."""
    return as_json(200, {name: [show(entry) for entry in found[:limit]], "has_more": len(found) > limit})


def accepted(req: func.HttpRequest, place: str, document: Mapping[str, object]) -> func.HttpResponse:
    """Return 202 with where to look what becomes of it: `place` below /api, as `runs/<id>`."""
    url = urlsplit(req.url)
    prefix = url.path[: url.path.find("/api/") + len("/api")] if "/api/" in url.path else ""
    status_url = f"{url.scheme}://{url.netloc}{prefix}/{place}"
    return as_json(202, {**document, "status_url": status_url}, headers={"Location": status_url})


def run_id_in(req: func.HttpRequest) -> RunId:
    """Return the run that the route names; raises UnknownRunError for what no run can be called."""
    run_id = RunId(req.route_params.get("id", ""))
    try:
        pipeline_of_run(run_id)
    except ValueError:
        raise UnknownRunError(RunId(run_id[:120])) from None
    return run_id


class Query:
    """Reads query parameters one by one; what is wrong goes into a list, and `check` raises it all."""

    def __init__(self, req: func.HttpRequest) -> None:
        self._params = req.params
        self.problems: list[Problem] = []

    def text(self, name: str, *, at_most: int = 4096, is_repeated: bool = True) -> str | None:
        """Return a parameter, None if it is absent or empty; a refusal repeats its beginning, or nothing of it."""
        value = self._params.get(name) or None
        if value is not None and len(value) > at_most:
            self.problems.append(Problem(name, f"{len(value)} characters", f"at most {at_most}"))
            return None
        if value is not None and not value.isprintable():
            self.problems.append(Problem(name, ascii(value[:80]) if is_repeated else "another text", "printable text"))
            return None
        return value

    def instant(self, name: str) -> datetime | None:
        """Return a time, None if it is absent."""
        value = self._params.get(name, "")
        found = parse_utc(value) if value else None
        if value and found is None:
            self.problems.append(Problem(name, repr(value[:80]), "an ISO 8601 time with its zone"))
        return found

    def one_of(self, name: str, allowed: Sequence[str]) -> str | None:
        """Return one of the allowed values, None if it is absent."""
        value = self._params.get(name) or None
        if value is not None and value not in allowed:
            self.problems.append(Problem(name, repr(value[:80]), f"one of {', '.join(allowed)}"))
            return None
        return value

    def model(self) -> str | None:
        """Return a model's name, with its version or without, None if it is absent."""
        value = self.text("model")
        if value is None or re.fullmatch(f"{MODEL_NAME}(/[0-9]+)?", value):
            return value
        expected = "catalog.schema.model, or with its version as catalog.schema.model/7"
        self.problems.append(Problem("model", repr(value[:80]), expected))
        return None

    def limit(self) -> int:
        """Return how many entries are asked for at most."""
        text = self._params.get("limit", "100")
        limit = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0  # noqa: PLR2004
        if not 1 <= limit <= _MOST_LISTED:
            self.problems.append(Problem("limit", repr(text[:80]), f"a whole number from 1 to {_MOST_LISTED}"))
        return limit

    def check(self) -> None:
        """Raise InvalidRequestError if anything was wrong."""
        if self.problems:
            raise InvalidRequestError(self.problems)
