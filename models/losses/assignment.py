"""What an assigner of points to true boxes gives, and what such assigners share."""

from dataclasses import dataclass

import torch

from utils.registry import Registry

ASSIGNERS = Registry("assigner")
"""name -> class; its objects are called as `assign(scores (B, N, nc) 0..1, boxes (B, N, 4) xyxy pixels, points (N, 2)
pixels, strides (N,), PaddedTargets) -> Assignment`, without gradients, in float32."""


@dataclass
class Assignment:
    """Which true box each of N points learns in each of B pictures.

    `positive` (B, N) bool; `target` (B, N) int64, the place of the box in `PaddedTargets`, 0 for negatives; `quality`
    (B, N) float32, what the class score should be, 0 for negatives.
    """

    positive: torch.Tensor
    target: torch.Tensor
    quality: torch.Tensor

    @classmethod
    def empty(cls, batch_size: int, points: int, device) -> "Assignment":
        """Of pictures without a single box."""
        shape = (batch_size, points)
        return cls(
            torch.zeros(shape, dtype=torch.bool, device=device),
            torch.zeros(shape, dtype=torch.long, device=device),
            torch.zeros(shape, device=device),
        )


def points_inside(points, boxes_xyxy, least_side=0.0):
    """Points (N, 2) and boxes (B, G, 4) xyxy pixels -> (B, G, N) bool: strictly inside.

    Boxes with a side below `least_side` are taken as that long around their centre: smaller than the cells of the finest
    level they would contain no point at all.
    """
    centre = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) / 2
    half = ((boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]) / 2).clamp(min=least_side / 2)
    offset = (points[None, None] - centre[:, :, None]).abs()  # (B, G, N, 2)
    return (offset < half[:, :, None]).all(-1)


def scores_of_labels(scores, labels):
    """Scores (B, N, nc) and labels (B, G) -> the score of each box's class at each point, (B, G, N)."""
    batch, points, _ = scores.shape
    return scores.transpose(1, 2).gather(1, labels[..., None].expand(batch, labels.shape[1], points))


def mask_of_best(values, count: int, allowed):
    """(B, G, N) bool: the `count` greatest `values` of each row that are `allowed` (B, G, N)."""
    count = min(count, values.shape[-1])
    best = values.masked_fill(~allowed, -torch.inf).topk(count, dim=-1).indices
    return torch.zeros_like(allowed).scatter_(-1, best, True) & allowed
