"""Base class of anchor-free heads: each cell predicts distributions of the ltrb distances from its point."""

from typing import Any

import torch

from graftdet.models.heads.base import Head, prior_bias
from graftdet.models.heads.exported_rows import cells_of_rows, mean_distances, rows_of_distances
from graftdet.models.heads.row_arguments import check_integer
from graftdet.models.losses.distribution_focal import expected_distances
from graftdet.models.losses.points import distances_to_boxes, flatten_levels, level_points
from graftdet.utils.errors import UserError

ARGUMENT_ALIASES = {"bins": "reg_max"}
"""Older names of the constructor arguments, accepted in a row's keywords."""
INITIAL_DISTANCE = 2.5  # in strides, where there are no distributions


class AnchorFreeHead(Head):
    """Base of heads that predict, per cell, `4 * reg_max` distance logits and `nc` class logits.

    The ltrb distances, from the point of the cell to the left, top, right and bottom of the box, are in strides; each
    is the mean of a distribution over the bins 0 .. reg_max - 1 (Li et al., Generalized Focal Loss, 2020, section 3.2),
    or the output itself where `reg_max` is None, which counts as 1 below.
    Raw outputs are a list of (B, 4 * reg_max + nc, H, W), one per level. A subclass builds its layers and defines
    `forward(maps)`, `output_biases()` and `criterion`.

    Attributes:
        point_offset: position of the point of a cell, from which the distances are: 0.5 is the center, 0 the upper left
            corner.
        has_distributions: whether `reg_max` must be a number.
        min_reg_max: its least value; 1 stands for no distributions.
    """

    point_offset: float = 0.5
    has_distributions: bool = True
    min_reg_max: int = 2

    def __init__(self, nc: int, reg_max: int | None):
        super().__init__(nc)
        if isinstance(reg_max, (list, tuple)):
            raise UserError("takes no anchors; write [nc] for its args")
        if self.has_distributions:
            check_integer(reg_max, "reg_max, the number of distribution bins per distance,", self.min_reg_max)
        self.reg_max = None if reg_max == 1 else reg_max

    @property
    def box_channels(self) -> int:
        """Number of outputs per cell before the classes."""
        return 4 * (self.reg_max or 1)

    def set_strides(self, strides: list[float]) -> None:
        """Set the strides and initialize the biases: rare classes, boxes of about five strides.

        Five strides are the middle of the range of a level. Uniform distributions would start with 15 strides, whose
        IoU with the targets is so small that the first epochs are spent on shrinking the boxes.
        """
        super().set_strides(strides)
        with torch.no_grad():
            for distances, classes in self.output_biases():
                if self.reg_max is None:
                    distances.fill_(INITIAL_DISTANCE)
                else:
                    distances.copy_(-torch.arange(self.reg_max, dtype=distances.dtype).repeat(4) / 3)
                classes.fill_(prior_bias())

    def decode_rows(self, raw: Any) -> torch.Tensor:
        """Raw outputs to (B, N, 5 + nc): cx, cy, w, h in pixels, objectness and classes as in `with_objectness`."""
        logits, classes = flatten_levels(raw, self.box_channels)
        sizes = [(y.shape[2], y.shape[3]) for y in raw]
        points, strides = cells_of_rows(sizes, self.strides, logits, self.point_offset)
        distances = mean_distances(logits, self.reg_max) * strides.repeat(1, 1, 2)
        return rows_of_distances(points, distances, classes.sigmoid())

    def raw_format(self) -> dict[str, Any]:
        """The number of bins per distance, 1 for distances themselves, and where the point of a cell is."""
        return {"decoder": "distances", "reg_max": self.reg_max or 1, "point_offset": self.point_offset}

    def decode(self, raw: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw outputs to boxes (B, N, 4) xyxy pixels and scores (B, N, nc)."""
        return self._decode([y.float() for y in raw])

    def _decode(self, raw):
        distances, classes = flatten_levels(raw, self.box_channels)
        points, strides = level_points([y.shape[2:] for y in raw], self.strides, distances, self.point_offset)
        boxes = distances_to_boxes(points, expected_distances(distances, self.reg_max) * strides[:, None])
        return boxes, classes.sigmoid()
