"""Lists runs and arrivals, as the control plane tells them, for a person or a script."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import typer
from rich.markup import escape

from cli.api import open_api
from cli.blob_urls import parse_blob_url
from cli.cut_lists import say_if_cut
from cli.times import instant_of
from cli.wording import make_console, make_table
from functions.core.reading import to_iso

__all__ = ["list_arrivals", "list_runs"]

_ARRIVALS_WIDTH = 230  # columns: an id alone takes 64
_COLOURS = {"completed": "green", "failed": "red", "cancelled": "yellow", "timed_out": "red", "skipped": "yellow"}


def list_runs(
    *,
    pipeline: str | None,
    since: str | None,
    state: str | None,
    blob: str | None,
    model: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Print runs, the newest first."""
    wanted = {
        "pipeline": pipeline,
        "since": _since(since),
        "state": state,
        "blob": _blob(blob),
        "model": model,
    }
    api = open_api()
    answer = api.get("runs", **wanted, limit=limit)
    runs = [api.with_present_page(run) for run in answer["runs"]]
    _print_runs(runs, is_any_wanted=not any(wanted.values()), as_json=as_json)
    say_if_cut(answer, limit=limit, narrowed_by="--pipeline, --state, --blob or --model")


def _print_runs(runs: Sequence[Mapping[str, Any]], *, is_any_wanted: bool, as_json: bool) -> None:
    if as_json:
        for run in runs:
            typer.echo(json.dumps(run))
        return
    if not runs:
        nothing_yet = "There is no run yet; upload a file to the input container, or see `tidegate demo`."
        typer.echo(nothing_yet if is_any_wanted else "No run is known that is like this.")
        return
    table = make_table("Run", "State", "Outcome", "Attempt", "Model", "Databricks run", "Created", "Took")
    for run in runs:
        outcome = run["outcome"] or ""
        colour = _COLOURS.get(outcome, "default")
        table.add_row(
            run["id"], _state(run), f"[{colour}]{outcome}[/{colour}]", str(run["attempt"]), run["model_version"] or "",
            str(run["databricks_run_id"] or ""), run["created_at"][:19].replace("T", " "), _took(run),
        )  # fmt: skip
    make_console().print(table)


def list_arrivals(
    *,
    pipeline: str | None,
    since: str | None,
    state: str | None,
    blob: str | None,
    outputs: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Print arrivals, the latest recorded first."""
    wanted = {"pipeline": pipeline, "since": _since(since), "state": state, "blob": _blob(blob)}
    with_outputs = 1 if outputs else None
    answer = open_api().get("arrivals", **wanted, outputs=with_outputs, limit=limit)
    _print_arrivals(answer["arrivals"], as_json=as_json, is_cut_in_time=since is None and blob is None)
    say_if_cut(answer, limit=limit, narrowed_by="--pipeline, --state or --blob")


def _print_arrivals(found: Sequence[Mapping[str, Any]], *, as_json: bool, is_cut_in_time: bool) -> None:
    if as_json:
        for arrival in found:
            typer.echo(json.dumps(arrival))
        return
    if not found:
        further = " in the last month; --since looks further back" if is_cut_in_time else ""
        typer.echo(f"No arrival is known that is like this{further}.")
        return
    table = make_table("Arrival", "Recorded", "State", "Pipeline", "Path", "Run or reason")
    table.columns[0].no_wrap = True  # other commands take it whole
    for arrival in found:
        path = parse_blob_url(arrival["url"]).path
        why = arrival["run_id"] or arrival["reason"] or ""
        table.add_row(
            arrival["id"], arrival["recorded_at"], _state(arrival), arrival["pipeline"] or "", escape(path),
            escape(why[:120]),
        )  # fmt: skip
    make_console(narrowest=_ARRIVALS_WIDTH).print(table)


def _since(text: str | None) -> str | None:
    instant = instant_of("--since", text)
    return None if instant is None else to_iso(instant)


def _blob(url: str | None) -> str | None:
    return None if url is None else parse_blob_url(url).url


def _state(entry: Mapping[str, Any]) -> str:
    """Return where a run or an arrival stands, and what it waits for if its whole pipeline does."""
    return f"{entry['state']} ({entry['waits']})" if entry.get("waits") else str(entry["state"])


def _took(run: Mapping[str, Any]) -> str:
    if run["finished_at"] is None:
        return ""
    began, ended = datetime.fromisoformat(run["created_at"]), datetime.fromisoformat(run["finished_at"])
    return f"{(ended - began).total_seconds():.0f} s"
