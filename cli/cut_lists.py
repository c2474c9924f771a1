"""Says on standard error that a list has more than was shown, so that nobody takes a part of it for all."""

from collections.abc import Mapping
from typing import Any, Final

import typer

__all__ = ["say_if_cut"]

_MOST: Final = 1000  # entries that one answer has


def say_if_cut(answer: Mapping[str, Any], *, limit: int, narrowed_by: str = "") -> None:
    """Say so if there are more than `limit`, and how to see them; a control plane of an earlier release cannot tell.

    Args:
        answer: The control plane's.
        limit: How many were asked for.
        narrowed_by: The options that make the list shorter, for one that cannot be longer.
    """
    if not answer.get("has_more"):
        return
    if limit < _MOST:
        how = f": --limit {min(2 * limit, _MOST)}"
    else:
        how = f" than one answer has: narrow it with {narrowed_by}" if narrowed_by else " than one answer has"
    typer.echo(f"showing {limit}, there are more{how}", err=True)
