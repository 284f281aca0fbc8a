"""Task-aligned assignment: points whose score and box agree best with a true box learn it."""

import torch
from graftdet.models.losses.assignment import Assignment, best_of_each, one_box_a_point, points_inside
from graftdet.models.losses.iou import iou


class TaskAlignedAssigner:
    """Feng et al., TOOD, 2021, section 3.2: t = score^alpha * IoU^beta; the `top` points inside a box with the greatest
    t are positive, a point claimed by several goes to the one that it overlaps most. A positive's quality is its t,
    scaled so that the greatest of each box is the greatest IoU among its points.

    With `top` 1 the assignment is one-to-one (Wang et al., YOLOv10, 2024, section 3.1: both with one metric, whose alpha
    0.5 and beta 6 are taken here; TOOD has 1 and 6, and 13 points a box). Beyond the papers, boxes smaller than a cell
    count as large as one, and where nothing overlaps yet the nearest points are taken.
    """

    def __init__(self, top: int = 10, alpha: float = 0.5, beta: float = 6.0):
        self.top, self.alpha, self.beta = top, alpha, beta

    @torch.no_grad()
    def __call__(self, scores, boxes, points, strides, truth) -> Assignment:
        box, point = points_inside(points, truth.boxes, strides.min()).nonzero(as_tuple=True)  # (P,) pairs
        if not len(box):
            return Assignment(box, point, strides.new_zeros(0))
        image, wanted = truth.image[box], truth.boxes[box]
        overlap = iou(boxes[image, point], wanted).clamp_(0)
        metric = scores[image, point, truth.labels[box]].float() ** self.alpha * overlap**self.beta
        # so little that it decides only where t is 0 for want of any overlap
        apart = (points[point] - (wanted[:, :2] + wanted[:, 2:]) / 2).square().sum(-1)
        numbers = torch.full_like(truth.labels, self.top)
        best = best_of_each(metric + 1e-12 / (1 + apart), box, len(truth), numbers)
        kept = best[one_box_a_point(overlap[best], image[best] * len(points) + point[best])]

        box, point, metric, overlap = box[kept], point[kept], metric[kept], overlap[kept]
        return Assignment(
            box, point, metric * _greatest(overlap, box, truth) / _greatest(metric, box, truth).clamp(min=1e-30)
        )


def _greatest(values, box, truth):
    """The greatest of the values (K,) of each pair's box, (K,)."""
    return values.new_zeros(len(truth)).scatter_reduce_(0, box, values, "amax")[box]
