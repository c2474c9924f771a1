"""Names what the ledger keeps about signals: what became of each, and which window last started a run."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from functions.core.model import PipelineKey, RunId, require_utc
from functions.core.reading import to_iso

__all__ = ["SignalMark", "SignalRecord", "signal_to_public_json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalMark:
    """The window that last started a run by a rule, and the one before it, for a claim that led to no run."""

    run_id: RunId | None  # None: the only claim so far was given up
    at: datetime  # when it was claimed
    before_run_id: RunId | None = None
    before_at: datetime | None = None

    def __post_init__(self) -> None:
        require_utc(self.at, "at")

    def is_cooling(self, now: datetime, cooldown_hours: int) -> bool:
        """Return whether the cooldown holds; a mark further ahead than that is a wrong clock's and holds nothing."""
        return self.run_id is not None and abs(now - self.at) < timedelta(hours=cooldown_hours)

    def followed_by(self, run_id: RunId, at: datetime) -> "SignalMark":
        """Return the mark of the next window's run."""
        return SignalMark(run_id=run_id, at=at, before_run_id=self.run_id, before_at=self.at)

    def given_up(self) -> "SignalMark":
        """Return the mark as it was before its window was claimed."""
        return SignalMark(run_id=self.before_run_id, at=self.before_at or self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRecord:
    """What became of one signal, whatever it was."""

    source: str
    event_id: str
    event_time: datetime
    type: str
    model_name: str
    window_start: datetime
    window_end: datetime
    recorded_at: datetime
    pipeline: PipelineKey | None  # that listens to it
    rule: str  # of that pipeline, "" if none listens
    run_id: RunId | None  # of its window
    reason: str  # a code of `SkipReason`, "" if there is a run
    what: str  # the same for people
    config_version: str


def signal_to_public_json(record: SignalRecord) -> dict[str, object]:
    """Return what people are shown of a signal."""
    return {
        "id": record.event_id,
        "source": record.source,
        "type": record.type,
        "time": to_iso(record.event_time),
        "model": record.model_name,
        "window": {"start": to_iso(record.window_start), "end": to_iso(record.window_end)},
        "recorded_at": to_iso(record.recorded_at),
        "pipeline": record.pipeline,
        "signal": record.rule or None,
        "run_id": record.run_id,
        "reason": record.reason or None,
        "what": record.what,
        "config_version": record.config_version,
    }
