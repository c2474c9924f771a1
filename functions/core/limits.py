"""Names what all pipelines together may do, beside what each may do alone."""

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The table `[limits]` of `pipelines.toml`, complete."""

    max_in_flight: int = 50  # well below the 1,000 to 2,000 tasks that a workspace runs at once
    max_starts_per_second: int = 5  # well below the 10 to 20 a second at which a workspace refuses run-now
    max_runs_per_day: int | None = None  # by UTC day; None: no limit
