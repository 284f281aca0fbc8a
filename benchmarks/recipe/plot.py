"""Learning curves of runs as a chart: validation AP per epoch, mean over the seeds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from graftdet.utils.visualization.figures import SERIES, legend, new_figure, save, styled, whole_ticks

from .results import Epoch, RunRecord


@styled
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
    entries = [(f"{label}, {_count_of(runs)}", color) for (label, runs), color in zip(groups, SERIES, strict=False)]
    figure, ((axes,),) = new_figure(6.4, 4.4)
    for (epochs, ap), (_, color) in zip(lines, entries, strict=True):
        axes.plot(epochs, ap, color=color, linewidth=2)
    axes.set_title(title)
    axes.set(xlabel="epoch", ylabel="validation AP50-95")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(True)
    whole_ticks(axes)
    legend(axes, entries, loc="lower right")
    save(figure, path, [path.suffix.removeprefix(".")])


def _count_of(runs: Sequence[RunRecord]) -> str:
    return f"mean of {len(runs)} seeds" if len(runs) > 1 else "one seed"


def mean_curve(seeds: Sequence[list[Epoch]]) -> tuple[np.ndarray, np.ndarray]:
    """Epochs (n,) that all seeds have validated, and their mean AP (n,)."""
    values = [{row.epoch: row.val_ap for row in rows} for rows in seeds]
    epochs = sorted(set.intersection(*(set(one) for one in values)))
    return np.array(epochs), np.array([np.mean([one[epoch] for one in values]) for epoch in epochs])
