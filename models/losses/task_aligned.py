"""Task-aligned assignment: points whose score and box agree best with a true box learn it."""

import torch

from .assignment import ASSIGNERS, Assignment, mask_of_best, points_inside, scores_of_labels
from .overlap import pairwise_iou


@ASSIGNERS.register("task_aligned")
class TaskAlignedAssigner:
    """Feng et al., TOOD, 2021, section 3.2: t = score^alpha * IoU^beta; the `top` points inside a box with the greatest
    t are positive, a point claimed by several goes to the one that it overlaps most. A positive's quality is its t,
    scaled so that the greatest of each box is the greatest IoU among its points.

    With `top` 1 the assignment is one-to-one (Wang et al., YOLOv10, 2024, section 3.1: both with one metric).
    """

    def __init__(self, top: int = 10, alpha: float = 0.5, beta: float = 6.0):
        self.top, self.alpha, self.beta = top, alpha, beta

    @torch.no_grad()
    def __call__(self, scores, boxes, points, strides, targets) -> Assignment:
        batch, count, _ = scores.shape
        if not targets.real.shape[1]:
            return Assignment.empty(batch, count, scores.device)
        scores, boxes = scores.float(), boxes.float()
        iou = pairwise_iou(boxes, targets.boxes).clamp(0)  # (B, G, N)
        inside = points_inside(points, targets.boxes, float(strides.min())) & targets.real[..., None]
        metric = scores_of_labels(scores, targets.labels) ** self.alpha * iou**self.beta
        # where nothing overlaps yet every t is 0: nearest points first
        centre = (targets.boxes[..., :2] + targets.boxes[..., 2:]) / 2
        near = 1 / (1 + (points[None, None] - centre[:, :, None]).square().sum(-1))
        claimed = mask_of_best(metric + near * 1e-12, self.top, inside)

        several = claimed.sum(1, keepdim=True) > 1  # (B, 1, N)
        most = torch.zeros_like(claimed).scatter_(1, iou.masked_fill(~claimed, -1).argmax(1, keepdim=True), True)
        claimed &= most | ~several

        metric, iou = metric * claimed, iou * claimed
        quality = metric / (metric.amax(-1, keepdim=True) + 1e-9) * iou.amax(-1, keepdim=True)
        return Assignment(claimed.any(1), claimed.float().argmax(1), quality.amax(1))
