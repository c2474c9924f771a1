"""Pauses, resumes and lists pipelines through the running control plane, for a person or a script."""

import getpass
import json
import re
from typing import Any

import typer

from cli.api import open_api
from cli.failures import CommandError
from cli.wording import make_console, make_table

__all__ = ["allow_runs", "list_pipelines", "pause_pipeline", "resume_pipeline"]


def list_pipelines(*, as_json: bool) -> None:
    """Print the pipelines, all together first."""
    found = open_api().get("pipelines")["pipelines"]
    if as_json:
        for item in found:
            typer.echo(json.dumps(item))
        return
    table = make_table("Pipeline", "In flight", "Began today", "Held files", "Waits", "Paused")
    for item in found:
        held = item["held_arrivals"]
        table.add_row(
            item["pipeline"], _of(item["in_flight"], item["max_in_flight"]),
            _of(item["begun_today"], item["max_runs_today"]), "" if held is None else str(held), item["waits"] or "",
            _paused(item),
        )  # fmt: skip
    make_console().print(table, markup=False)


def pause_pipeline(pipeline: str, *, reason: str, as_json: bool) -> None:
    """Have nothing of a pipeline, or of all, start any more; harmless if it is paused."""
    _act(pipeline, "pause", {"reason": reason}, as_json=as_json)


def resume_pipeline(pipeline: str, *, reason: str, as_json: bool) -> None:
    """Have what a pipeline, or all, holds start in its order; harmless if it is not paused."""
    _act(pipeline, "resume", {"reason": reason}, as_json=as_json)


def allow_runs(pipeline: str, runs: int, *, as_json: bool) -> None:
    """Let a pipeline, or all together, begin so many runs today in all; saying it twice is saying it once."""
    _act(pipeline, "allow", {"runs_today": runs}, as_json=as_json)


def _act(pipeline: str, what: str, body: dict[str, object], *, as_json: bool) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,47}", pipeline, re.ASCII):
        raise CommandError(f"got {pipeline!r}, expected all, or a pipeline's name as `tidegate pipelines` shows it")
    path = f"pipelines/{pipeline}/{what}"
    acted = open_api().post(path, {**body, "by": getpass.getuser()[:80]})
    if as_json:
        typer.echo(json.dumps(acted, indent=2))
        return
    for title, key in (("did", "did"), ("did not", "did_not")):
        for line in acted[key]:
            typer.echo(f"{title}: {line}")


def _of(count: int, limit: int | None) -> str:
    return str(count) if limit is None else f"{count} of {limit}"


def _paused(item: dict[str, Any]) -> str:
    if not item["is_paused"]:
        return ""
    why = f": {item['pause_reason']}" if item["pause_reason"] else ""
    whose = "all, " if item["are_all_paused"] and item["pipeline"] != "all" else ""
    return f"{whose}by {item['paused_by']} since {item['paused_at'][:16].replace('T', ' ')}{why}"
