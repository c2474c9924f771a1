"""Lists signals about models, and what became of each."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import typer

from cli.api import open_api
from cli.cut_lists import say_if_cut
from cli.wording import make_console, make_table

__all__ = ["list_signals"]


def list_signals(*, limit: int, as_json: bool) -> None:
    """Print signals, the newest first."""
    answer = open_api().get("signals", limit=limit)
    _print(answer["signals"], as_json=as_json)
    say_if_cut(answer, limit=limit)


def _print(signals: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    if as_json:
        for signal in signals:
            typer.echo(json.dumps(signal))
        return
    if not signals:
        typer.echo("There was no signal yet; docs/events.md says what a monitor publishes.")
        return
    table = make_table("Time", "Signal", "Model", "Window until", "Pipeline", "What became of it")
    for signal in signals:
        table.add_row(
            _instant(signal["time"], "seconds"), signal["type"].removeprefix("tidegate.model."), signal["model"],
            _instant(signal["window"]["end"], "minutes"), signal["pipeline"] or "", signal["what"],
        )  # fmt: skip
    make_console().print(table, markup=False)


def _instant(text: str, unit: str) -> str:
    return datetime.fromisoformat(text).replace(tzinfo=None).isoformat(" ", unit)
