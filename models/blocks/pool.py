"""Spatial pyramid pooling (He et al., 2014)."""

import torch
from torch import nn

from . import BLOCKS
from .base import Conv


@BLOCKS.register()
class SPP(nn.Module):
    """Max pools of several kernel sizes side by side: (B, c1, H, W) -> (B, c2, H, W)."""

    def __init__(self, c1, c2, k=(5, 9, 13)):
        super().__init__()
        hidden = c1 // 2
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(hidden * (len(k) + 1), c2, 1, 1)
        self.m = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in k)

    def forward(self, x):
        x = self.cv1(x)
        return self.cv2(torch.cat([x, *(m(x) for m in self.m)], 1))


@BLOCKS.register()
class SPPF(nn.Module):
    """The same maps as SPP with kernels k, 2k - 1, 3k - 2, by one pool three times in a row."""

    def __init__(self, c1, c2, k=5):
        super().__init__()
        hidden = c1 // 2
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(hidden * 4, c2, 1, 1)
        self.m = nn.MaxPool2d(k, 1, k // 2)

    def forward(self, x):
        maps = [self.cv1(x)]
        for _ in range(3):
            maps.append(self.m(maps[-1]))
        return self.cv2(torch.cat(maps, 1))
