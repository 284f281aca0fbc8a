"""The contract of assigners of points to ground-truth boxes, and what they have in common.

They work on candidate pairs of a box and a point, those of all images in one list: few points are candidates of a box,
and images with few boxes do not wait for one with many.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from graftdet.models.losses.targets import GroundTruthBoxes


@dataclass
class Assignment:
    """K positives: pairs of a ground-truth box and a point of its image. A point of an image has one box at most.

    Attributes:
        box: (K,) int64, the index in `GroundTruthBoxes`.
        point: (K,) int64, the index of the point, 0 .. N - 1.
        quality: (K,) float32 0..1, the target of the score of the box's class at the point.
    """

    box: torch.Tensor
    point: torch.Tensor
    quality: torch.Tensor


class Assigner(Protocol):
    """Selects the points that are trained on each ground-truth box, in float32 and without gradients."""

    def __call__(
        self,
        scores: torch.Tensor,
        boxes: torch.Tensor,
        points: torch.Tensor,
        strides: torch.Tensor,
        truth: GroundTruthBoxes,
    ) -> Assignment:
        """Assign points to boxes.

        Args:
            scores: (B, N, nc) predicted scores 0..1.
            boxes: (B, N, 4) predicted boxes, xyxy pixels.
            points: (N, 2) x, y of the cells' centers in pixels.
            strides: (N,) pixels per cell of each point.
            truth: the M ground-truth boxes of the batch.
        """


def points_inside(points: torch.Tensor, boxes_xyxy: torch.Tensor, min_side: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Points (N, 2) and boxes (M, 4) xyxy, in pixels -> (M, N) bool: strictly inside.

    Sides below `min_side` are extended to it around the center: boxes smaller than the cells of the finest level would
    contain no point at all.
    """
    center, sides = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    # a little longer than a cell: a center between four cells has points on either side, too
    half = torch.where(sides < min_side, min_side * 1.01, sides) / 2  # (M, 2)
    return _within(points, center, half[:, 0, None], half[:, 1, None])


def points_near(points: torch.Tensor, boxes_xyxy: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """Points (N, 2) whose x and y differ by less than `radius` (N,) from the centers of boxes (M, 4): (M, N) bool."""
    return _within(points, (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, radius, radius)


def _within(points, center, reach_x, reach_y):
    in_x = (points[:, 0] - center[:, 0, None]).abs_() < reach_x  # one axis after the other: (M, N), never (M, N, 2)
    return in_x.logical_and_((points[:, 1] - center[:, 1, None]).abs_() < reach_y)


def table_per_box(
    values: torch.Tensor, box: torch.Tensor, num_boxes: int, fill: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Arrange the values of pairs as a table.

    Args:
        values: (P,), ordered by box.
        box: (P,) the box of each pair, ascending.
        num_boxes: M.
        fill: value of the empty entries.

    Returns:
        The table (M, W), one row per box; where the values of each box start, (M,); how many there are, (M,).
    """
    counts = torch.bincount(box, minlength=num_boxes)
    starts = counts.cumsum(0) - counts
    table = values.new_full((num_boxes, int(counts.max())), fill)
    table[box, torch.arange(len(box), device=box.device) - starts[box]] = values
    return table, starts, counts


def topk_per_box(values: torch.Tensor, box: torch.Tensor, num_boxes: int, k: torch.Tensor) -> torch.Tensor:
    """Indices, of P pairs ordered by `box` (P,), of the k (M,) greatest values of each box, or of as many as it has."""
    table, starts, counts = table_per_box(values, box, num_boxes, -torch.inf)
    k = torch.minimum(k, counts)
    best = table.topk(int(k.max()), 1).indices  # (M, max k)
    selected = torch.arange(best.shape[1], device=box.device) < k[:, None]
    return (best + starts[:, None])[selected]


def best_box_per_point(values: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """Indices, of K pairs with points (K,), of the greatest value per point; the first one of equal values."""
    order = values.argsort(descending=True, stable=True)
    order = order[point[order].argsort(stable=True)]
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = point[order][1:] != point[order][:-1]
    return order[first]
