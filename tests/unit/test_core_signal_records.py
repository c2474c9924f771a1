"""Tests what is shown of a signal."""

from datetime import UTC, datetime
from typing import Any

import pytest

from functions.core.model import PipelineKey, RunId
from functions.core.signal_records import SignalRecord, signal_to_public_json

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        (
            {"run_id": RunId("train-20260301T120000Z-0123456789ab"), "pipeline": PipelineKey("train"), "rule": "drift"},
            ("train-20260301T120000Z-0123456789ab", "train", "drift", None),
        ),
        ({"reason": "no_signal_rule"}, (None, None, None, "no_signal_rule")),
    ],
)
def test_a_signal_is_shown_with_its_run_or_its_reason(changes: dict[str, Any], shown: tuple[str | None, ...]) -> None:
    fields: dict[str, Any] = {
        "source": "/monitors/weekly",
        "event_id": "2026-W09",
        "event_time": NOON,
        "type": "tidegate.model.drift_detected.v1",
        "model_name": "main.tidegate.m",
        "window_start": NOON,
        "window_end": NOON,
        "recorded_at": NOON,
        "pipeline": None,
        "rule": "",
        "run_id": None,
        "reason": "",
        "what": "it says why",
        "config_version": "0123",
    }

    document = signal_to_public_json(SignalRecord(**(fields | changes)))

    assert (document["run_id"], document["pipeline"], document["signal"], document["reason"]) == shown
    assert document["window"] == {"start": "2026-03-01T12:00:00.000000Z", "end": "2026-03-01T12:00:00.000000Z"}
