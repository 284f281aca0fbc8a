"""Simplified optimal transport assignment: each box takes as many of the cheapest points as its overlaps suggest."""

import torch
from graftdet.models.losses.assignment import (
    Assignment,
    best_of_each,
    by_box,
    one_box_a_point,
    points_inside,
    points_near,
)
from graftdet.models.losses.iou import giou, iou

_OUTSIDE = 1e4  # added to the cost of points that are not both in the box and near its centre: above any other cost


class SimOTAAssigner:
    """Ge et al., YOLOX, 2021, section 2.1, with the cost of Yu et al., PP-PicoDet, 2021, section 3.3: varifocal class
    loss + `box_weight` x GIoU loss.

    Candidates lie in the box or within `radius` strides of its centre. Box g takes k_g points, the sum of its `top`
    greatest IoUs rounded down, at least 1; a point taken by several goes to the cheapest. Quality is the IoU.
    """

    def __init__(self, radius: float = 2.5, top: int = 10, box_weight: float = 6.0):
        self.radius, self.top, self.box_weight = radius, top, box_weight

    @torch.no_grad()
    def __call__(self, scores, boxes, points, strides, truth) -> Assignment:
        inside = points_inside(points, truth.boxes)
        near = points_near(points, truth.boxes, self.radius * strides)
        box, point = (inside | near).nonzero(as_tuple=True)  # (P,) pairs
        if not len(box):
            return Assignment(box, point, strides.new_zeros(0))
        image, wanted = truth.image[box], truth.boxes[box]
        predicted = boxes[image, point]
        overlap = iou(predicted, wanted).clamp_(0)
        cost = _class_cost(scores, image, point, truth.labels[box], overlap)
        cost += self.box_weight * (1 - giou(predicted, wanted))
        cost += _OUTSIDE * ~(inside & near)[box, point]

        overlaps, _, _ = by_box(overlap, box, len(truth), 0.0)
        numbers = overlaps.topk(min(self.top, overlaps.shape[1]), 1).values.sum(1).long().clamp(min=1)  # (M,)
        best = best_of_each(-cost, box, len(truth), numbers)
        kept = best[one_box_a_point(-cost[best], image[best] * len(points) + point[best])]
        return Assignment(box[kept], point[kept], overlap[kept])


def _class_cost(scores, image, point, labels, overlap, alpha: float = 0.75, gamma: float = 2.0):
    """The varifocal loss of each pair's (P,) classes, were the point to learn the box: all classes count as negatives
    but its own, whose quality is the overlap (see `focal.varifocal`; here of scores (B, N, nc), not of logits)."""
    scores = scores.float().clamp(1e-6, 1 - 1e-6)
    negative = scores**gamma * torch.log1p(-scores) * -alpha  # (B, N, nc)
    own = scores[image, point, labels]
    positive = -overlap * (overlap * own.log() + (1 - overlap) * torch.log1p(-own))
    negative_own = negative[image, point, labels]
    return negative.sum(-1)[image, point] + torch.where(overlap > 0, positive - negative_own, 0)
