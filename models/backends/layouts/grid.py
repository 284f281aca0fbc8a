"""The cells that the rows of a detector's output belong to. NumPy only, no torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

STRIDES = ((8, 16, 32), (8, 16, 32, 64), (16, 32), (4, 8, 16, 32), (8, 16), (4, 8, 16))
MAX_ANCHORS = 9  # per cell


@dataclass(frozen=True)
class Grid:
    """The cells that the rows of an output belong to: one row per cell and anchor.

    Attributes:
        strides: strides of the levels.
        anchors: rows per cell.
        centers: (N, 2) x and y of the cells' centers in pixels.
    """

    strides: tuple[int, ...]
    anchors: int
    centers: np.ndarray


def find_grid(rows: int, size: tuple[int, int], anchors: Sequence[int] = ()) -> list[Grid]:
    """The grids of `size` that have this number of rows, each in all orders that exporters use.

    Args:
        rows: number of predictions.
        size: (height, width) of the input in pixels.
        anchors: rows per cell to consider (default: any).
    """
    found = []
    for strides in STRIDES:
        sides = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in strides]
        per_cell, rest = divmod(rows, sum(height * width for height, width in sides))
        if rest == 0 and 1 <= per_cell <= MAX_ANCHORS and (not anchors or per_cell in anchors):
            for order in (1, -1):
                levels = list(zip(strides, sides, strict=True))[::order]
                found += [Grid(strides, per_cell, centers) for centers in _centers(levels, per_cell)]
    return found


def _centers(levels: list, anchors: int) -> Iterator[np.ndarray]:
    """Centers (N, 2) of all cells, anchors outside of the cells as in YOLOv5, or inside."""
    for outside in (True, False) if anchors > 1 else (True,):
        parts = []
        for stride, (height, width) in levels:
            y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
            cells = (np.stack((x.ravel(), y.ravel()), 1) + 0.5) * stride
            parts.append(np.tile(cells, (anchors, 1)) if outside else np.repeat(cells, anchors, axis=0))
        yield np.concatenate(parts)


def correlation(points: np.ndarray, centers: np.ndarray) -> float:
    """The smaller of the correlations of x and y of two arrays (N, 2); 0 where one is constant."""
    values = []
    for axis in (0, 1):
        a, b = points[:, axis] - points[:, axis].mean(), centers[:, axis] - centers[:, axis].mean()
        length = float(np.sqrt((a * a).sum() * (b * b).sum()))
        values.append(float((a * b).sum()) / length if length else 0.0)
    return min(values)
