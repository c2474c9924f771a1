"""Reads what `pipelines.toml` says about limits: those of all pipelines, and a pipeline's own budget."""

from typing import Final

from functions.core.limits import Limits
from functions.core.reading import Reader

__all__ = ["read_limits", "read_max_runs_per_day"]

_MOST_IN_FLIGHT: Final = 1000  # half of the tasks that a workspace runs at once
_MOST_STARTS_A_SECOND: Final = 20
_MOST_RUNS_A_DAY: Final = 1_000_000


def read_limits(reader: Reader) -> Limits:
    """Return the limits of all pipelines together; what is not said is as `Limits` says."""
    if reader.is_absent:
        return Limits()
    reader.mapping(optional=("max_in_flight", "max_starts_per_second", "max_runs_per_day"))
    usual, runs = Limits(), reader.child("max_runs_per_day")
    return Limits(
        max_in_flight=reader.child("max_in_flight").integer(
            minimum=1, maximum=_MOST_IN_FLIGHT, default=usual.max_in_flight
        ),
        max_starts_per_second=reader.child("max_starts_per_second").integer(
            minimum=1, maximum=_MOST_STARTS_A_SECOND, default=usual.max_starts_per_second
        ),
        max_runs_per_day=None if runs.is_absent else runs.integer(minimum=1, maximum=_MOST_RUNS_A_DAY),
    )


def read_max_runs_per_day(reader: Reader) -> int | None:
    """Return how many runs a pipeline's budget allows a day, or None without a budget."""
    if reader.is_absent:
        return None
    reader.mapping(required=("max_runs_per_day",))
    runs = reader.child("max_runs_per_day")
    return None if runs.is_absent else runs.integer(minimum=1, maximum=_MOST_RUNS_A_DAY)
