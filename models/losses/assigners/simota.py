"""Simplified optimal transport assignment: each box gets the cheapest points, as many as its IoUs suggest."""

import torch

from graftdet.models.losses.assigners.assignment import (
    Assignment,
    best_box_per_point,
    points_inside,
    points_near,
    table_per_box,
    topk_per_box,
)
from graftdet.models.losses.iou import giou, iou
from graftdet.models.losses.targets import GroundTruthBoxes

_OUTSIDE = 1e4  # added to the cost of points that are not both in the box and near its center: above any other cost
_ALPHA, _GAMMA = 0.75, 2.0  # of the varifocal loss


class SimOTAAssigner:
    """Ge et al., YOLOX, 2021, section 2.1, with the cost of Yu et al., PP-PicoDet, 2021, section 3.3: varifocal class
    loss + `box_weight` x GIoU loss.

    Candidates lie in the box or within `radius` strides of its center. Box g gets k_g points, the sum of its `topk`
    greatest IoUs rounded down, at least 1; a point selected by several boxes goes to that of the lowest cost. Quality
    is the IoU.

    Args:
        radius: largest distance in x and y from the center of a box, in strides.
        topk: number of IoUs that are summed.
        box_weight: weight of the GIoU loss in the cost.
    """

    def __init__(self, radius: float = 2.5, topk: int = 10, box_weight: float = 6.0):
        self.radius, self.topk, self.box_weight = radius, topk, box_weight

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
        box, point, cost = self.candidates(points, strides, truth)  # (P,) pairs
        if not len(box):
            return Assignment(box, point, strides.new_zeros(0))
        image, target = truth.image[box], truth.boxes[box]
        predicted = boxes[image, point]
        ious = iou(predicted, target).clamp_(0)
        cost = cost + self.class_cost(scores, image, point, truth.labels[box], ious)
        cost += self.box_weight * self.box_cost(predicted, target, ious)

        iou_table, _, _ = table_per_box(ious, box, len(truth), 0.0)
        k = iou_table.topk(min(self.topk, iou_table.shape[1]), 1).values.sum(1).long().clamp(min=1)  # (M,)
        best = topk_per_box(-cost, box, len(truth), k)
        positive = best[best_box_per_point(-cost[best], image[best] * len(points) + point[best])]
        return Assignment(box[positive], point[positive], ious[positive])

    def candidates(self, points, strides, truth):
        """Pairs of a box and a point, ordered by box, and what their position adds to the cost; (P,) each."""
        inside = points_inside(points, truth.boxes)
        near = points_near(points, truth.boxes, self.radius * strides)
        box, point = (inside | near).nonzero(as_tuple=True)
        return box, point, _OUTSIDE * ~(inside & near)[box, point]

    def class_cost(self, scores, image, point, labels, ious):
        """The varifocal loss of each pair's (P,) classes if the point were trained on the box.

        All classes are negatives but the box's own, whose quality is the IoU (see `classification.varifocal`; here of
        scores (B, N, nc), not of logits).
        """
        scores = probabilities(scores)
        own = scores[image, point, labels]
        positive = -ious * (ious * own.log() + (1 - ious) * torch.log1p(-own))
        negative = scores**_GAMMA * torch.log1p(-scores) * -_ALPHA  # (B, N, nc)
        negative_own = negative[image, point, labels]
        return negative.sum(-1)[image, point] + torch.where(ious > 0, positive - negative_own, 0)

    def box_cost(self, predicted, target, ious):
        """The GIoU loss of each pair (P,): boxes (P, 4) xyxy."""
        return 1 - giou(predicted, target)


class YOLOXAssigner(SimOTAAssigner):
    """SimOTA with the cost of YOLOX: cross entropy of the classes - `box_weight` x log IoU.

    The scores are the geometric mean of objectness and class probability.

    Args:
        radius: largest distance in x and y from the center of a box, in strides.
        topk: number of IoUs that are summed.
        box_weight: weight of the IoU loss in the cost.

    Source:
        Ge et al., YOLOX, 2021, section 2.1.
    """

    def __init__(self, radius: float = 2.5, topk: int = 10, box_weight: float = 3.0):
        super().__init__(radius, topk, box_weight)

    def class_cost(self, scores, image, point, labels, ious):
        """The cross entropy of each pair's (P,) classes, the box's own against 1 and all others against 0."""
        scores = probabilities(scores)
        own, negative = scores[image, point, labels], torch.log1p(-scores)  # (P,), (B, N, nc)
        return torch.log1p(-own) - own.log() - negative.sum(-1)[image, point]

    def box_cost(self, predicted, target, ious):
        """The negative logarithm of the IoU of each pair (P,)."""
        return -(ious + 1e-8).log()


def probabilities(scores: torch.Tensor) -> torch.Tensor:
    """Scores in float32, none of which is 0 or 1: each has a logarithm."""
    return scores.float().clamp(1e-6, 1 - 1e-6)
