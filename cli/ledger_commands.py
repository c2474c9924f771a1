"""Lists runs, and follows a blob to its scores and back, for a person or a script."""

import json
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from cli.failures import CommandError
from cli.ledger import BlobName, Ledger, open_ledger, parse_blob_url
from cli.run_documents import arrival_document, model_version_of, run_document
from cli.times import instant_of
from cli.wording import counted, make_console, make_table
from functions.core.errors import InvalidDocumentError, NotFoundError
from functions.core.ledger import Arrival, Run
from functions.core.listing import RUN_STATES, ArrivalFilter, RunFilter
from functions.core.model import ArrivalState, PipelineKey
from functions.core.reading import to_iso
from local.cloud import Cloud

__all__ = ["list_arrivals", "list_runs", "trace_blob", "trace_document"]

_LONGEST_LINE = 20_000  # columns: reasons have up to 8,000 characters
_RUNS_SEARCHED = 5000  # when a blob's own arrivals do not lead to its runs
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
    ledger = open_ledger(Cloud().running_settings())
    key = _known(ledger, pipeline) if pipeline is not None else None
    if state is not None and state not in RUN_STATES:
        raise CommandError(f"--state: got {state!r}, expected one of {', '.join(dict.fromkeys(RUN_STATES))}")
    runs = ledger.find_runs(
        RunFilter(state=state, model=model), pipeline=key, since=instant_of("--since", since), blob=blob, limit=limit
    )
    if as_json:
        for run in runs:
            typer.echo(json.dumps(run_document(run)))
        return
    if not runs:
        typer.echo("There is no run yet; upload a file to the input container, or see `tidegate demo`.")
        return
    table = make_table("Run", "State", "Outcome", "Attempt", "Model", "Databricks run", "Created", "Took")
    for run in runs:
        outcome = run.outcome.value if run.outcome is not None else ""
        colour = _COLOURS.get(outcome, "default")
        took = f"{(run.finished_at - run.created_at).total_seconds():.0f} s" if run.finished_at is not None else ""
        table.add_row(
            run.id, run.state.value, f"[{colour}]{outcome}[/{colour}]", str(run.attempt), model_version_of(run) or "",
            str(run.databricks_run_id or ""), run.created_at.strftime("%Y-%m-%d %H:%M:%S"), took,
        )  # fmt: skip
    make_console().print(table)


def list_arrivals(
    *, pipeline: str | None, since: str | None, state: str | None, blob: str | None, limit: int, as_json: bool
) -> None:
    """Print arrivals, the latest recorded first."""
    ledger = open_ledger(Cloud().running_settings())
    if state is not None and state not in set(ArrivalState):
        raise CommandError(f"--state: got {state!r}, expected one of {', '.join(ArrivalState)}")
    wanted = ArrivalFilter(
        pipeline=_known(ledger, pipeline) if pipeline is not None else None,
        state=ArrivalState(state) if state is not None else None,
        since=instant_of("--since", since),
    )
    found = ledger.find_arrivals(wanted, blob=blob, limit=limit)
    if as_json:
        for arrival in found:
            typer.echo(json.dumps(arrival_document(arrival)))
        return
    if not found:
        typer.echo("No arrival is known that is like this.")
        return
    table = make_table("Arrival", "Recorded", "State", "Pipeline", "Path", "Run or reason")
    for arrival in found:
        why = arrival.run_id or arrival.reason or ""
        recorded = to_iso(arrival.recorded_at)
        table.add_row(
            arrival.id,
            recorded,
            arrival.state.value,
            arrival.pipeline or "",
            escape(arrival.blob.path),
            escape(why[:120]),
        )
    make_console().print(table)


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


def _known(ledger: Ledger, pipeline: str) -> PipelineKey:
    key = PipelineKey(pipeline)
    if key not in ledger.pipelines:
        raise CommandError(f"no pipeline is called {pipeline!r}; there are: {', '.join(ledger.pipelines)}")
    return key


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
