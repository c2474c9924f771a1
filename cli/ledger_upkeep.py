"""Shows and brings forward how far the ledger's rows are in the layout of this release."""

import json
from typing import Final

import typer

from cli.ledger import open_ledger
from cli.wording import counted
from functions.ports import LayoutStatus, RunLedger
from local.cloud import Cloud

__all__ = ["migrate", "migrate_ledger", "show_ledger_status", "status_document"]

_ROWS_AT_A_TIME: Final = 500


def show_ledger_status(*, as_json: bool) -> None:
    """Print whether every row is in the layout of this release."""
    _print(open_ledger(Cloud().running_settings()).rows.layout_status(), as_json=as_json)


def migrate_ledger(*, as_json: bool) -> None:
    """Bring every row up to date; work may go on meanwhile, and stopping it half-way loses nothing."""
    _print(migrate(open_ledger(Cloud().running_settings()).rows, is_quiet=as_json), as_json=as_json)


def migrate(ledger: RunLedger, *, is_quiet: bool) -> LayoutStatus:
    """Look at every row that is left, and return how far the ledger is then."""
    status = ledger.layout_status()
    while not status.is_complete:
        status = ledger.bring_up_to_date(limit=_ROWS_AT_A_TIME)
        if not is_quiet:
            typer.echo(f"{counted(status.seen, 'row')} looked at, {status.moved} brought up to date")
    return status


def status_document(status: LayoutStatus) -> dict[str, object]:
    """Return what scripts get."""
    return {
        "layout": status.layout,
        "is_complete": status.is_complete,
        "rows_seen": status.seen,
        "rows_moved": status.moved,
    }


def _print(status: LayoutStatus, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(status_document(status)))
    elif status.is_complete:
        typer.echo(f"Every row of the ledger is in layout {status.layout}; {status.moved} of earlier ones were moved.")
    else:
        typer.echo(
            f"The ledger is on its way to layout {status.layout}: {counted(status.seen, 'row')} looked at, "
            f"{status.moved} brought up to date. The reconciler goes on; `tidegate ledger migrate` is quicker."
        )
