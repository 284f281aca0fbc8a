"""Plots of an evaluation: precision, recall and F1 curves, confusion matrix."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from graftdet.utils.text import counted
from graftdet.utils.visualization.drawing import Names
from graftdet.utils.visualization.figures import INK, MUTED, hex_color, legend, new_figure, save, styled
from graftdet.utils.visualization.plots import short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LEGEND = 12  # classes; with more, the curves have no colors and names
CURVES = {  # curve -> file, label
    "precision": ("P_curve.png", "precision"),
    "recall": ("R_curve.png", "recall"),
    "f1": ("F1_curve.png", "F1"),
    "at_recall": ("PR_curve.png", "precision"),
}
CELL = 0.17  # inches per cell of a large confusion matrix
MAX_NAMED = 150  # classes of a confusion matrix with names and numbers
STRONG = "#08519c"  # of a full cell


class PlottedCurves(Protocol):
    """Curves at IoU 0.5, such as `graftdet.utils.evaluation.metrics.Curves`."""

    confidence: np.ndarray  # (k,)
    recalls: np.ndarray  # (r,)
    precision: np.ndarray  # (nc, k), as recall and f1
    at_recall: np.ndarray  # (nc, r): precision
    instances: np.ndarray  # (nc,) number of ground-truth boxes
    best: int  # index into `confidence` with the highest mean F1

    def mean(self, name: str, /) -> np.ndarray:
        """The mean over all classes with ground-truth boxes of the curve `name`."""

    def at_best(self, name: str, /) -> np.ndarray:
        """The values (nc,) of the curve `name` at the confidence `best`."""


class PlottedConfusion(Protocol):
    """A confusion matrix, such as `graftdet.utils.evaluation.metrics.ConfusionMatrix`."""

    matrix: np.ndarray  # (nc + 1, nc + 1): predicted class, ground-truth class; the last is background
    conf: float
    iou: float


def plot_evaluation(
    curves: PlottedCurves, confusion: PlottedConfusion, names: Names, folder: str | Path, formats: Sequence[str] = ()
) -> list[Path]:
    """Write all charts of an evaluation; see `plot_curves` and `plot_confusion`. "none" among `formats`: none."""
    if "none" in formats:
        return []
    return plot_curves(curves, names, folder, formats) + plot_confusion(confusion, names, folder, formats)


def plot_curves(curves: PlottedCurves, names: Names, folder: str | Path, formats: Sequence[str] = ()) -> list[Path]:
    """Write the curves of precision, recall and F1 over confidence, and of precision over recall.

    Args:
        curves: At IoU 0.5.
        names: Class names.
        folder: Gets P_curve, R_curve, F1_curve and PR_curve.
        formats: png, pdf, svg; empty: png.

    Returns:
        The files written.
    """
    written = []
    for which, (file, _) in CURVES.items():
        written += save(curve_figure(curves, which, names), Path(folder) / file, formats)
    return written


@styled
def curve_figure(curves: PlottedCurves, which: str, names: Names) -> "Figure":
    """One of the `CURVES` of all classes with ground truth: in the colors of their boxes if they are few."""
    label = CURVES[which][1]
    over_recall = which == "at_recall"
    x, x_label = (curves.recalls, "recall") if over_recall else (curves.confidence, "confidence")
    mean, values = curves.mean(which), getattr(curves, which)
    present = np.flatnonzero(curves.instances).tolist()
    per_class = values.mean(1) if over_recall else curves.at_best(which)
    figure, ((axes,),) = new_figure(7.4, 4.6)
    if over_recall:
        axes.set_title(f"precision over recall at IoU 0.5: AP50 {mean.mean():.3f}")
    else:
        overall = per_class[present].mean() if present else 0.0
        confidence = curves.confidence[curves.best]
        axes.set_title(f"{label} over confidence: {overall:.3f} at {confidence:.2f}")
        axes.axvline(confidence, color=MUTED, linewidth=1, linestyle=":")
    few = len(present) <= MAX_LEGEND
    entries = [("all classes", INK)] if len(present) != 1 else []
    if few:
        entries += [(f"{per_class[k]:.2f} {short_name(names, k)}", hex_color(k)) for k in present]
    else:
        entries.append((f"{counted(len(present), 'class')}", MUTED))
    for k in present:
        line = {"color": hex_color(k), "linewidth": 1.6} if few else {"color": MUTED, "linewidth": 0.8, "alpha": 0.4}
        axes.plot(x, values[k], **line)
    if len(present) != 1:
        axes.plot(x, mean, color=INK, linewidth=2.6)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel=x_label, ylabel=label)
    axes.grid(True)
    legend(axes, entries, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    return figure


def plot_confusion(
    confusion: PlottedConfusion, names: Names, folder: str | Path, formats: Sequence[str] = ()
) -> list[Path]:
    """Write a confusion matrix, normalized and as counts.

    Args:
        confusion: The counts.
        names: Class names.
        folder: Gets confusion_matrix and confusion_matrix_counts.
        formats: png, pdf, svg; empty: png.

    Returns:
        The files written.
    """
    written = save(confusion_figure(confusion, names), Path(folder) / "confusion_matrix.png", formats)
    counts = confusion_figure(confusion, names, normalize=False)
    return written + save(counts, Path(folder) / "confusion_matrix_counts.png", formats)


@styled
def confusion_figure(confusion: PlottedConfusion, names: Names, normalize: bool = True) -> "Figure":
    """A confusion matrix: one column per ground-truth class, one row per predicted class.

    The last row are false negatives (missed boxes), the last column false positives.

    Args:
        confusion: The counts.
        names: Class names.
        normalize: Divide each column by its sum; then the diagonal is the recall of each class.
    """
    matrix = confusion.matrix.astype(float)
    size = len(matrix)
    fractions = matrix / np.maximum(matrix.sum(0, keepdims=True), 1)
    levels = fractions if normalize else np.sqrt(matrix / max(matrix.max(), 1))  # the root makes low counts visible
    named = size <= MAX_NAMED
    cell = min(max(CELL, 5.0 / size), 0.9) if named else 14 / size
    side = size * cell + 2.2
    figure, ((axes,),) = new_figure(max(side, 4.5), max(side - 0.4, 4.0))
    colors = np.zeros((size, size, 4))
    colors[..., :3] = [int(STRONG[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    colors[..., 3] = levels
    axes.imshow(colors, interpolation="nearest")
    title = "confusion matrix, normalized by column" if normalize else "confusion matrix, number of boxes"
    axes.set_title(f"{title}\nconfidence {confusion.conf:g}, IoU {confusion.iou:g}")
    axes.set_xlabel("ground truth (background: false positives)")
    axes.set_ylabel("predicted (background: missed)")
    axes.spines[:].set_visible(True)
    font = float(np.clip(cell * 40, 6.5, 9))
    if named:
        labels = [*(short_name(names, k) for k in range(size - 1)), "background"]
        axes.set_xticks(range(size), labels, rotation=90, fontsize=font)
        axes.set_yticks(range(size), labels, fontsize=font)
        axes.tick_params(length=2)
        _write_cells(axes, fractions if normalize else matrix, levels, cell)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def _write_cells(axes: "Axes", values: np.ndarray, levels: np.ndarray, cell: float) -> None:
    """Write the values of all cells that are not zero; fractions in percent where cells are small."""
    fractions = values.max(initial=0) <= 1
    size = float(np.clip(cell * 26, 4.2, 10))
    for row, column in np.argwhere(values >= (0.005 if fractions else 1)):
        value = values[row, column]
        if not fractions:
            text = f"{value:g}" if value < 10_000 else f"{value / 1000:.0f}k"
        else:
            text = f"{value:.2f}" if cell > 0.3 else f"{100 * value:.0f}"
        color = "white" if levels[row, column] > 0.55 else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)
