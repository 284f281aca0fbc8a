"""What heads without anchors share: every cell predicts the distances from its centre to the sides of a box."""

from abc import ABC, abstractmethod

import torch
from graftdet.models.heads.argument_checks import check_classes, check_whole
from graftdet.models.losses.anchor_free import flatten_levels, level_points
from graftdet.models.losses.distribution_focal import distances_to_boxes, expected_distances
from graftdet.utils.errors import UserError
from torch import nn


class PointHead(nn.Module, ABC):
    """Base of heads that predict, per cell, `4 * bins` logits of side distances and `nc` class logits.

    The distances are in strides, each the mean of a distribution over 0 .. bins - 1 (Li et al., Generalized Focal Loss,
    2020). Raw outputs are a list of (B, 4 * bins + nc, H, W), one a level. A subclass builds its branches and defines
    `forward(maps)`, `output_biases()` and `criterion`.
    """

    needs_nms = True
    prior = 0.01  # of every class at the start (Lin et al., Focal Loss, 2017, section 4.1)

    def __init__(self, nc, bins):
        super().__init__()
        check_classes(nc)
        if isinstance(bins, (list, tuple)):
            raise UserError("takes no anchors: write [nc] for its args")
        check_whole(bins, "bins, the number of distances that a side is told by,", 2)
        self.nc, self.bins = nc, bins
        self.strides: list[float] = []

    @abstractmethod
    def output_biases(self):
        """Pairs of biases, one a level: (4 * bins,) of the sides and (nc,) of the classes, as views."""

    def set_strides(self, strides: list[float]) -> None:
        """Take the real strides and start the biases: classes rare, boxes of about five strides, the middle of what a level
        is for. (Evenly spread sides would start with 15 strides, and overlap with true boxes so little that the first
        epochs are spent on making them smaller.)"""
        self.strides = [float(s) for s in strides]
        with torch.no_grad():
            for sides, classes in self.output_biases():
                sides.copy_(-torch.arange(self.bins, dtype=sides.dtype).repeat(4) / 3)
                classes.fill_(torch.logit(torch.tensor(self.prior)).item())

    def decode_rows(self, raw):
        """Raw maps to (B, N, 5 + nc): cx, cy, w, h in pixels, objectness 1, class probabilities."""
        boxes, scores = self._decode(raw)
        low, high = boxes.split(2, -1)
        return torch.cat(((low + high) / 2, high - low, torch.ones_like(scores[..., :1]), scores), -1)

    def decode(self, raw):
        """Raw maps to boxes (B, N, 4) xyxy pixels and scores (B, N, nc)."""
        return self._decode([y.float() for y in raw])

    def _decode(self, raw):
        sides, classes = flatten_levels(raw, 4 * self.bins)
        points, strides = level_points([y.shape[2:] for y in raw], self.strides, sides)
        boxes = distances_to_boxes(points, expected_distances(sides, self.bins) * strides[:, None])
        return boxes, classes.sigmoid()
