"""The ground-truth boxes of a batch in one list: without padding, a crowded image costs the others nothing."""

from dataclasses import dataclass

import torch


@dataclass
class GroundTruthBoxes:
    """M ground-truth boxes of a batch.

    Attributes:
        image: (M,) int64, the index of each box's image in the batch.
        labels: (M,) int64 classes.
        boxes: (M, 4) float32 xyxy in pixels of the batch.
    """

    image: torch.Tensor
    labels: torch.Tensor
    boxes: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


def unpack_targets(targets: torch.Tensor, height: int, width: int) -> GroundTruthBoxes:
    """Targets (M, 6): image, class, cx, cy, w, h normalized -> boxes in pixels of images (height, width)."""
    center, half = targets[:, 2:4].float(), targets[:, 4:6].float() / 2
    size = center.new_tensor([width, height, width, height])
    boxes = torch.cat((center - half, center + half), 1) * size
    return GroundTruthBoxes(targets[:, 0].long(), targets[:, 1].long(), boxes)
