"""Normalization of the image by fixed numbers, as a row of models that were trained on normalized images."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.utils.errors import UserError


@BLOCKS.register()
class Normalize(nn.Module):
    """Subtract a mean from each channel and divide by a standard deviation; nothing is trained.

    (B, c, H, W) -> (B, c, H, W). As the first row, for images in 0..1 with the channels RGB.

    Args:
        mean: one number, or one per channel.
        std: one number above 0, or one per channel.

    Source:
        The preprocessing of torchvision's published models.

    Example:
        [-1, 1, Normalize, [0.5, 0.5]]
    """

    def __init__(self, mean, std):
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            numbers = values if isinstance(values, (list, tuple)) and values else [values]
            if any(isinstance(n, bool) or not isinstance(n, (int, float)) for n in numbers):
                raise UserError(f"{name}: expected a number or a list of one number per channel, got {values!r}")
            if name == "std" and min(numbers) <= 0:
                raise UserError(f"std: expected numbers above 0, got {values!r}")
            values = torch.tensor(numbers, dtype=torch.float32).view(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)  # the YAML has them

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std
