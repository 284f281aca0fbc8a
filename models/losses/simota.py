"""Simplified optimal transport assignment: each box takes as many of the cheapest points as its overlaps suggest."""

import torch
import torch.nn.functional as F

from .assignment import ASSIGNERS, Assignment, points_inside, scores_of_labels
from .overlap import pairwise_giou, pairwise_iou

_OUTSIDE = 1e5  # added to the cost of points that are not both in the box and near its centre


@ASSIGNERS.register("simota")
class SimOTAAssigner:
    """Ge et al., YOLOX, 2021, section 2.1, with the cost of Yu et al., PP-PicoDet, 2021, section 3.3: varifocal class
    loss + `box_weight` x GIoU loss.

    Candidates lie in the box or within `radius` strides of its centre. Box g takes k_g points, the sum of its `top`
    greatest IoUs rounded down, at least 1; a point taken by several goes to the cheapest. Quality is the IoU.
    """

    def __init__(self, radius: float = 2.5, top: int = 10, box_weight: float = 6.0):
        self.radius, self.top, self.box_weight = radius, top, box_weight

    @torch.no_grad()
    def __call__(self, scores, boxes, points, strides, targets) -> Assignment:
        batch, count, _ = scores.shape
        if not targets.real.shape[1]:
            return Assignment.empty(batch, count, scores.device)
        scores, boxes = scores.float(), boxes.float()
        centre = (targets.boxes[..., :2] + targets.boxes[..., 2:]) / 2
        offset = (points[None, None] - centre[:, :, None]).abs().amax(-1)  # (B, G, N)
        in_box = points_inside(points, targets.boxes)
        near = offset < self.radius * strides
        allowed = (in_box | near) & targets.real[..., None]
        iou = pairwise_iou(boxes, targets.boxes).clamp(0) * allowed
        cost = _varifocal_cost(scores, targets.labels, iou)
        cost += self.box_weight * (1 - pairwise_giou(boxes, targets.boxes))
        cost += _OUTSIDE * ~(in_box & near)
        cost.masked_fill_(~allowed, torch.inf)

        top = min(self.top, count)
        numbers = iou.topk(top, dim=-1).values.sum(-1).int().clamp(min=1)  # (B, G)
        cheapest = cost.topk(top, dim=-1, largest=False).indices
        taken = (torch.arange(top, device=cost.device) < numbers[..., None]) & targets.real[..., None]
        claimed = torch.zeros_like(allowed).scatter_(-1, cheapest, taken) & allowed
        several = claimed.sum(1, keepdim=True) > 1
        least = torch.zeros_like(claimed).scatter_(1, cost.masked_fill(~claimed, torch.inf).argmin(1, keepdim=True), True)
        claimed &= least | ~several
        return Assignment(claimed.any(1), claimed.float().argmax(1), (iou * claimed).amax(1))


def _varifocal_cost(scores, labels, iou, alpha: float = 0.75, gamma: float = 2.0):
    """Varifocal loss of each point, summed over classes, were it to learn each box: (B, G, N).

    All classes count as negatives but the box's, whose quality is the IoU.
    """
    scores = scores.clamp(1e-7, 1 - 1e-7)
    negative = alpha * scores**gamma * -torch.log1p(-scores)  # (B, N, nc)
    own = scores_of_labels(scores, labels)  # (B, G, N)
    positive = F.binary_cross_entropy(own, iou.clamp(0, 1), reduction="none") * iou
    return negative.sum(-1)[:, None] - scores_of_labels(negative, labels) + positive
