"""Draws what a person wants to know about a fitted model, as PNG files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tidegate_ml import panels
from tidegate_ml.baseline import CarrierHourRate
from tidegate_ml.model import DelayModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tidegate_ml.flight_delay import TrainingSet

__all__ = ["draw_figures"]

_DPI: Final = 110


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """What the panels are drawn from: the held-out flights and what was predicted for them."""

    happened: npt.NDArray[np.float64]
    probability: npt.NDArray[np.float64]
    baseline: npt.NDArray[np.float64]
    flights: pd.DataFrame
    features: pd.DataFrame
    importance: "pd.Series[float]"


def draw_figures(
    model: DelayModel, prepared: "TrainingSet", metrics: Mapping[str, float], folder: Path, *, title: str
) -> Sequence[Path]:
    """Write `model_quality.png` and one file per panel, and return their paths in that order."""
    held_out, fitted = prepared.held_out(), prepared.fitted()
    shown = _Shown(
        happened=held_out.flights["delayed"].to_numpy(np.float64),
        probability=model.predict_features(held_out.features, threads=2),
        baseline=CarrierHourRate.of(fitted.flights, fitted.flights["delayed"]).predict(held_out.flights),
        flights=held_out.flights,
        features=held_out.features,
        importance=model.importance(),
    )
    drawn = _panels(shown)
    paths = [_compose(drawn, metrics, folder / "model_quality.png", title=title, since=prepared.holdout_first_day)]
    for name, (draw, width) in drawn.items():
        figure = Figure(figsize=(width, 4.6), layout="constrained", facecolor=panels.PAPER)
        draw(figure.subplots())
        paths.append(_save(figure, folder / f"{name}.png"))
    return paths


def _panels(shown: _Shown) -> dict[str, tuple[Callable[["Axes"], None], float]]:
    """Return each panel's drawing function and its width in inches when it stands alone."""
    flights, happened, probability = shown.flights, shown.happened, shown.probability
    return {
        "calibration": (lambda axes: panels.calibration(axes, happened, probability, shown.baseline), 6.0),
        "roc": (lambda axes: panels.roc(axes, happened, probability, shown.baseline), 6.0),
        "precision_recall": (lambda axes: panels.precision_recall(axes, happened, probability, shown.baseline), 6.0),
        "delay_by_hour": (lambda axes: panels.by_hour(axes, flights, happened, probability), 9.0),
        "importance": (lambda axes: panels.importance(axes, shown.importance), 6.0),
        "carriers": (lambda axes: panels.carriers(axes, flights, happened, probability), 9.0),
        "pca": (lambda axes: panels.pca(axes, shown.features, probability), 6.0),
    }


def _compose(
    drawn: Mapping[str, tuple[Callable[["Axes"], None], float]],
    metrics: Mapping[str, float],
    path: Path,
    *,
    title: str,
    since: str,
) -> Path:
    figure = Figure(figsize=(15, 13.4), facecolor=panels.PAPER)
    figure.text(0.05, 0.962, title, fontsize=21, fontweight="bold", color=panels.INK)
    question = (
        f"Will this flight arrive 15 minutes late or more? Measured on flights from {since} on, never seen in training."
    )
    figure.text(0.05, 0.939, question, fontsize=12, color=panels.MUTED)
    _tiles(figure, metrics)
    grid = figure.add_gridspec(3, 24, hspace=0.36, wspace=0.6, left=0.055, right=0.975, top=0.815, bottom=0.05)
    places = {
        "delay_by_hour": grid[0, :15],
        "calibration": grid[0, 17:],
        "carriers": grid[1, :15],
        "importance": grid[1, 18:],
        "roc": grid[2, :7],
        "precision_recall": grid[2, 9:16],
        "pca": grid[2, 18:],
    }
    for name, place in places.items():
        drawn[name][0](figure.add_subplot(place))
    return _save(figure, path)


def _tiles(figure: Figure, metrics: Mapping[str, float]) -> None:
    """Write the headline numbers, each with the baseline's under it."""
    shown = (
        ("ROC AUC", "roc_auc"),
        ("average precision", "average_precision"),
        ("log-loss", "log_loss"),
        ("Brier score", "brier"),
        ("calibration error", "calibration_error"),
        ("late flights", "base_rate"),
    )
    for position, (label, name) in enumerate(shown):
        left = 0.05 + position * 0.155
        value = metrics.get(name)
        text = (
            "n/a"
            if value is None
            else (f"{value:.1%}" if name in {"base_rate", "calibration_error"} else f"{value:.3f}")
        )
        figure.text(left, 0.888, text, fontsize=23, fontweight="bold", color=panels.MODEL)
        figure.text(left, 0.87, label, fontsize=11, color=panels.INK)
        baseline = metrics.get(f"baseline_{name}")
        if baseline is not None:
            written = f"{baseline:.1%}" if name == "calibration_error" else f"{baseline:.3f}"
            figure.text(left, 0.854, f"baseline {written}", fontsize=10, color=panels.MUTED)


def _save(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=_DPI, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return path
