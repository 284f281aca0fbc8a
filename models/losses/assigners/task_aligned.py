"""Task-aligned assignment: the points whose score and box agree best with a ground-truth box are trained on it."""

import torch

from graftdet.models.losses.assigners.assignment import (
    Assignment,
    best_box_per_point,
    points_inside,
    topk_per_box,
)
from graftdet.models.losses.iou import iou
from graftdet.models.losses.targets import GroundTruthBoxes


class TaskAlignedAssigner:
    """Feng et al., TOOD, 2021, section 3.2: t = score^alpha * IoU^beta.

    The `topk` points inside a box with the greatest t are positive; a point selected by several boxes goes to that of
    the greatest IoU. A positive's quality is its t, scaled so that the maximum per box is the greatest IoU among its
    points.

    With `topk` 1 the assignment is one-to-one (Wang et al., YOLOv10, 2024, section 3.1: one metric for both, whose
    alpha 0.5 and beta 6 are the defaults here; TOOD has 1 and 6, and 13 points per box). Beyond the papers, boxes
    smaller than a cell count as large as one, and where no prediction overlaps yet the nearest points are selected.

    Args:
        topk: largest number of points per box.
        alpha: exponent of the score.
        beta: exponent of the IoU.
    """

    def __init__(self, topk: int = 10, alpha: float = 0.5, beta: float = 6.0):
        self.topk, self.alpha, self.beta = topk, alpha, beta

    @torch.no_grad()
    def __call__(
        self,
        scores: torch.Tensor,
        boxes: torch.Tensor,
        points: torch.Tensor,
        strides: torch.Tensor,
        truth: GroundTruthBoxes,
    ) -> Assignment:
        """Assign points to boxes; see `Assigner`."""
        box, point = points_inside(points, truth.boxes, strides.min()).nonzero(as_tuple=True)  # (P,) pairs
        if not len(box):
            return Assignment(box, point, strides.new_zeros(0))
        image, target = truth.image[box], truth.boxes[box]
        ious = iou(boxes[image, point], target).clamp_(0)
        metric = scores[image, point, truth.labels[box]].float() ** self.alpha * ious**self.beta
        # so small that it decides only where t is 0 because nothing overlaps
        distance = (points[point] - (target[:, :2] + target[:, 2:]) / 2).square().sum(-1)
        k = torch.full_like(truth.labels, self.topk)
        best = topk_per_box(metric + 1e-12 / (1 + distance), box, len(truth), k)
        positive = best[best_box_per_point(ious[best], image[best] * len(points) + point[best])]

        box, point, metric, ious = box[positive], point[positive], metric[positive], ious[positive]
        scale = _maximum_per_box(ious, box, truth)
        return Assignment(box, point, metric * scale / _maximum_per_box(metric, box, truth).clamp(min=1e-30))


def _maximum_per_box(values, box, truth):
    """The maximum of the values (K,) of each pair's box, (K,)."""
    return values.new_zeros(len(truth)).scatter_reduce_(0, box, values, "amax")[box]
