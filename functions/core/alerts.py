"""Names what a person must look at, although nothing waits for them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from functions.core.model import RunId, require_utc
from functions.core.tokens import digest

__all__ = ["Alert", "AlertKind"]


class AlertKind(StrEnum):
    """What happened; an alert rule matches on the value."""

    UNKNOWN_DATABRICKS_STATE = "unknown_databricks_state"  # a state without a declared meaning: its run has failed
    RUN_STALLED = "run_stalled"  # an attempt is open for longer than its pipeline's SLA
    CONTRADICTING_EVENTS = "contradicting_events"  # two events tell different facts of one ETag; telemetry only


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing to look at; raised again after a crash, it has the same id."""

    kind: AlertKind
    run_id: RunId
    attempt: int
    at: datetime
    detail: str

    def __post_init__(self) -> None:
        require_utc(self.at, "at")

    @property
    def id(self) -> str:
        """The same for the same thing, whoever raises it and when."""
        return digest("alert", self.kind.value, self.run_id, self.attempt)[:32]
