"""Blocks without weights: joining maps, moving places into channels and back."""

import torch
from torch import nn

from . import BLOCKS


@BLOCKS.register()
class Concat(nn.Module):
    """Join a list of maps along `dimension` (1: channels); all other sizes must agree."""

    def __init__(self, dimension=1):
        super().__init__()
        self.d = dimension

    def forward(self, maps):
        return torch.cat(maps, self.d)


@BLOCKS.register()
class Contract(nn.Module):
    """Places into channels: (B, c, H, W) -> (B, c gain^2, H/gain, W/gain)."""

    def __init__(self, gain=2):
        super().__init__()
        self.gain = gain

    def forward(self, x):
        b, c, h, w = x.shape
        s = self.gain
        x = x.view(b, c, h // s, s, w // s, s).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(b, c * s * s, h // s, w // s)


@BLOCKS.register()
class Expand(nn.Module):
    """Channels into places: (B, c, H, W) -> (B, c / gain^2, H gain, W gain)."""

    def __init__(self, gain=2):
        super().__init__()
        self.gain = gain

    def forward(self, x):
        b, c, h, w = x.shape
        s = self.gain
        x = x.view(b, s, s, c // s**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(b, c // s**2, h * s, w * s)
