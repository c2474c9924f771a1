"""Follows a blob to its scores and back, for a person or a script."""

import json
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from cli.api import open_api
from cli.blob_urls import parse_blob_url
from cli.wording import counted

__all__ = ["trace_blob"]

_LONGEST_LINE = 20_000  # columns: reasons have up to 8,000 characters


def trace_blob(url: str, *, as_json: bool) -> None:
    """Print everything that is known of a blob: what it was scored by, or what it was made from."""
    api = open_api()
    document: dict[str, Any] = api.get("lineage", blob=parse_blob_url(url).url)
    document |= {key: [api.with_present_page(run) for run in document[key]] for key in ("runs", "made_by")}
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        for line in _lines(document):
            typer.echo(line)


def _lines(document: dict[str, Any]) -> list[str]:
    """Return the tree line by line, each whole: a tree printed to a terminal's width loses the ends of URLs."""
    console = Console(width=_LONGEST_LINE, color_system=None)
    with console.capture() as captured:
        console.print(_tree(document), highlight=False, markup=False)
    return [line.rstrip() for line in captured.get().splitlines()]


def _tree(document: dict[str, Any]) -> Tree:
    root = Tree(Text(document["url"], style="bold"))
    for arrival in document["arrivals"]:
        reason = f" ({arrival['reason']})" if arrival["reason"] else ""
        how = "" if arrival["source"] == "event" else f" by {arrival['source']}"
        branch = root.add(
            f"arrived{how} {arrival['recorded_at']}, ETag {arrival['etag']}, {arrival['deliveries']} "
            f"{'delivery' if arrival['deliveries'] == 1 else 'deliveries'}: "
            f"{arrival['state']}{reason}"
        )
        for contradiction in arrival["contradictions"]:
            branch.add(f"contradicted: {contradiction}")
    for title, key in (("read by", "runs"), ("written by", "made_by")):
        for run in document[key]:
            branch = root.add(f"{title} run {run['id']}: {run['outcome'] or run['state']}")
            _describe(branch, run)
    return root


def _describe(branch: Tree, run: dict[str, Any]) -> None:
    files = counted(len(run["inputs"]), "input file") if run["inputs"] else "input files that are not known any more"
    inputs = branch.add(f"{files}, manifest {run['manifest_url']}")
    for file in run["inputs"][:20]:
        inputs.add(f"{file['url']} (ETag {file['etag']})")
    branch.add(f"model {run['model']} version {run['model_version'] or '-'}, MLflow run {run['mlflow_run_id'] or '-'}")
    branch.add(f"Databricks run {run['databricks_run_id'] or '-'} {run['run_page_url'] or ''}")
    if run["scores_url"]:
        branch.add(f"scores {run['scores_url']} ({counted(run['rows_scored'] or 0, 'row')})")
    branch.add(f"completion event {run['completion_event_id'] or '-'}")
    if run["reason"]:
        branch.add(f"reason: {run['reason']}")
