"""Measures probabilities against what happened."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["calibration_bins", "calibration_error", "log_loss_of", "measure"]

FloatArray = npt.NDArray[np.float64]
_BINS: Final = 10
_SMALLEST: Final = 1e-15


def log_loss_of(happened: FloatArray, probability: FloatArray) -> float:
    """Return the mean negative log-likelihood, in nats."""
    clipped = np.clip(probability, _SMALLEST, 1 - _SMALLEST)
    return float(-np.mean(happened * np.log(clipped) + (1 - happened) * np.log(1 - clipped)))


def calibration_bins(happened: FloatArray, probability: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return predicted mean, observed rate and number of rows of up to ten bins with equally many rows."""
    order = np.argsort(probability, kind="stable")
    groups = [group for group in np.array_split(order, _BINS) if group.size]
    predicted = np.array([probability[group].mean() for group in groups])
    observed = np.array([happened[group].mean() for group in groups])
    return predicted, observed, np.array([float(group.size) for group in groups])


def calibration_error(happened: FloatArray, probability: FloatArray) -> float:
    """Return the expected calibration error over ten bins with equally many rows.

    Source: Naeini, Cooper, Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """
    predicted, observed, rows = calibration_bins(happened, probability)
    return float(np.average(np.abs(predicted - observed), weights=rows))


def measure(happened: FloatArray, probability: FloatArray) -> dict[str, float]:
    """Return the metrics by name; ranking metrics are left out when only one class occurs, where they mean nothing."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    measured = {
        "log_loss": log_loss_of(happened, probability),
        "brier": float(np.mean((probability - happened) ** 2)),
        "calibration_error": calibration_error(happened, probability),
        "base_rate": float(happened.mean()),
    }
    if 0 < measured["base_rate"] < 1:
        measured["roc_auc"] = float(roc_auc_score(happened, probability))
        measured["average_precision"] = float(average_precision_score(happened, probability))
    return {name: value for name, value in measured.items() if math.isfinite(value)}
