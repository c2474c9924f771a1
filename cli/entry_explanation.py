"""Tells the story of an arrival or a run, and what would be decided now."""

import json
import re
from typing import Any, Final

import typer

from cli.api import Api, open_api
from cli.times import moment_of
from functions.core.explain import explanation_lines
from functions.core.reading import to_iso

__all__ = ["explain_entry", "is_entry_id"]

_ARRIVAL_ID: Final = re.compile(r"[0-9a-f]{64}")
_RUN_ID: Final = re.compile(r"[a-z][a-z0-9_]{0,47}-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{12}", re.ASCII)


def is_entry_id(text: str) -> bool:
    """Return whether a text is the id of an arrival or a run rather than the name of a file."""
    return bool(_ARRIVAL_ID.fullmatch(text) or _RUN_ID.fullmatch(text))


def explain_entry(entry_id: str, *, at: str | None, as_json: bool) -> None:
    """Print what the ledger knows of an arrival or a run, and of an arrival what would be decided about it now."""
    recorded_at = to_iso(moment_of("--at", at)) if at is not None else None
    api = open_api()
    if _ARRIVAL_ID.fullmatch(entry_id):
        document = _arrival_story(api, api.get(f"arrivals/{entry_id}", at=recorded_at))
    else:
        document = {"run": api.with_present_page(api.get(f"runs/{entry_id}"))}
    typer.echo(json.dumps(document, indent=2) if as_json else "\n".join(explanation_lines(document)))


def _arrival_story(api: Api, arrival: dict[str, Any]) -> dict[str, Any]:
    """Return the arrival, its run, and what would be decided about it, each by itself."""
    run, beside = arrival.pop("run"), ("decision_now", "routes_tried")
    now = {name: arrival.pop(name) for name in beside}
    return {"arrival": arrival, "run": None if run is None else api.with_present_page(run), **now}
