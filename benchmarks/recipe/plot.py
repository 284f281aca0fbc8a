"""Learning curves of runs as a chart: validation AP per epoch, mean over the seeds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from graftdet.utils.images.io import write_image
from graftdet.utils.visualization.charts import SERIES, Chart

from .results import Epoch, RunRecord


def plot_curves(
    groups: Sequence[tuple[str, list[RunRecord]]], curves: dict[str, list[Epoch]], path: Path, title: str
) -> None:
    """Write a chart with one line per group of runs.

    Args:
        groups: Legend and runs (seeds of the same settings) of each line.
        curves: Epochs by run name, as `read_curves` returns them.
        path: Image file to write.
        title: Text above the chart.
    """
    lines = [mean_curve([curves[run.run] for run in runs]) for _, runs in groups]
    legend = [(f"{label}, {_count_of(runs)}", color) for (label, runs), color in zip(groups, SERIES, strict=False)]
    last = max(epochs[-1] for epochs, _ in lines)
    highest = max(ap.max() for _, ap in lines)
    chart = Chart(
        title,
        (0, last),
        (0, highest * 1.05),
        "epoch",
        "validation AP50-95",
        legend=legend,
        legend_inside=True,
        whole_x=True,
    )
    for (epochs, ap), (_, color) in zip(lines, legend, strict=True):
        chart.line(epochs, ap, color)
    write_image(path, chart.finish())


def _count_of(runs: Sequence[RunRecord]) -> str:
    return f"mean of {len(runs)} seeds" if len(runs) > 1 else "one seed"


def mean_curve(seeds: Sequence[list[Epoch]]) -> tuple[np.ndarray, np.ndarray]:
    """Epochs (n,) that all seeds have validated, and their mean AP (n,)."""
    values = [{row.epoch: row.val_ap for row in rows} for rows in seeds]
    epochs = sorted(set.intersection(*(set(one) for one in values)))
    return np.array(epochs), np.array([np.mean([one[epoch] for one in values]) for epoch in epochs])
