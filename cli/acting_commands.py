"""Retries, cancels, repairs, replays and dismisses, and says what that did and did not do."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import typer

from cli.api import open_api
from cli.cut_lists import say_if_cut
from cli.failures import CommandError
from cli.times import moment_of
from functions.core.reading import to_iso

__all__ = ["act_on_run", "dismiss", "list_dead_letters", "replay"]

_LETTERS_WIDTH: Final = 200  # columns: a name alone takes 70
_ARRIVAL_ID: Final = re.compile(r"[0-9a-f]{64}")
_KEY: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_RUN_ID: Final = re.compile(r"[a-z][a-z0-9_]{0,47}-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{12}", re.ASCII)


def act_on_run(action: str, run_id: str, *, as_json: bool) -> None:
    """Have a run retried, cancelled or repaired."""
    if not _RUN_ID.fullmatch(run_id):
        raise CommandError(f"got {run_id!r}, expected a run's id as `tidegate runs` shows it")
    _tell(open_api().post(f"runs/{run_id}/{action}"), as_json=as_json)


def replay(target: str, *, at: str | None, key: str | None, as_json: bool) -> None:
    """Replay an arrival, a run or a dead letter, whichever the text names."""
    if _ARRIVAL_ID.fullmatch(target):
        body = {"arrival": target}
    elif _RUN_ID.fullmatch(target):
        body = {"run": target}
    elif target.endswith(".json"):
        body = {"dead_letter": _dead_letter_name(target)}
    else:
        expected = "an arrival's id, a run's id, or the name of a dead letter, which ends in .json"
        raise CommandError(f"got {target!r}, expected {expected}")
    if at is not None:
        body["at"] = to_iso(moment_of("--at", at))
    if key is not None and not _KEY.fullmatch(key):
        raise CommandError(f"--key: got {key[:80]!r}, expected 1 to 128 letters, digits, '_', '.', ':' or '-'")
    try:
        answer = open_api().post("replays", body, idempotency_key=key)
    except CommandError as refusal:
        if refusal.document is not None and "did" in refusal.document:  # some messages of a dead letter were taken
            _tell(refusal.document, as_json=as_json)
        raise
    _tell(answer, as_json=as_json)


def dismiss(target: str, *, reason: str, as_json: bool) -> None:
    """Say of a dead letter that it needs nobody any more, and why."""
    if not target.endswith(".json"):
        raise CommandError(f"got {target!r}, expected the name of a dead letter, which ends in .json")
    if not reason.strip():
        raise CommandError("--reason: got nothing, expected why nobody needs to see to it")
    _tell(open_api().post("dismissals", {"dead_letter": _dead_letter_name(target), "reason": reason}), as_json=as_json)


def list_dead_letters(*, prefix: str, every: bool, limit: int, as_json: bool) -> None:
    """Print what was given up and waits for a person; on demand also what was replayed or dismissed since."""
    answer = open_api().get("dead-letters", prefix=prefix or None, all=1 if every else None, limit=limit)
    _print_letters(answer["dead_letters"], every=every, as_json=as_json)
    say_if_cut(answer, limit=limit, narrowed_by="--prefix")


def _print_letters(found: Sequence[Mapping[str, Any]], *, every: bool, as_json: bool) -> None:
    if as_json:
        for item in found:
            typer.echo(json.dumps(item))
        return
    if not found:
        waiting = "Nothing that was given up waits for anybody; --all lists what was replayed or dismissed, too."
        typer.echo("Nothing was given up." if every else waiting)
        return
    from cli.wording import make_console, make_table

    table = make_table("Name", "Kept", "Queue", "Reason", *(["Settled", "How"] if every else []))
    table.columns[0].no_wrap = True  # `tidegate replay` takes it whole
    for item in found:
        settled = _settled(item) if every else ()
        reason = (item["reason"] or "see the blob")[:200]
        table.add_row(item["name"], item["at"][:19], item["queue"] or "", reason, *settled)
    make_console(narrowest=_LETTERS_WIDTH).print(table, markup=False)


def _settled(letter: Mapping[str, Any]) -> tuple[str, str]:
    """Return when a letter was replayed, and what came of it; or else when it was dismissed, by whom and why."""
    if letter.get("replayed"):
        return letter["replayed"]["at"][:19], f"replayed: {'; '.join(letter['replayed']['did'])}"[:200]
    if letter.get("dismissed"):  # a control plane of an earlier release does not say
        dismissed = letter["dismissed"]
        return dismissed["at"][:19], f"dismissed by {dismissed['by']}: {dismissed['reason']}"[:200]
    return "", ""


def _dead_letter_name(text: str) -> str:
    """Return the name in the container deadletter, also from a URL of the local endpoint."""
    _, found, name = text.partition("/deadletter/")
    return name if found and text.startswith(("http://127.0.0.1", "http://localhost")) else text


def _tell(answer: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    for title, key in (("did", "did"), ("did not", "did_not")):
        for line in answer.get(key, []):
            typer.echo(f"{title}: {line}")
    if (url := answer.get("status_url")) is not None:
        typer.echo(f"look: {quote(url, safe=':/?=&-_.~')}")
