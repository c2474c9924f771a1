"""Makes records that many tests need and few care about: each says only what it wants to be different."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from functions.core.backfills import Backfill, BackfillState
from functions.core.model import ModelSignal, PipelineKey, SignalType

__all__ = ["make_backfill", "make_signal"]

_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make_signal(**changes: object) -> ModelSignal:
    """Return what a monitor says of a week's drift of the flight-delay model."""
    end = changes.get("time", _NOON)
    assert isinstance(end, datetime)
    signal = ModelSignal(
        event_id="2026-W09",
        source="/monitors/weekly",
        type=SignalType.DRIFT_DETECTED,
        time=end,
        environment="local",
        model_name="main.tidegate.flight_delay",
        model_version="7",
        window_start=end - timedelta(days=7),
        window_end=end,
        metrics={"psi": 0.31},
    )
    return replace(signal, **changes)  # type: ignore[arg-type] # fields of this class, by name


def make_backfill(**changes: object) -> Backfill:
    """Return a backfill of a day whose dry run has begun."""
    backfill = Backfill(
        id="0123456789abcdef",
        pipeline=PipelineKey("flight_delay_scoring"),
        prefix="",
        since=_NOON - timedelta(days=1),
        until=_NOON,
        again=False,
        per_minute=60,
        places=(("input", "flights/new/"),),
        state=BackfillState.COUNTING,
        asked_by="ann",
        created_at=_NOON,
        updated_at=_NOON,
    )
    return replace(backfill, **changes)  # type: ignore[arg-type] # fields of this class, by name
