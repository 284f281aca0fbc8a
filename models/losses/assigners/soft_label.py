"""Dynamic soft label assignment: SimOTA whose class cost has soft targets, without a hard limit around the center."""

import torch

from graftdet.models.losses.assigners.assignment import points_inside
from graftdet.models.losses.assigners.simota import SimOTAAssigner, probabilities

_EPS = 1e-7


class SoftLabelAssigner(SimOTAAssigner):
    """Lyu et al., RTMDet, 2022, section 3.3; NanoDet-Plus (RangiLyu, 2021) has the same without the center prior.

    Candidates of a box are the points inside it; a box smaller than a cell counts as large as one. The cost is the
    quality focal loss of the classes against the IoU - `box_weight` x log IoU, and, with `center_radius`, 10 to the
    power of the distance from the center in strides minus the radius.

    Args:
        topk: number of IoUs that are summed to the number of points of a box.
        box_weight: weight of the logarithm.
        center_radius: distance in strides at which a candidate costs 1 more; None: none does.
    """

    def __init__(self, topk: int = 13, box_weight: float = 3.0, center_radius: float | None = None):
        super().__init__(topk=topk, box_weight=box_weight)
        self.center_radius = center_radius

    def candidates(self, points, strides, truth):
        """Pairs of a box and a point, ordered by box, and what their position adds to the cost; (P,) each."""
        box, point = points_inside(points, truth.boxes, strides.min()).nonzero(as_tuple=True)
        if self.center_radius is None:
            return box, point, strides.new_zeros(len(box))
        centers = (truth.boxes[:, :2] + truth.boxes[:, 2:]) / 2
        distance = (points[point] - centers[box]).square().sum(-1).sqrt() / strides[point]
        return box, point, torch.pow(10.0, distance - self.center_radius)

    def class_cost(self, scores, image, point, labels, ious):
        """The quality focal loss of each pair's (P,) classes: the box's own against the IoU, all others against 0."""
        scores = probabilities(scores)
        own, negative = scores[image, point, labels], -torch.log1p(-scores) * scores.square()  # (P,), (B, N, nc)
        positive = -(ious * own.log() + (1 - ious) * torch.log1p(-own)) * (ious - own).square()
        return negative.sum(-1)[image, point] - negative[image, point, labels] + positive

    def box_cost(self, predicted, target, ious):
        """The negative logarithm of the IoU of each pair (P,)."""
        return -(ious + _EPS).log()
