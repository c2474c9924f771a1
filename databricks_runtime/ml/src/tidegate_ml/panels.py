"""Draws single panels about a classifier's probabilities onto axes that the caller places."""

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tidegate_ml.metrics import calibration_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "INK",
    "MODEL",
    "MUTED",
    "PAPER",
    "by_hour",
    "calibration",
    "carriers",
    "importance",
    "pca",
    "precision_recall",
    "roc",
]

FloatArray = npt.NDArray[np.float64]

INK: Final = "#1d2b3a"
MUTED: Final = "#7b8794"
PAPER: Final = "#fbfaf7"
MODEL: Final = "#1f6f8b"
ACTUAL: Final = "#e07a3f"
GRID: Final = "#e4e1da"
_MAX_PCA_POINTS: Final = 4000
_MIN_FLIGHTS: Final = 30  # hours and carriers with fewer held-out flights are too noisy to draw
_CURVE_POINTS: Final = 400


def calibration(axes: "Axes", happened: FloatArray, probability: FloatArray, baseline: FloatArray) -> None:
    """Compare predicted probabilities with observed rates in ten bins of equally many flights."""
    limit = 0.01
    for values, colour, label in ((baseline, MUTED, "baseline"), (probability, MODEL, "model")):
        predicted, observed, rows = calibration_bins(happened, values)
        error = 1.96 * np.sqrt(observed * (1 - observed) / rows)
        axes.errorbar(
            predicted,
            observed,
            yerr=error,
            color=colour,
            marker="o",
            markersize=5,
            linewidth=1.8,
            capsize=0,
            label=label,
        )
        limit = max(limit, float(predicted.max()), float((observed + error).max()))
    axes.plot([0, limit], [0, limit], color=INK, linestyle=":", linewidth=1)
    axes.set(xlim=(0, limit * 1.03), ylim=(0, limit * 1.03), xlabel="predicted", ylabel="observed")
    _percent(axes, both=True)
    _finish(axes, "When it says 30 %, is it 30 %?")


def roc(axes: "Axes", happened: FloatArray, probability: FloatArray, baseline: FloatArray) -> None:
    """Draw the receiver operating characteristic of model and baseline."""
    from sklearn.metrics import roc_auc_score, roc_curve

    for values, colour, label in ((baseline, MUTED, "baseline"), (probability, MODEL, "model")):
        false_rate, true_rate, _ = roc_curve(happened, values)
        keep = _thinned(len(false_rate))
        score = roc_auc_score(happened, values)
        axes.plot(false_rate[keep], true_rate[keep], color=colour, linewidth=2, label=f"{label}  {score:.3f}")
    axes.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="on-time flights flagged", ylabel="late flights found")
    _percent(axes, both=True)
    _finish(axes, "ROC, with the area under it", legend="lower right")


def precision_recall(axes: "Axes", happened: FloatArray, probability: FloatArray, baseline: FloatArray) -> None:
    """Draw precision over recall of model and baseline, and the share of late flights."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    for values, colour, label in ((baseline, MUTED, "baseline"), (probability, MODEL, "model")):
        precision, recall, _ = precision_recall_curve(happened, values)
        keep = _thinned(int((recall > 0.01).sum()))  # noqa: PLR2004 - the first per cent is a few flights: noise
        score = average_precision_score(happened, values)
        axes.plot(recall[keep], precision[keep], color=colour, linewidth=2, label=f"{label}  {score:.3f}")
    axes.axhline(float(happened.mean()), color=INK, linestyle=":", linewidth=1)
    axes.set(xlim=(0, 1), xlabel="late flights found", ylabel="of those flagged, late")
    _percent(axes, both=True)
    _finish(axes, "Precision and recall", legend="upper right")


def by_hour(axes: "Axes", flights: pd.DataFrame, happened: FloatArray, probability: FloatArray) -> None:
    """Show observed and predicted late arrivals, and how many flights there are, by scheduled hour of departure."""
    frame = pd.DataFrame(
        {"hour": flights["sched_dep_time"].to_numpy() // 100, "happened": happened, "probability": probability}
    )
    table = frame.groupby("hour").agg(
        rows=("happened", "size"), observed=("happened", "mean"), predicted=("probability", "mean")
    )
    table = table[table["rows"] >= min(_MIN_FLIGHTS, int(table["rows"].max()))]
    hours = table.index.to_numpy(float)
    volume = axes.twinx()
    volume.bar(hours, table["rows"], color=GRID, width=0.86)
    volume.set_ylim(0, float(table["rows"].max()) * 2.6)
    volume.set_yticks([])
    volume.spines[:].set_visible(False)
    axes.set_zorder(volume.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.plot(hours, table["observed"], color=ACTUAL, marker="o", linewidth=2.2, label="observed")
    axes.plot(hours, table["predicted"], color=MODEL, marker="o", linewidth=2.2, label="predicted")
    axes.set(xlabel="scheduled hour of departure (bars: flights)", ylabel="late arrivals")
    axes.set_ylim(0, max(float(table["observed"].max()), float(table["predicted"].max()), 0.01) * 1.15)
    axes.set_xticks(hours[:: 1 if len(hours) <= 20 else 2])  # noqa: PLR2004 - labels that still fit side by side
    _percent(axes)
    _finish(axes, "The day gets later and later", legend="upper left", grid=False)


def carriers(axes: "Axes", flights: pd.DataFrame, happened: FloatArray, probability: FloatArray) -> None:
    """Box the predicted probabilities of each carrier, in the order of the observed rate, which is marked."""
    frame = pd.DataFrame(
        {"carrier": flights["carrier"].astype(str).to_numpy(), "happened": happened, "probability": probability}
    )
    table = frame.groupby("carrier")["happened"].agg(["size", "mean"]).sort_values("mean")
    table = table[table["size"] >= min(_MIN_FLIGHTS, int(table["size"].max()))]
    boxes = [frame.loc[frame["carrier"] == code, "probability"].to_numpy() for code in table.index]
    drawn = axes.boxplot(boxes, widths=0.62, patch_artist=True, showfliers=False, whis=(5, 95))
    for box in drawn["boxes"]:
        box.set(facecolor="#cfe3ea", edgecolor=MODEL, linewidth=1.2)
    for line in (*drawn["medians"], *drawn["whiskers"], *drawn["caps"]):
        line.set(color=MODEL, linewidth=1.4)
    places = np.arange(1, len(table) + 1)
    axes.scatter(places, table["mean"], color=ACTUAL, zorder=3, s=46, label="observed rate")
    axes.set_xticks(places, list(table.index))
    axes.set(ylabel="probability of a late arrival", xlabel="carrier (box: half of its flights; whiskers: 5 % to 95 %)")
    axes.set_ylim(bottom=0)
    _percent(axes)
    _finish(axes, "Carriers are not alike", legend="upper left")


def importance(axes: "Axes", shares: "pd.Series[float]") -> None:
    """Show how much of the loss each feature's splits removed, as a share of all."""
    shown = shares.head(10).iloc[::-1]
    names = [str(name).replace("_", " ") for name in shown.index]
    axes.barh(names, shown.to_numpy(), color=MODEL, height=0.66)
    for place, value in enumerate(shown.to_numpy()):
        axes.text(float(value), place, f" {value:.0%}", va="center", fontsize=9, color=INK)
    axes.set_xlim(0, max(float(shown.max()), 0.01) * 1.18)  # a model without a split looks at nothing
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    _finish(axes, "What it looks at", grid=False)
    axes.set_xlabel("share of all gain", color=MUTED, fontsize=9.5)


def pca(axes: "Axes", features: pd.DataFrame, probability: FloatArray) -> None:
    """Project the standardised numeric features onto their first two principal components."""
    from tidegate_ml.features import CATEGORICAL_FEATURES

    step = max(1, len(features) // _MAX_PCA_POINTS)
    chosen = features.drop(columns=list(CATEGORICAL_FEATURES)).iloc[::step].to_numpy(np.float64)
    spread = chosen.std(axis=0)
    standard = (chosen - chosen.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    _, strength, axes_of_data = np.linalg.svd(standard, full_matrices=False)
    explained = strength**2 / max(float((strength**2).sum()), 1e-12)
    places = standard @ axes_of_data[:2].T
    dots = axes.scatter(places[:, 0], places[:, 1], c=probability[::step], cmap="YlGnBu", s=7, linewidths=0, alpha=0.85)
    figure = axes.figure
    bar = figure.colorbar(dots, ax=axes, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    bar.ax.tick_params(labelsize=9, colors=MUTED, length=0)
    axes.set(xlabel=f"component 1 ({explained[0]:.0%} of variance)", ylabel=f"component 2 ({explained[1]:.0%})")
    _finish(axes, "Features in two dimensions", grid=False)


def _thinned(points: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, points - 1, min(points, _CURVE_POINTS)).astype(np.int64))


def _percent(axes: "Axes", *, both: bool = False) -> None:
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    if both:
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _finish(axes: "Axes", title: str, *, legend: str | None = None, grid: bool = True) -> None:
    axes.set_title(title, loc="left", fontsize=12.5, fontweight="bold", color=INK, pad=9)
    axes.set_facecolor(PAPER)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(colors=MUTED, labelsize=9.5, length=0)
    axes.xaxis.label.set(color=MUTED, fontsize=9.5)
    axes.yaxis.label.set(color=MUTED, fontsize=9.5)
    if grid:
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9.5, labelcolor=INK, loc=legend or "best")
