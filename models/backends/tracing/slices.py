"""Blocks that take every second pixel or channel, without slices of steps, which ncnn lacks: the same numbers."""

import numpy as np
import torch
from torch import Tensor, nn

from graftdet.models.blocks.conv import Focus
from graftdet.models.blocks.gsconv import GSConv
from graftdet.models.blocks.ops import SpaceToDepth


class SlicesAsConvolution(nn.Module):
    """`SpaceToDepth` as a convolution of stride 2 whose weights are zeros and ones."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, 4 c, H/2, W/2)."""
        channels = int(x.shape[1])
        every, weight = np.arange(channels), np.zeros((4, channels, channels, 2, 2), np.float32)
        for part, (column, row) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
            weight[part, every, every, row, column] = 1
        # an array of NumPy becomes a constant of a trace
        return nn.functional.conv2d(x, torch.from_numpy(weight.reshape(-1, channels, 2, 2)), stride=2)


class ShuffledGSConv(nn.Module):
    """`GSConv` whose last step is a channel shuffle.

    Args:
        block: the block to replace.
    """

    def __init__(self, block: GSConv):
        super().__init__()
        self.cv1, self.cv2 = block.cv1, block.cv2
        self.hidden = next(one for one in block.cv2.modules() if isinstance(one, nn.Conv2d)).out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H/s, W/s)."""
        y = self.cv1(x)
        y = torch.cat((y, self.cv2(y)), 1)
        batch, channels, height, width = y.shape
        return y.view(batch, self.hidden, 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)


def replace_strided_slices(module: nn.Module) -> None:
    """Replace these blocks in a module."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is SpaceToDepth:
                setattr(parent, name, SlicesAsConvolution())
            elif type(child) is Focus:
                setattr(parent, name, nn.Sequential(SlicesAsConvolution(), child.conv))
            elif type(child) is GSConv:
                setattr(parent, name, ShuffledGSConv(child))
