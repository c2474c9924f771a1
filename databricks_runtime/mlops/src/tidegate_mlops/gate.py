"""Decides whether a newly trained model may take the champion's place."""

from dataclasses import dataclass
from typing import Final

__all__ = ["LOSS_TOLERANCE", "GateDecision", "decide_promotion"]

LOSS_TOLERANCE: Final = 0.005  # nats per row: newer data is worth this much, anything worse is a worse model


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """Whether the challenger becomes champion, and the sentence that is kept about it."""

    is_promoted: bool
    reason: str


def decide_promotion(
    *,
    challenger_loss: float,
    champion_version: str | None,
    champion_loss: float | None,
    tolerance: float = LOSS_TOLERANCE,
) -> GateDecision:
    """Return the decision from both models' loss on the same held-out rows; lower is better.

    Args:
        challenger_loss: of the new model; NaN never wins.
        champion_version: None if there is no champion yet.
        champion_loss: None if the champion could not be measured; then it stays, as nothing is known against it.
        tolerance: how much worse the challenger may be.
    """
    if not challenger_loss < float("inf"):
        return GateDecision(is_promoted=False, reason=f"the challenger's loss is {challenger_loss}")
    if champion_version is None:
        return GateDecision(is_promoted=True, reason="there was no champion yet")
    if champion_loss is None:
        reason = (
            f"champion version {champion_version} could not be measured, so it stays until a person moves the alias"
        )
        return GateDecision(is_promoted=False, reason=reason)
    comparison = f"loss {challenger_loss:.4f} against {champion_loss:.4f} of champion version {champion_version}"
    if challenger_loss <= champion_loss + tolerance:
        return GateDecision(is_promoted=True, reason=f"{comparison}, within the tolerance of {tolerance:g}")
    return GateDecision(is_promoted=False, reason=f"{comparison}, worse by more than the tolerance of {tolerance:g}")
