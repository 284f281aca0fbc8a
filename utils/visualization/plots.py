"""The plots that training and validation write into the run folder."""

import csv
import math
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from graftdet.utils.boxes import cxcywh_to_xyxy, is_tensor
from graftdet.utils.images.io import write_image
from graftdet.utils.visualization.charts import DARK, MEDIUM, SERIES, Chart, centered_text, shade, vertical_text
from graftdet.utils.visualization.drawing import (
    Names,
    class_color,
    class_name,
    draw_boxes,
    image_grid,
    put_text,
    shorten,
    text_box,
)

MAX_LEGEND = 12  # classes; with more, the curves have no colors and names
MAX_BARS = 100


class Curves(Protocol):
    """Curves at IoU 0.5, such as `graftdet.utils.evaluation.metrics.Curves`."""

    confidence: np.ndarray  # (k,)
    recalls: np.ndarray  # (r,)
    precision: np.ndarray  # (nc, k), as recall and f1
    at_recall: np.ndarray  # (nc, r): precision
    instances: np.ndarray  # (nc,) number of ground-truth boxes
    best: int  # index into `confidence` with the highest mean F1

    def mean(self, name: str, /) -> np.ndarray:
        """The mean over all classes with ground-truth boxes of the curve `name`."""


class Confusion(Protocol):
    """A confusion matrix, such as `graftdet.utils.evaluation.metrics.ConfusionMatrix`."""

    matrix: np.ndarray  # (nc + 1, nc + 1): predicted class, ground-truth class; the last is background
    conf: float
    iou: float


def plot_batch(
    images: Any,
    targets: Any,
    names: Names,
    path: str | Path,
    columns: int = 4,
    limit: int = 16,
    width: int = 1920,
) -> Path:
    """Write a grid of the first images of a batch with their boxes.

    Args:
        images: (B, 3, H, W) RGB, uint8 or float 0..1, array or tensor.
        targets: (M, 6) image, class, cx, cy, w, h normalized, or (M, 7) with a score; array or tensor.
        names: Class names.
        path: File to write.
        columns: Images per row.
        limit: Maximum number of images.
        width: Approximate maximum width of the grid in pixels.

    Returns:
        `path`.
    """
    images, targets = _array(images[:limit]), _array(targets)
    columns = min(columns, len(images))
    cells = []
    for index, image in enumerate(images):
        if image.dtype != np.uint8:
            image = (image.astype(np.float32) * 255).round().clip(0, 255).astype(np.uint8)
        image = np.ascontiguousarray(image.transpose(1, 2, 0)[..., ::-1])  # RGB to OpenCV's BGR
        scale = min(1.0, width / columns / image.shape[1])
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        own = targets[targets[:, 0] == index]
        boxes = cxcywh_to_xyxy(own[:, 2:6]) * np.tile(image.shape[1::-1], 2)
        scores = own[:, 6] if own.shape[1] > 6 else None
        cells.append(draw_boxes(image, boxes, own[:, 1].astype(int), scores, names))
    return write(path, image_grid(cells, columns))


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
    charts = []
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
        chart = Chart(title, (min(epochs) - 0.5, max(epochs) + 0.5), (low, top), "epoch", size=(460, 320), whole_x=True)
        line = SERIES[0] if name.startswith("val/") else SERIES[1] if name.startswith("train/") else SERIES[2]
        chart.line(np.array(epochs)[np.isfinite(values)], known, line)  # connects epochs that were validated
        if len(known) < 40:
            chart.dots(epochs, values, line, 3)
        if best is not None:
            chart.dots([epochs[best]], [values[best]], DARK, 5)
        charts.append(chart.finish())
    charts = charts or [Chart("no results yet", (0, 1), (0, 1), "epoch").finish()]
    columns = min(4, math.ceil(math.sqrt(len(charts))))
    return write(path or csv_path.with_suffix(".png"), image_grid(charts, columns, gap=0))


def plot_curves(curves: Curves, names: Names, folder: str | Path) -> list[Path]:
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
        if which == "at_recall":
            title, per_class = f"precision over recall at IoU 0.5: AP50 {mean.mean():.3f}", values.mean(1)
        else:
            title, per_class = (
                f"{label} over confidence: {mean[curves.best]:.3f} at {confidence:.2f}",
                values[:, curves.best],
            )
        present = np.flatnonzero(curves.instances).tolist()
        few = len(present) <= MAX_LEGEND
        legend = [("all classes", DARK)] if len(present) != 1 else []
        colors = [SERIES[i] if len(present) <= len(SERIES) else class_color(k) for i, k in enumerate(present)]
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


def plot_confusion(confusion: Confusion, names: Names, path: str | Path, normalize: bool = True) -> Path:
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
