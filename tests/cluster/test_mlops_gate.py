"""Tests whether a challenger takes the champion's place."""

import pytest

from tidegate_mlops.gate import decide_promotion

WORSE = "loss 0.6200 against 0.6000 of champion version 3, worse by more than the tolerance of 0.01"


@pytest.mark.parametrize(
    ("challenger", "version", "champion", "is_promoted", "reason"),
    [
        (0.5, None, None, True, "there was no champion yet"),
        (0.5, "3", 0.6, True, "loss 0.5000 against 0.6000 of champion version 3, within the tolerance of 0.01"),
        (0.61, "3", 0.6, True, "loss 0.6100 against 0.6000 of champion version 3, within the tolerance of 0.01"),
        (
            0.62,
            "3",
            0.6,
            False,
            WORSE,
        ),
        (0.5, "3", None, False, "champion version 3 could not be measured, so it stays until a person moves the alias"),
        (float("nan"), None, None, False, "the challenger's loss is nan"),
        (float("inf"), "3", 0.6, False, "the challenger's loss is inf"),
    ],
)
def test_the_gate(
    challenger: float, version: str | None, champion: float | None, is_promoted: bool, reason: str
) -> None:
    """A challenger that is not measurably worse takes over; every decision has its sentence."""
    decision = decide_promotion(
        challenger_loss=challenger, champion_version=version, champion_loss=champion, tolerance=0.01
    )

    assert (decision.is_promoted, decision.reason) == (is_promoted, reason)
