"""Prints tables and counts in the same way everywhere."""

from rich.console import Console
from rich.table import Table

__all__ = ["counted", "make_console", "make_table"]

_NARROWEST = 150  # columns: run ids and URLs stay whole, a narrower terminal wraps by itself


def make_console(*, narrowest: int = _NARROWEST) -> Console:
    """Return a console that never squeezes a table into a few columns, in a terminal or in a log."""
    console = Console()
    return Console(width=max(console.width, narrowest))


def make_table(*columns: str, title: str | None = None) -> Table:
    """Return a table without lines, which reads well in a log too."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def counted(number: int, thing: str) -> str:
    """Return a number with its thing, in the plural if need be.

    >>> counted(1, "file"), counted(1200, "file")
    ('1 file', '1,200 files')
    """
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
