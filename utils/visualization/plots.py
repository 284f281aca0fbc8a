"""Plots of training: statistics of labels, results over the epochs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graftdet.utils.boxes import xyxy_to_cxcywh
from graftdet.utils.errors import UserError
from graftdet.utils.tables import read_csv_table
from graftdet.utils.text import counted
from graftdet.utils.visualization.batch_images import to_array
from graftdet.utils.visualization.drawing import Names, class_name
from graftdet.utils.visualization.figures import INK, MUTED, SERIES, hex_color, new_figure, save, styled, whole_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_BARS = 100
MAX_NAME = 28  # characters of a class name beside an axis
MAXIMIZED = ("AP50-95", "AP50", "precision", "recall")  # columns of validation that are no losses
BINS = 50


@styled
def plot_labels(
    boxes_cxcywh: Any, labels: Any, names: Names, path: str | Path, formats: Sequence[str] = ()
) -> list[Path]:
    """Write the statistics of a dataset's boxes: number per class, distribution of centers and sizes.

    Args:
        boxes_cxcywh: (n, 4) normalized by the size of the image, array or tensor.
        labels: (n,) class indices.
        names: Class names.
        path: File to write; its suffix is replaced by each of `formats`.
        formats: png, pdf, svg; empty: png.

    Returns:
        The files written.
    """
    return save(labels_figure(boxes_cxcywh, labels, names), path, formats)


def plot_annotations(
    boxes: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    sizes_hw: np.ndarray,
    names: Names,
    path: str | Path,
    formats: Sequence[str] = (),
) -> list[Path]:
    """As `plot_labels`, of the annotations of each image.

    Args:
        boxes: Boxes (n, 4) xyxy in pixels of each image.
        labels: Class indices (n,) of each image.
        sizes_hw: Height and width of each image (images, 2).
        names: Class names.
        path: See `plot_labels`.
        formats: See `plot_labels`.
    """
    sizes_wh = np.repeat(sizes_hw, [len(rows) for rows in boxes], 0)[:, [1, 0]]  # of the image of each box
    normalized = xyxy_to_cxcywh(np.concatenate(boxes)) / np.tile(sizes_wh, 2)
    return plot_labels(normalized, np.concatenate(labels), names, path, formats)


@styled
def labels_figure(boxes_cxcywh: Any, labels: Any, names: Names) -> "Figure":
    """The figure of `plot_labels`."""
    boxes, labels = to_array(boxes_cxcywh).reshape(-1, 4), to_array(labels).astype(int)
    nc = max(len(names), int(labels.max(initial=-1)) + 1)
    counts = np.bincount(labels, minlength=nc)
    shown = np.arange(nc)
    if nc > MAX_BARS:
        shown = np.sort(np.argsort(-counts, kind="stable")[: MAX_BARS - 1])
    bar_names, bars = [short_name(names, k) for k in shown], counts[shown].tolist()
    colors = [hex_color(k) for k in shown]
    if nc > MAX_BARS:
        bar_names.append(counted(nc - len(shown), "other"))
        bars.append(int(counts.sum() - sum(bars)))
        colors.append(MUTED)
    figure, (row,) = new_figure(13, max(4.2, 0.16 * len(bars) + 1), 1, 3, width_ratios=(1.3, 1, 1))
    histogram, centers, sizes = row
    drawn = histogram.barh(range(len(bars)), bars, color=colors)
    histogram.bar_label(drawn, [f"{count:,}" for count in bars], padding=3, fontsize=8)
    histogram.set_yticks(range(len(bars)), bar_names, fontsize=9 if len(bars) < 30 else 7)
    histogram.set_ylim(len(bars) - 0.4, -0.6)
    histogram.margins(x=0.15)
    histogram.set_title(f"{counted(len(labels), 'box')} of {counted(nc, 'class')}")
    histogram.set_xlabel("boxes")
    finite = boxes[np.isfinite(boxes).all(1)]
    _heat(centers, finite[:, 0], finite[:, 1], "box centers", ("x / image width", "y / image height"))
    centers.invert_yaxis()
    _heat(sizes, finite[:, 2], finite[:, 3], "box sizes", ("width / image width", "height / image height"))
    return figure


def _heat(axes: "Axes", x: np.ndarray, y: np.ndarray, title: str, labels: tuple[str, str]) -> None:
    """Draw the density of points in the unit square; the root makes low counts visible."""
    counts, _, _ = np.histogram2d(y, x, bins=BINS, range=((0, 1), (0, 1)))
    axes.imshow(np.sqrt(counts), extent=(0, 1, 0, 1), origin="lower", cmap="Blues", interpolation="nearest")
    axes.set_title(title)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])


@styled
def plot_results(csv_path: str | Path, path: str | Path | None = None, formats: Sequence[str] = ()) -> list[Path]:
    """Plot losses, metrics and learning rate of a run's results.csv over the epochs.

    Args:
        csv_path: The results.csv.
        path: File to write (default: results in the same folder); its suffix is replaced by each of `formats`.
        formats: png, pdf, svg; empty: png.

    Returns:
        The files written.
    """
    return save(results_figure(read_results(csv_path)), path or Path(csv_path), formats)


def read_results(csv_path: str | Path) -> dict[str, np.ndarray]:
    """Return the columns of a results.csv as arrays (epochs,); empty cells are NaN.

    Raises:
        UserError: If it is no table of results.
    """
    columns, rows = read_csv_table(csv_path)
    if columns and "epoch" not in columns:
        raise UserError(f"{csv_path}: has no column 'epoch' but {', '.join(columns):.80}; it was damaged or edited")
    return {name: np.array([_number(row.get(name)) for row in rows]) for name in (rows[0] if rows else {})}


@styled
def results_figure(columns: dict[str, np.ndarray], panels_per_row: int = 4) -> "Figure":
    """One panel per loss, with training and validation, per metric, and one of the learning rate.

    Args:
        columns: Columns of a results.csv (see `read_results`).
        panels_per_row: Number of columns of the figure.
    """
    losses = [name for name in columns if name.startswith("train/") and name != "train/images_per_s"]
    metrics = [f"val/{name}" for name in MAXIMIZED if f"val/{name}" in columns]
    shown = [*losses, *metrics, *(["lr"] if "lr" in columns else [])]
    width = min(panels_per_row, max(len(shown), 1))
    rows = math.ceil(len(shown) / width) or 1
    figure, axes = new_figure(3.3 * width, 2.5 * rows, rows, width)
    for panel in axes.flat[len(shown) :]:
        panel.set_axis_off()
    if not shown:
        axes[0, 0].set_title("no results yet")
    for panel, name in zip(axes.flat, shown, strict=False):
        if name in losses:
            _loss_panel(panel, columns, name)
        else:
            _metric_panel(panel, columns, name)
        panel.grid(True)
        panel.set_xlabel("epoch")
        whole_ticks(panel)
    return figure


def _loss_panel(panel: "Axes", columns: dict[str, np.ndarray], name: str) -> None:
    """A loss in training and validation."""
    loss = name.removeprefix("train/")
    panel.set_title(f"loss: {loss}")
    for column, label, color in ((name, "training", SERIES[1]), (f"val/{loss}", "validation", SERIES[0])):
        known = _line(panel, columns, column, color)
        if known is not None:
            panel.lines[-1].set_label(f"{label} {known[-1]:.4g}")
    panel.set_ylim(bottom=min(panel.get_ylim()[0], 0))
    if panel.lines:
        panel.legend(fontsize=8)


def _metric_panel(panel: "Axes", columns: dict[str, np.ndarray], name: str) -> None:
    """A metric with its best epoch, or the learning rate."""
    known = _line(panel, columns, name, SERIES[0] if name.startswith("val/") else SERIES[2])
    panel.set_ylim(0, 1.05 * panel.get_ylim()[1])  # space for the mark of the best epoch
    label = name.removeprefix("val/") if name != "lr" else "learning rate"
    if known is None:
        panel.set_title(label)
    elif name == "lr":
        panel.set_title(f"{label}: {known[-1]:.3g}")
    else:
        values = np.where(np.isfinite(columns[name]), columns[name], -np.inf)
        best = int(values.argmax())
        epoch = columns["epoch"][best]
        panel.plot([epoch], [values[best]], "o", color=INK, markersize=5, clip_on=False)
        panel.set_title(f"{label}: {known[-1]:.3f}, best {values[best]:.3f} (epoch {epoch:g})")


def _line(panel: "Axes", columns: dict[str, np.ndarray], name: str, color: str) -> np.ndarray | None:
    """Draw the finite values of a column over the epochs and return them; None if there are none."""
    values = columns.get(name, np.zeros(0))
    finite = np.isfinite(values)
    if not finite.any():
        return None
    marker = "o" if finite.sum() < 40 else ""
    panel.plot(columns["epoch"][finite], values[finite], color=color, marker=marker, markersize=3, linewidth=1.6)
    return values[finite]


def short_name(names: Names, label: int) -> str:
    """Return the name of a class, shortened for the space beside an axis."""
    name = " ".join(class_name(names, label).split())
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 2]}.."


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan
