"""Plots of training: statistics of labels, results over the epochs."""

import csv
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from graftdet.utils.boxes import is_tensor
from graftdet.utils.images.io import write_image
from graftdet.utils.visualization.charts import DARK, MEDIUM, SERIES, Chart
from graftdet.utils.visualization.drawing import Names, class_color, class_name, image_grid

MAX_BARS = 100


def plot_labels(boxes_cxcywh: Any, labels: Any, names: Names, path: str | Path) -> Path:
    """Write the statistics of a dataset's boxes: number per class, distribution of centers and sizes.

    Args:
        boxes_cxcywh: (n, 4) normalized by the size of the image, array or tensor.
        labels: (n,) class indices.
        names: Class names.
        path: File to write.

    Returns:
        `path`.
    """
    boxes, labels = _array(boxes_cxcywh).reshape(-1, 4), _array(labels).astype(int)
    nc = max(len(names), int(labels.max(initial=-1)) + 1)
    counts = np.bincount(labels, minlength=nc)
    shown = np.arange(nc)
    if nc > MAX_BARS:
        shown = np.sort(np.argsort(-counts, kind="stable")[: MAX_BARS - 1])
    bar_names, bars = [class_name(names, k) for k in shown], counts[shown].tolist()
    if nc > MAX_BARS:
        bar_names.append(f"{nc - len(shown)} others")
        bars.append(int(counts.sum() - sum(bars)))
    height = max(440, 16 * len(bars) + 100)
    histogram = Chart(
        f"{len(labels)} boxes of {nc} classes",
        (0, max(max(bars, default=0), 1) * 1.15),
        (len(bars) - 0.4, -0.6),
        x_label="boxes",
        size=(640, height),
        tick_names_y=bar_names,
    )
    histogram.bars(bars, [class_color(k) for k in shown] + [MEDIUM])
    side = max(440, min(height // 2, 620))
    centers = Chart("box centers", (0, 1), (1, 0), "x / image width", "y / image height", (side, side))
    finite = boxes[np.isfinite(boxes).all(1)]
    counts, _, _ = np.histogram2d(finite[:, 1], finite[:, 0], bins=50, range=((0, 1), (0, 1)))
    centers.heat(cv2.GaussianBlur(counts, (0, 0), 0.8))
    sizes = Chart("box sizes", (0, 1), (0, 1), "width / image width", "height / image height", (side, side))
    sizes.cloud(finite[:, 2], finite[:, 3], SERIES[0])
    squares = _joined([centers.finish(), sizes.finish()], axis=0 if height >= 2 * side else 1)
    return write(path, _joined([histogram.finish(), squares], axis=1))


def plot_results(csv_path: str | Path, path: str | Path | None = None) -> Path:
    """Plot all columns of a run's results.csv over the epochs.

    Args:
        csv_path: The results.csv.
        path: File to write (default: results.png in the same folder).

    Returns:
        The file written.
    """
    csv_path = Path(csv_path)
    with open(csv_path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in (rows[0] if rows else {}) if name not in ("epoch", "time")]
    columns.sort(key=lambda name: (name == "train/images_per_s", name == "lr", name.startswith("val/")))
    epochs = [_number(row.get("epoch")) for row in rows]
    settings, lines = [], []
    for name in columns:
        values = np.array([_number(row.get(name)) for row in rows])
        known = values[np.isfinite(values)]
        title, best = name, None
        if len(known):
            title = f"{name}: {known[-1]:.4g}"
            if name.startswith("val/"):
                best = int(np.nanargmax(np.where(np.isfinite(values), values, np.nan)))
                title += f", best {values[best]:.4g} at epoch {epochs[best]:g}"
        top = known.max(initial=0) * 1.05 or 1
        low = 0 if known.min(initial=0) >= 0 else known.min() * 1.05
        settings.append((title, (min(epochs) - 0.5, max(epochs) + 0.5), (low, top)))
        lines.append((name, values, best))
    left = max((_result_chart(*one).left for one in settings), default=0)  # so that all frames line up
    charts = []
    for one, (name, values, best) in zip(settings, lines, strict=True):
        chart, finite = _result_chart(*one, left=left), np.isfinite(values)
        color = SERIES[0] if name.startswith("val/") else SERIES[1] if name.startswith("train/") else SERIES[2]
        chart.line(np.array(epochs)[finite], values[finite], color)  # connects epochs that were validated
        if finite.sum() < 40:
            chart.dots(epochs, values, color, 3)
        if best is not None:
            chart.dots([epochs[best]], [values[best]], DARK, 5)
        charts.append(chart.finish())
    charts = charts or [Chart("no results yet", (0, 1), (0, 1), "epoch").finish()]
    columns = min(4, math.ceil(math.sqrt(len(charts))))
    return write(path or csv_path.with_suffix(".png"), image_grid(charts, columns, gap=0))


def _result_chart(title: str, x_range: tuple[float, float], y_range: tuple[float, float], left: int = 0) -> Chart:
    return Chart(title, x_range, y_range, "epoch", size=(460, 320), whole_x=True, left=left)


def _joined(images, axis: int) -> np.ndarray:
    """Images one below the other (axis 0) or side by side (axis 1), padded with white."""
    longest = max(image.shape[1 - axis] for image in images)
    fill = [
        ((0, longest - p.shape[0]) if axis else (0, 0), (0, 0) if axis else (0, longest - p.shape[1]), (0, 0))
        for p in images
    ]
    return np.concatenate([np.pad(p, f, constant_values=255) for p, f in zip(images, fill, strict=True)], axis)


def write(path: str | Path, image: np.ndarray) -> Path:
    """Write `image` (H, W, 3) to `path`, whose folder is created if missing; returns the path."""
    path = Path(path)
    write_image(path, image)
    return path


def _array(values) -> np.ndarray:
    if is_tensor(values):
        values = values.detach().cpu()
        return (values.float() if values.is_floating_point() else values).numpy()
    return np.asarray(values)


def _number(text) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan
