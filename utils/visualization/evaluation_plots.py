"""Plots of an evaluation: precision, recall and F1 curves, confusion matrix."""

from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from graftdet.utils.visualization.charts import DARK, MEDIUM, Chart, centered_text, shade, vertical_text
from graftdet.utils.visualization.drawing import Names, class_color, class_name, put_text, shorten, text_box
from graftdet.utils.visualization.plots import write

MAX_LEGEND = 12  # classes; with more, the curves have no colors and names


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


def plot_curves(curves: PlottedCurves, names: Names, folder: str | Path) -> list[Path]:
    """Write the curves of precision, recall and F1 over confidence, and of precision over recall.

    Args:
        curves: At IoU 0.5.
        names: Class names.
        folder: Gets P_curve.png, R_curve.png, F1_curve.png and PR_curve.png.

    Returns:
        The files written.
    """
    confidence = curves.confidence[curves.best]
    written = []
    for which, file, label in (
        ("precision", "P_curve.png", "precision"),
        ("recall", "R_curve.png", "recall"),
        ("f1", "F1_curve.png", "F1"),
        ("at_recall", "PR_curve.png", "precision"),
    ):
        x, x_label = (curves.recalls, "recall") if which == "at_recall" else (curves.confidence, "confidence")
        mean, values = curves.mean(which), getattr(curves, which)
        present = np.flatnonzero(curves.instances).tolist()
        if which == "at_recall":
            title, per_class = f"precision over recall at IoU 0.5: AP50 {mean.mean():.3f}", values.mean(1)
        else:
            per_class = curves.at_best(which)
            overall = per_class[present].mean() if present else 0.0
            title = f"{label} over confidence: {overall:.3f} at {confidence:.2f}"
        few = len(present) <= MAX_LEGEND
        legend = [("all classes", DARK)] if len(present) != 1 else []
        colors = [class_color(k) for k in present]  # as their boxes are drawn
        if few:
            legend += [
                (f"{per_class[k]:.2f} {class_name(names, k)}", color) for k, color in zip(present, colors, strict=True)
            ]
        else:
            legend.append((f"{len(present)} classes", (200, 180, 160)))
        chart = Chart(title, (0, 1), (0, 1), x_label, label, size=(820, 520), legend=legend)
        for k, color in zip(present, colors, strict=True):
            chart.line(x, values[k], color if few else (215, 200, 185), 1 + few)
        if len(present) != 1:
            chart.line(x, mean, DARK, 3)
        written.append(write(Path(folder) / file, chart.finish()))
    return written


def plot_confusion(confusion: PlottedConfusion, names: Names, path: str | Path, normalize: bool = True) -> Path:
    """Write a confusion matrix: one column per ground-truth class, one row per predicted class.

    The last row are false negatives (missed boxes), the last column false positives.

    Args:
        confusion: The counts.
        names: Class names.
        path: File to write.
        normalize: Divide each column by its sum; then the diagonal is the recall of each class.

    Returns:
        `path`.
    """
    matrix = confusion.matrix.astype(float)
    size = len(matrix)
    fractions = matrix / np.maximum(matrix.sum(0, keepdims=True), 1)
    cell = int(np.clip(960 // size, 2, max(72, 300 // size)))
    labels = [class_name(names, k) for k in range(size - 1)] + ["background"]
    scale = 0.42 if cell >= 16 else 0.36
    labels = [shorten(label, 150, scale) for label in labels] if cell >= 11 else [""] * size
    margin = max(text_box(label, scale)[0] for label in labels) + 40
    top, side = 44, size * cell
    image = np.full((top + side + margin, max(margin + side + 24, 540), 3), 255, np.uint8)
    title = "confusion matrix, normalized by column" if normalize else "confusion matrix, number of boxes"
    put_text(
        image,
        shorten(f"{title} (confidence {confusion.conf:g}, IoU {confusion.iou:g})", image.shape[1] - 24, 0.5),
        (12, 26),
        0.5,
        DARK,
    )
    shaded = fractions if normalize else matrix / max(matrix.max(), 1)
    colors = np.repeat(np.repeat(shade(shaded), cell, 0), cell, 1)
    image[top : top + side, margin : margin + side] = colors
    for k, label in enumerate(labels):
        middle = k * cell + cell // 2
        width, ascent, _ = text_box(label, scale)
        put_text(image, label, (margin - 8 - width, top + middle + ascent // 2), scale, DARK)
        x = margin + middle - ascent // 2 - 1
        vertical_text(image, label, (x, top + side + 6), DARK, scale, align="end")
    if cell >= 36:
        _write_cells(image, fractions if normalize else matrix, shaded, (margin, top), cell)
    cv2.rectangle(image, (margin, top), (margin + side, top + side), MEDIUM, 1)
    vertical_text(image, "predicted", (8, top + side // 2), MEDIUM)
    centered_text(
        image, "ground truth (background: false positives)", (margin + side // 2, image.shape[0] - 10), MEDIUM
    )
    return write(path, image)


def _write_cells(image, values, shaded, corner, cell) -> None:
    """Draw the values of all cells that are not zero."""
    for row, column in np.argwhere(values > 0):
        value = values[row, column]
        text = f"{value:.2f}" if values.max() <= 1 else f"{value:g}"
        scale = 0.42 if text_box(text, 0.42)[0] < cell - 4 else 0.3
        color = (255, 255, 255) if shaded[row, column] > 0.45 else DARK
        y = corner[1] + row * cell + (cell + text_box(text, scale)[1]) // 2
        centered_text(image, text, (corner[0] + column * cell + cell // 2, y), color, scale)
