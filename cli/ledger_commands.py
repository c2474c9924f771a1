"""Follows a blob to its scores and back, for a person or a script."""

import json
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from cli.blob_urls import BlobName, parse_blob_url
from cli.failures import CommandError
from cli.ledger import Ledger, open_ledger
from cli.run_documents import arrival_document, run_document
from cli.wording import counted
from functions.core.errors import InvalidDocumentError, NotFoundError
from functions.core.ledger import Arrival, Run
from local.cloud import Cloud

__all__ = ["trace_blob", "trace_document"]

_LONGEST_LINE = 20_000  # columns: reasons have up to 8,000 characters
_RUNS_SEARCHED = 5000  # when a blob's own arrivals do not lead to its runs


def trace_blob(url: str, *, as_json: bool) -> None:
    """Print everything that is known of a blob: what it was scored by, or what it was made from."""
    document = trace_document(open_ledger(Cloud().running_settings()), url)
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        for line in _lines(document):
            typer.echo(line)


def trace_document(ledger: Ledger, url: str) -> dict[str, Any]:
    """Return arrivals, runs, inputs, scores and events around a blob.

    Raises:
        CommandError: Nothing is known of it.
    """
    blob = parse_blob_url(url)
    arrivals = [entry.value for entry in ledger.rows.arrivals_of_path(blob.account, blob.container, blob.path)]
    known = ledger.runs(limit=_RUNS_SEARCHED)
    made_by = [run for run in known if _is_output(run, blob)]
    used_by = [run for run in known if run not in made_by and _is_input(ledger, run, blob, arrivals)]
    if not arrivals and not made_by and not used_by:
        raise CommandError(f"nothing is known of {url!r}: no event announced it, no run read or wrote it")
    return {
        "url": url,
        "arrivals": [arrival_document(arrival) for arrival in sorted(arrivals, key=lambda item: item.recorded_at)],
        "runs": [_run_trace(ledger, run) for run in used_by],
        "made_by": [_run_trace(ledger, run) for run in made_by],
    }


def _is_output(run: Run, blob: BlobName) -> bool:
    if not run.output_url:
        return False
    output = parse_blob_url(run.output_url)
    return (blob.account, blob.container) == (output.account, output.container) and (
        blob.path == output.path or blob.path.startswith(f"{output.path}/")
    )


def _is_input(ledger: Ledger, run: Run, blob: BlobName, arrivals: list[Arrival]) -> bool:
    if {arrival.run_id for arrival in arrivals} & {run.id} or {arrival.id for arrival in arrivals} & set(run.arrivals):
        return True
    return any(parse_blob_url(file["url"]) == blob for file in _inputs(ledger, run))


def _inputs(ledger: Ledger, run: Run) -> list[dict[str, Any]]:
    """Return every file that the run reads, from its manifest; none if that is gone or not what it was."""
    if run.manifest is None:
        return []
    try:
        files = ledger.manifests.read(run.manifest).files
    except (NotFoundError, InvalidDocumentError):
        return []
    return [{"url": file.blob.url, "etag": file.blob.etag, "arrival_id": file.arrival_id} for file in files]


def _run_trace(ledger: Ledger, run: Run) -> dict[str, Any]:
    completion = run.completion
    return {
        **run_document(run),
        "reason": run.reason,
        "manifest_url": run.manifest.url if run.manifest is not None else None,
        "inputs": _inputs(ledger, run),
        "model": run.model_name,
        "mlflow_run_id": completion.model.mlflow_run_id if completion is not None and completion.model else None,
        "run_page_url": run.run_page_url or None,
        "rows_scored": completion.outputs.rows_scored if completion is not None and completion.outputs else None,
        "traceparent": run.traceparent,
    }


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
