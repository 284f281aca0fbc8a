"""Assignment of ground-truth boxes to anchors by shape, as in the published YOLOv5 recipe."""

import torch


class AnchorRatioAssigner:
    """Positives are the anchors of similar shape, in the cell of the box center and in neighbors of that cell.

    An anchor matches when neither its width nor its height differs from the box by a factor of `ratio` or more.

    Args:
        ratio: the largest ratio between the sides of a box and an anchor, exclusive (`anchor_t` of the recipe).
        reach: how far the box center may be from a neighbor, in cells: 0.5 takes the two nearest neighbors, 1 all four.
    """

    def __init__(self, ratio: float = 4.0, reach: float = 0.5):
        self.ratio, self.reach = ratio, reach

    def __call__(
        self, targets: torch.Tensor, anchors: torch.Tensor, height: int, width: int
    ) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
        """Assign on one level.

        Args:
            targets: (M, 6) image, class, cx, cy, w, h normalized.
            anchors: (A, 2) width, height in units of the stride.
            height: number of rows of the level's map.
            width: number of its columns.

        Returns:
            indices: image, anchor, row, column, each (K,) int64.
            boxes: (K, 4) x, y from the cell's corner and w, h, in units of the stride.
            labels: (K,) int64.
            anchors: (K, 2) those of the matches.
        """
        size = targets.new_tensor([width, height])
        xy, wh = targets[:, 2:4] * size, targets[:, 4:6] * size  # (M, 2) in cells
        ratio = wh[None] / anchors[:, None]  # (A, M, 2)
        matched = torch.max(ratio, 1 / ratio).amax(-1) < self.ratio
        anchor, target = matched.nonzero(as_tuple=True)  # (K,)
        xy, inverse = xy[target], size - xy[target]
        near_low = ((xy % 1 < self.reach) & (xy > 1)).T  # left, up: at most `reach` from the edge of the center's cell
        near_high = ((inverse % 1 < self.reach) & (inverse > 1)).T  # right, down
        chosen = torch.stack((torch.ones_like(near_low[0]), *near_low, *near_high))  # (5, K)
        shifts = targets.new_tensor([[0, 0], [-1, 0], [0, -1], [1, 0], [0, 1]])
        shift, match = chosen.nonzero(as_tuple=True)
        anchor, target = anchor[match], target[match]
        # `reach` towards a neighbor lands inside that neighbor; the box's own cell needs no shift
        cell = (xy[match] + self.reach * shifts[shift]).long()
        box = torch.cat((xy[match] - cell, wh[target]), 1)
        column, row = cell[:, 0].clamp(0, width - 1), cell[:, 1].clamp(0, height - 1)
        labels = targets[target, 1].long()
        return (targets[target, 0].long(), anchor, row, column), box, labels, anchors[anchor]
