"""The pictures that training and validation leave in a run's folder."""

import csv
import math
from pathlib import Path

import cv2
import numpy as np
from graftdet.utils.boxes import cxcywh_to_xyxy, is_tensor
from graftdet.utils.images.io import write_image
from graftdet.utils.visualization.charts import FAINT, INK, SERIES, Chart, centred_text, shade, vertical_text
from graftdet.utils.visualization.drawing import (
    class_color,
    class_name,
    draw_boxes,
    image_grid,
    put_text,
    shorten,
    text_box,
)

FEW_CLASSES = 12  # up to so many get a line and a name each
MAX_BARS = 100


def plot_batch(images, targets, names, path, columns: int = 4, limit: int = 16, width: int = 1920) -> Path:
    """Write a grid of a batch's first `limit` pictures with their boxes.

    `images` (B, 3, H, W) RGB, uint8 or float 0..1; `targets` (M, 6) image, class, cx, cy, w, h normalised, or (M, 7)
    with a score; both arrays or tensors. The grid is at most about `width` pixels wide.
    """
    images, targets = _array(images[:limit]), _array(targets)
    columns = min(columns, len(images))
    pictures = []
    for index, image in enumerate(images):
        if image.dtype != np.uint8:
            image = (image.astype(np.float32) * 255).round().clip(0, 255).astype(np.uint8)
        image = np.ascontiguousarray(image.transpose(1, 2, 0)[..., ::-1])  # RGB to OpenCV's BGR
        shrink = min(1.0, width / columns / image.shape[1])
        if shrink < 1:
            image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        mine = targets[targets[:, 0] == index]
        boxes = cxcywh_to_xyxy(mine[:, 2:6]) * np.tile(image.shape[1::-1], 2)
        scores = mine[:, 6] if mine.shape[1] > 6 else None
        pictures.append(draw_boxes(image, boxes, mine[:, 1].astype(int), scores, names))
    return write(path, image_grid(pictures, columns))


def plot_labels(boxes_cxcywh, labels, names, path) -> Path:
    """Write how a data set's boxes are spread: how many of each class, where their centres are, how large they are.

    `boxes_cxcywh` (n, 4) normalised by their picture's size, `labels` (n,).
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
        f"{len(labels)} boxes of {nc} classes", (0, max(max(bars, default=0), 1) * 1.15), (len(bars) - 0.4, -0.6),
        x_label="boxes", size=(640, height), tick_names_y=bar_names,
    )  # fmt: skip
    histogram.bars(bars, [class_color(k) for k in shown] + [FAINT])
    side = max(440, min(height // 2, 620))
    centres = Chart("centres of boxes", (0, 1), (1, 0), "x / width", "y / height", (side, side))
    inside = boxes[np.isfinite(boxes).all(1)]
    spread, _, _ = np.histogram2d(inside[:, 1], inside[:, 0], bins=50, range=((0, 1), (0, 1)))
    centres.heat(cv2.GaussianBlur(spread, (0, 0), 0.8))
    sizes = Chart("sizes of boxes", (0, 1), (0, 1), "width / picture", "height / picture", (side, side))
    sizes.cloud(inside[:, 2], inside[:, 3], SERIES[0])
    squares = _joined([centres.finish(), sizes.finish()], axis=0 if height >= 2 * side else 1)
    return write(path, _joined([histogram.finish(), squares], axis=1))


def plot_results(csv_path, path=None) -> Path:
    """Draw every column of a run's `results.csv` over the epochs into `results.png` beside it (or `path`)."""
    csv_path = Path(csv_path)
    with open(csv_path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in (rows[0] if rows else {}) if name not in ("epoch", "time")]
    columns.sort(key=lambda name: (name == "train/images_per_s", name == "lr", name.startswith("val/")))
    epochs = [_number(row.get("epoch")) for row in rows]
    charts = []
    for index, name in enumerate(columns):
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
        chart.line(np.array(epochs)[np.isfinite(values)], known, line)  # over epochs that were not measured
        if len(known) < 40:
            chart.dots(epochs, values, line, 3)
        if best is not None:
            chart.dots([epochs[best]], [values[best]], INK, 5)
        charts.append(chart.finish())
    charts = charts or [Chart("no results yet", (0, 1), (0, 1), "epoch").finish()]
    columns = min(4, math.ceil(math.sqrt(len(charts))))
    return write(path or csv_path.with_suffix(".png"), image_grid(charts, columns, gap=0))


def plot_curves(curves, names, folder) -> list[Path]:
    """Write precision, recall and F1 over confidence and precision over recall: `P_curve.png`, `R_curve.png`,
    `F1_curve.png`, `PR_curve.png` in `folder`. `curves` is a `graftdet.utils.evaluation.metrics.Curves` (at IoU 0.5)."""
    at = curves.confidence[curves.best]
    written = []
    for which, file, label in (
        ("precision", "P_curve.png", "precision"), ("recall", "R_curve.png", "recall"), ("f1", "F1_curve.png", "F1"),
        ("at_recall", "PR_curve.png", "precision"),
    ):  # fmt: skip
        x, x_label = (curves.recalls, "recall") if which == "at_recall" else (curves.confidence, "confidence")
        mean, values = curves.mean(which), getattr(curves, which)
        if which == "at_recall":
            title, each = f"precision over recall at IoU 0.5: AP50 {mean.mean():.3f}", values.mean(1)
        else:
            title, each = f"{label} over confidence: {mean[curves.best]:.3f} at {at:.2f}", values[:, curves.best]
        present = np.flatnonzero(curves.instances)
        few = len(present) <= FEW_CLASSES
        legend = [("all classes", INK)] if len(present) != 1 else []
        inks = [SERIES[i] if len(present) <= len(SERIES) else class_color(k) for i, k in enumerate(present)]
        if few:
            legend += [(f"{each[k]:.2f} {class_name(names, k)}", ink) for k, ink in zip(present, inks)]
        else:
            legend.append((f"{len(present)} classes", (200, 180, 160)))
        chart = Chart(title, (0, 1), (0, 1), x_label, label, size=(820, 520), legend=legend)
        for k, ink in zip(present, inks):
            chart.line(x, values[k], ink if few else (215, 200, 185), 1 + few)
        if len(present) != 1:
            chart.line(x, mean, INK, 3)
        written.append(write(Path(folder) / file, chart.finish()))
    return written


def plot_confusion(confusion, names, path, normalise: bool = True) -> Path:
    """Write a `graftdet.utils.evaluation.metrics.ConfusionMatrix` as a picture: true classes from left to right, predicted downwards.

    `normalise` divides each column by its sum, so that the diagonal is each class's recall; the last row is what was
    missed, the last column what was found where nothing is.
    """
    matrix = confusion.matrix.astype(float)
    size = len(matrix)
    shares = matrix / np.maximum(matrix.sum(0, keepdims=True), 1)
    cell = int(np.clip(960 // size, 2, max(72, 300 // size)))
    words = [class_name(names, k) for k in range(size - 1)] + ["background"]
    scale = 0.42 if cell >= 16 else 0.36
    words = [shorten(word, 150, scale) for word in words] if cell >= 11 else [""] * size
    margin = max(text_box(word, scale)[0] for word in words) + 40
    top, side = 44, size * cell
    image = np.full((top + side + margin, max(margin + side + 24, 540), 3), 255, np.uint8)
    title = "confusion, shares of each column" if normalise else "confusion, boxes"
    put_text(image, shorten(f"{title} (confidence {confusion.conf:g}, IoU {confusion.iou:g})",
             image.shape[1] - 24, 0.5), (12, 26), 0.5, INK)  # fmt: skip
    shaded = shares if normalise else matrix / max(matrix.max(), 1)
    colours = np.repeat(np.repeat(shade(shaded), cell, 0), cell, 1)
    image[top : top + side, margin : margin + side] = colours
    for k, word in enumerate(words):
        middle = k * cell + cell // 2
        width, ascent, _ = text_box(word, scale)
        put_text(image, word, (margin - 8 - width, top + middle + ascent // 2), scale, INK)
        x = margin + middle - ascent // 2 - 1
        vertical_text(image, word, (x, top + side + 6), INK, scale, align="end")
    if cell >= 36:
        _write_cells(image, shares if normalise else matrix, shaded, (margin, top), cell)
    cv2.rectangle(image, (margin, top), (margin + side, top + side), FAINT, 1)
    vertical_text(image, "predicted", (8, top + side // 2), FAINT)
    centred_text(image, "true (background: false detections)", (margin + side // 2, image.shape[0] - 10), FAINT)
    return write(path, image)


def _write_cells(image, values, shaded, corner, cell) -> None:
    """The value of each cell that is not zero, in its middle."""
    for row, column in np.argwhere(values > 0):
        value = values[row, column]
        text = f"{value:.2f}" if values.max() <= 1 else f"{value:g}"
        scale = 0.42 if text_box(text, 0.42)[0] < cell - 4 else 0.3
        ink = (255, 255, 255) if shaded[row, column] > 0.45 else INK
        y = corner[1] + row * cell + (cell + text_box(text, scale)[1]) // 2
        centred_text(image, text, (corner[0] + column * cell + cell // 2, y), ink, scale)


def _joined(pictures, axis: int) -> np.ndarray:
    """Pictures one below the other (axis 0) or beside each other (axis 1), white where one is smaller."""
    longest = max(picture.shape[1 - axis] for picture in pictures)
    fill = [((0, longest - p.shape[0]) if axis else (0, 0), (0, 0) if axis else (0, longest - p.shape[1]), (0, 0))
            for p in pictures]  # fmt: skip
    return np.concatenate([np.pad(p, f, constant_values=255) for p, f in zip(pictures, fill)], axis)


def write(path, image: np.ndarray) -> Path:
    """Write `image` to `path`, whose folder is made when it is missing; returns the path."""
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
