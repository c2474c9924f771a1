"""Tells the story of an arrival or a run from the ledger, and what would be decided now."""

import json
import re
from datetime import UTC, datetime
from typing import Any, Final

import typer

from cli.configuration import read_pipelines
from cli.failures import CommandError
from cli.ledger import Ledger, open_ledger
from cli.times import moment_of
from functions.core.errors import NotFoundError
from functions.core.explain import explanation_lines
from functions.core.ledger import Arrival, Run
from functions.core.ledger_rows import arrival_to_public_json, run_to_public_json
from functions.core.model import ArrivalId, RunId
from functions.services.listing import explain_arrival, find_arrival
from local.cloud import Cloud

__all__ = ["explain_entry", "is_entry_id"]

_ARRIVAL_ID: Final = re.compile(r"[0-9a-f]{64}")
_RUN_ID: Final = re.compile(r"[a-z][a-z0-9_]{0,47}-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{12}", re.ASCII)


def is_entry_id(text: str) -> bool:
    """Return whether a text is the id of an arrival or a run rather than the name of a file."""
    return bool(_ARRIVAL_ID.fullmatch(text) or _RUN_ID.fullmatch(text))


def explain_entry(entry_id: str, *, at: str | None, as_json: bool) -> None:
    """Print what the ledger knows of an arrival or a run, and of an arrival what would be decided about it now."""
    recorded_at = moment_of("--at", at) if at is not None else None
    ledger = open_ledger(Cloud().running_settings())
    if _ARRIVAL_ID.fullmatch(entry_id):
        document = _arrival_story(ledger, ArrivalId(entry_id), recorded_at)
    else:
        document = _run_story(ledger, RunId(entry_id))
    typer.echo(json.dumps(document, indent=2) if as_json else "\n".join(explanation_lines(document)))


def _arrival_story(ledger: Ledger, arrival_id: ArrivalId, at: datetime | None) -> dict[str, Any]:
    pipelines = read_pipelines()
    try:
        entry = find_arrival(ledger.rows, pipelines, arrival_id, at=at, now=datetime.now(UTC))
    except NotFoundError as error:
        raise CommandError(str(error)) from error
    arrival: Arrival = entry.value
    now = explain_arrival(arrival, pipelines, environment="local", account=arrival.blob.account)
    run = ledger.run(arrival.run_id) if arrival.run_id is not None else None
    return {
        "arrival": arrival_to_public_json(arrival),
        "run": None if run is None else _summary(run),
        **now,
    }


def _run_story(ledger: Ledger, run_id: RunId) -> dict[str, Any]:
    run = ledger.run(run_id)
    if run is None:
        raise CommandError(f"no run {run_id!r} in the ledger")
    return {"run": run_to_public_json(run)}


def _summary(run: Run) -> dict[str, Any]:
    document = run_to_public_json(run)
    return {key: document[key] for key in ("id", "state", "outcome", "reason", "attempt", "run_page_url", "attempts")}
