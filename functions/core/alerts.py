"""Names what a person must look at, although nothing waits for them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from functions.core.model import PipelineKey, RunId, require_utc
from functions.core.tokens import digest

__all__ = ["Alert", "AlertKind"]


class AlertKind(StrEnum):
    """What happened; an alert rule matches on the value."""

    UNKNOWN_DATABRICKS_STATE = "unknown_databricks_state"  # a state without a declared meaning: its run has failed
    RUN_STALLED = "run_stalled"  # an attempt is open for longer than its pipeline's SLA
    BUDGET_SPENT = "budget_spent"  # a pipeline's work waits because it began as many runs today as it may
    TOTAL_BUDGET_SPENT = "total_budget_spent"  # likewise, because all pipelines together did
    CONTRADICTING_EVENTS = "contradicting_events"  # two events tell different facts of one ETag; telemetry only


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing to look at, about an attempt or about a pipeline's day; raised again, it has the same id."""

    kind: AlertKind
    pipeline: PipelineKey
    at: datetime
    detail: str
    run_id: RunId | None = None
    attempt: int | None = None

    def __post_init__(self) -> None:
        require_utc(self.at, "at")

    @property
    def id(self) -> str:
        """The same for the same thing, whoever raises it and when."""
        if self.run_id is None:
            return digest("alert", self.kind.value, self.pipeline, f"{self.at:%Y-%m-%d}")[:32]
        return digest("alert", self.kind.value, self.run_id, self.attempt or 0)[:32]
