"""Shows what the demo did, from the ledger, storage, MLflow and the subscriber."""

import base64
import io
import os
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped] # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped] # it ships no types

from cli.blob_urls import parse_blob_url
from cli.demo.context import Demo, DemoFailedError
from cli.wording import make_table
from functions.core.ledger import Run
from functions.core.ledger_rows import model_version_of

__all__ = ["picture_of", "show_summary"]

_PICTURE = "figures/model_quality.png"
_FLIGHTS_SHOWN = 6
_FLIGHT_COLUMNS = ("month", "day", "carrier", "flight", "origin", "dest", "sched_dep_time", "score")
_COLOURS = {"completed": "green", "failed": "red"}


def show_summary(demo: Demo, picture: Path) -> None:
    """Print the summary."""
    demo.console.print()
    demo.console.rule("[bold]What happened", align="left")
    _show_arrivals(demo)
    _show_runs(demo)
    _show_stages(demo)
    _show_model(demo)
    _show_flights(demo)
    _show_events(demo)
    _show_places(demo, picture)


def picture_of(demo: Demo, run: Run) -> Path:
    """Download the picture of the model's quality with MLflow's own client; return where it is.

    Raises:
        DemoFailedError: The training run has none.
    """
    completion = run.completion
    experiment_run = completion.model.mlflow_run_id if completion is not None and completion.model is not None else None
    if experiment_run is None:
        raise DemoFailedError(f"run {run.id} names no MLflow run", logs=("workspace", "mlflow"))
    os.environ.update(demo.settings.environment() | {"MLFLOW_REGISTRY_URI": "databricks-uc"})
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    folder = demo.cloud.folders.of("demo")
    try:
        path = MlflowClient().download_artifacts(experiment_run, _PICTURE, str(folder))
    except (MlflowException, OSError) as error:
        raise DemoFailedError(
            f"MLflow run {experiment_run} has no {_PICTURE}: {error}", logs=("workspace", "mlflow")
        ) from error
    return Path(path)


def _show_arrivals(demo: Demo) -> None:
    table = make_table("File", "State", "Deliveries", "Run, or why there is none", title="\nArrivals")
    for arrival in demo.arrivals:
        why = arrival.run_id if arrival.run_id is not None and not arrival.reason else arrival.reason or ""
        table.add_row(arrival.blob.path, arrival.state.value, str(arrival.deliveries), why)
    demo.console.print(table)


def _show_runs(demo: Demo) -> None:
    table = make_table("Run", "Kind", "Outcome", "Took", "Model version", "Databricks run", title="\nRuns")
    for run in demo.runs:
        outcome = run.outcome.value if run.outcome is not None else run.state.value
        colour = _COLOURS.get(outcome, "default")
        took = f"{(run.finished_at - run.created_at).total_seconds():.0f} s" if run.finished_at is not None else ""
        table.add_row(
            run.id,
            run.kind.value,
            f"[{colour}]{outcome}[/{colour}]",
            took,
            model_version_of(run) or "",
            str(run.databricks_run_id or ""),
        )
    demo.console.print(table)


def _show_stages(demo: Demo) -> None:
    table = make_table("Run", "Stage", "Outcome", "Seconds", title="\nStages")
    for run in (demo.training, demo.scoring):
        if run is None or run.completion is None:
            continue
        for stage in run.completion.stages:
            table.add_row(run.kind.value, stage.name.value, stage.outcome.value, f"{stage.duration_s:.1f}")
    demo.console.print(table)


def _show_model(demo: Demo) -> None:
    run = demo.training
    if run is None or run.completion is None:
        return
    table = make_table(
        "Metric", "Model", "Carrier-and-hour rate", title=f"\nModel {run.model_name}, version {model_version_of(run)}"
    )
    metrics = run.completion.metrics
    for name in sorted(name for name in metrics if not name.startswith(("baseline_", "rows_", "gate_"))):
        baseline = metrics.get(f"baseline_{name}")
        table.add_row(name.replace("_", " "), f"{metrics[name]:.3f}", "" if baseline is None else f"{baseline:.3f}")
    demo.console.print(table)
    fitted, held_out = metrics.get("rows_fit", 0), metrics.get("rows_holdout", 0)
    demo.console.print(f"learnt from {fitted:,.0f} flights, measured on {held_out:,.0f} later ones", highlight=False)


def _show_flights(demo: Demo) -> None:
    run = demo.scoring
    if run is None:
        return
    flights = _scores_of(demo, run)
    table = make_table(
        *(column.replace("_", " ") for column in _FLIGHT_COLUMNS),
        title=f"\nThe flights most likely to be late, of {len(flights):,} scored",
    )
    most = flights.sort_by([("score", "descending")]).slice(0, _FLIGHTS_SHOWN).to_pylist()
    for flight in most:
        table.add_row(*(_cell(flight[column]) for column in _FLIGHT_COLUMNS))
    demo.console.print(table)
    demo.console.print(f"Scores: {run.output_url}", highlight=False, soft_wrap=True)


def _scores_of(demo: Demo, run: Run) -> pa.Table:
    """Return the scores, read from storage by the manifest."""
    manifest = demo.ledger.manifests.read_scores(run.output_url)
    if manifest is None:
        raise DemoFailedError(f"the scores of {run.id} are gone", logs=("workspace",))
    parts = []
    for file in manifest.files:
        blob = parse_blob_url(file.url)
        content = demo.blobs.get_blob_client(blob.container, blob.path).download_blob().readall()
        parts.append(pq.read_table(io.BytesIO(content)))
    return pa.concat_tables(parts)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _show_events(demo: Demo) -> None:
    table = make_table("Type", "Id", "Time", title="\nCompletion events that the subscriber received")
    for event in demo.subscriber.completions():
        table.add_row(str(event["type"]), str(event["id"]), str(event["time"]))
    demo.console.print(table)


def _show_places(demo: Demo, picture: Path) -> None:
    table = make_table("", "", title="\nWhere to look")
    training = demo.training
    model = training.completion.model if training is not None and training.completion is not None else None
    if model is not None and model.mlflow_run_id is not None:
        run = demo.workspace.api_client.do("GET", "/api/2.0/mlflow/runs/get", query={"run_id": model.mlflow_run_id})
        experiment = run["run"]["info"]["experiment_id"] if isinstance(run, dict) else ""
        table.add_row("MLflow", f"{demo.settings.url('mlflow')}/#/experiments/{experiment}/runs/{model.mlflow_run_id}")
    for run in demo.runs:
        if run.run_page_url:
            table.add_row(f"Notebook of the {run.kind.value} run", run.run_page_url)
    table.add_row("Telemetry", demo.settings.url("app_insights"))
    table.add_row("Model quality (picture)", str(picture))
    demo.console.print(table)
    if demo.console.is_terminal and os.environ.get("TERM_PROGRAM") == "iTerm.app":  # a terminal that shows pictures
        content = base64.b64encode(picture.read_bytes()).decode()
        demo.console.file.write(f"\033]1337;File=inline=1;width=100%:{content}\a\n")
