"""Begins a backfill, follows it with a progress bar, and says what it would do or did; the app does the work."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import typer

from cli.api import Api, open_api
from cli.cut_lists import say_if_cut
from cli.times import moment_of
from functions.core.reading import to_iso

__all__ = ["BackfillOptions", "list_backfills", "run_backfill"]

_LOOK_EVERY_S: Final = 1.0
_ACTIVE: Final = frozenset({"counting", "running"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillOptions:
    """What was said on the command line."""

    pipeline: str
    prefix: str
    since: str | None
    until: str | None
    again: bool
    per_minute: int | None
    yes: bool
    confirm: str | None
    stop: bool
    fresh: bool
    follow: bool

    def body(self) -> dict[str, object]:
        """Return the request; what was not said is left to the app."""
        said: dict[str, object] = {"pipeline": self.pipeline, "prefix": self.prefix}
        # Times are absolute: "7d" would be another backfill at each call.
        times = {"since": self.since, "until": self.until}
        said |= {name: to_iso(moment_of(f"--{name}", text)) for name, text in times.items() if text is not None}
        texts = {"confirm": self.confirm, "per_minute": self.per_minute}
        flags = {"again": self.again, "yes": self.yes, "stop": self.stop, "fresh": self.fresh}
        said |= {name: value for name, value in texts.items() if value is not None}
        return said | {name: True for name, is_on in flags.items() if is_on}


def run_backfill(options: BackfillOptions, *, as_json: bool) -> None:
    """Begin the backfill or go on with it, follow it to its next rest, and print how it stands."""
    api = open_api()
    backfill = api.post("backfills", options.body())
    did = {"did": backfill["did"], "did_not": backfill["did_not"]}
    if options.follow and backfill["state"] in _ACTIVE:
        backfill = _follow(api, backfill["id"], is_shown=not as_json)
    if as_json:
        typer.echo(json.dumps({**backfill, **did}, indent=2))
        return
    for title, lines in (("did", did["did"]), ("did not", did["did_not"])):
        for line in lines:
            typer.echo(f"{title}: {line}")
    for line in _summary(backfill):
        typer.echo(line)


def list_backfills(*, limit: int, as_json: bool) -> None:
    """Print backfills, the latest first."""
    answer = open_api().get("backfills", limit=limit)
    _print(answer["backfills"], as_json=as_json)
    say_if_cut(answer, limit=limit)


def _print(found: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    if as_json:
        for backfill in found:
            typer.echo(json.dumps(backfill))
        return
    if not found:
        typer.echo("There was no backfill yet.")
        return
    from cli.wording import make_console, make_table

    table = make_table("Backfill", "Pipeline", "Prefix", "State", "Seen", "Handed over", "Begun")
    for backfill in found:
        counts = backfill["counts"]
        acted = counts["new"] + counts["again"] if backfill["state"] in {"running", "done"} else 0
        table.add_row(
            backfill["id"], backfill["pipeline"], backfill["prefix"], backfill["state"], f"{counts['seen']:,}",
            f"{acted:,}", backfill["created_at"][:19],
        )  # fmt: skip
    make_console().print(table, markup=False)


def _follow(api: Api, backfill_id: str, *, is_shown: bool) -> dict[str, Any]:
    """Return the backfill once it rests; leaving this does not stop it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not is_shown) as progress:
        task = progress.add_task("counting", total=None)
        while True:
            backfill: dict[str, Any] = api.get(f"backfills/{backfill_id}")
            total = None if backfill["plan"] is None else backfill["plan"]["seen"]
            progress.update(task, description=backfill["state"], completed=backfill["counts"]["seen"], total=total)
            if backfill["state"] not in _ACTIVE:
                return backfill
            time.sleep(_LOOK_EVERY_S)


def _summary(backfill: dict[str, Any]) -> list[str]:
    state = backfill["state"]
    counts = backfill["counts"]
    is_plan = state in {"counting", "counted"}
    what = backfill["note"] or ", ".join(backfill["places"])
    lines = [
        f"backfill {backfill['id']} of {backfill['pipeline']} is {state}: {what}",
        f"  {counts['seen']:,} blobs seen, in {backfill['since'][:19]} to {backfill['until'][:19]}",
        f"  {counts['new']:,} new: {'would be' if is_plan else 'were'} recorded and held for the pipeline",
        f"  {counts['again']:,} ignored or failed before: {'would be' if is_plan else 'were'} held again",
        f"  {counts['known']:,} known already: left alone",
        f"  {counts['unwanted']:,} that no route of it wants, {counts['outside']:,} empty or of another time",
    ]
    if backfill["confirm"] is not None:
        lines.append(f"nothing was changed; the same command with --confirm {backfill['confirm']} (or --yes) does it")
    return lines
