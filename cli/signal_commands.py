"""Lists signals about models, and what became of each."""

import json

import typer

from cli.ledger import open_signals
from cli.wording import make_console, make_table
from functions.core.reading import to_iso
from functions.core.signal_records import SignalRecord
from local.cloud import Cloud

__all__ = ["list_signals", "signal_document"]


def list_signals(*, limit: int, as_json: bool) -> None:
    """Print signals, the newest first."""
    records = open_signals(Cloud().running_settings()).recent(limit=limit)
    if as_json:
        for record in records:
            typer.echo(json.dumps(signal_document(record)))
        return
    if not records:
        typer.echo("There was no signal yet; docs/events.md says what a monitor publishes.")
        return
    table = make_table("Time", "Signal", "Model", "Window until", "Pipeline", "What became of it")
    for record in records:
        table.add_row(
            f"{record.event_time:%Y-%m-%d %H:%M:%S}", record.type.removeprefix("tidegate.model."), record.model_name,
            f"{record.window_end:%Y-%m-%d %H:%M}", record.pipeline or "", record.what,
        )  # fmt: skip
    make_console().print(table, markup=False)


def signal_document(record: SignalRecord) -> dict[str, object]:
    """Return what is shown of a signal to a script."""
    return {
        "id": record.event_id,
        "source": record.source,
        "type": record.type,
        "time": to_iso(record.event_time),
        "model": record.model_name,
        "window": {"start": to_iso(record.window_start), "end": to_iso(record.window_end)},
        "recorded_at": to_iso(record.recorded_at),
        "pipeline": record.pipeline,
        "signal": record.rule or None,
        "run_id": record.run_id,
        "reason": record.reason or None,
        "what": record.what,
        "config_version": record.config_version,
    }
