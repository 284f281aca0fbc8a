"""Targets of a batch as arrays of one shape, so that assigners look at all pictures at once."""

from dataclasses import dataclass

import torch


@dataclass
class PaddedTargets:
    """The true boxes of B pictures, filled up to the largest number G of boxes in one of them.

    `labels` (B, G) int64, 0 where filled up; `boxes` (B, G, 4) xyxy in pixels of the batch, float32; `real` (B, G) bool.
    """

    labels: torch.Tensor
    boxes: torch.Tensor
    real: torch.Tensor


def pad_targets(targets, batch_size: int, height: int, width: int) -> PaddedTargets:
    """Targets (M, 6): image, class, cx, cy, w, h normalised -> `PaddedTargets` in pixels of pictures (height, width)."""
    image = targets[:, 0].long()
    counts = torch.bincount(image, minlength=batch_size)  # (B,)
    most = int(counts.max()) if len(image) else 0
    labels = torch.zeros(batch_size, most, dtype=torch.long, device=targets.device)
    boxes = torch.zeros(batch_size, most, 4, dtype=torch.float32, device=targets.device)
    real = torch.arange(most, device=targets.device) < counts[:, None]  # (B, G)
    if most:
        order = torch.argsort(image, stable=True)
        image = image[order]
        place = torch.arange(len(image), device=targets.device) - (counts.cumsum(0) - counts)[image]
        centre, half = targets[order, 2:4].float(), targets[order, 4:6].float() / 2
        size = targets.new_tensor([width, height, width, height], dtype=torch.float32)
        labels[image, place] = targets[order, 1].long()
        boxes[image, place] = torch.cat((centre - half, centre + half), 1) * size
    return PaddedTargets(labels, boxes, real)
