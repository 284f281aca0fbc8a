"""The true boxes of a batch, one after another: nothing is filled up, so a crowded picture costs the others nothing."""

from dataclasses import dataclass

import torch


@dataclass
class TrueBoxes:
    """M true boxes of a batch.

    `image` (M,) int64, the picture that each lies in; `labels` (M,) int64; `boxes` (M, 4) float32 xyxy in pixels of the
    batch.
    """

    image: torch.Tensor
    labels: torch.Tensor
    boxes: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


def read_targets(targets, height: int, width: int) -> TrueBoxes:
    """Targets (M, 6): image, class, cx, cy, w, h normalised -> `TrueBoxes` in pixels of pictures (height, width)."""
    centre, half = targets[:, 2:4].float(), targets[:, 4:6].float() / 2
    size = centre.new_tensor([width, height, width, height])
    return TrueBoxes(targets[:, 0].long(), targets[:, 1].long(), torch.cat((centre - half, centre + half), 1) * size)
