"""Spatial pyramid pooling (He et al., 2014)."""

import torch
from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import activation
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.conv import Conv, odd_kernels, one_kernel, several_kernels
from torch import nn


@BLOCKS.register()
class SPP(nn.Module):
    """Max pools of several kernel sizes side by side: (B, c1, H, W) -> (B, c2, H, W)."""

    def __init__(self, c1, c2, k=(5, 9, 13)):
        super().__init__()
        several_kernels(k)
        hidden = c1 // 2
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(hidden * (len(k) + 1), c2, 1, 1)
        self.m = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in k)

    def forward(self, x):
        x = self.cv1(x)
        return self.cv2(torch.cat([x, *(m(x) for m in self.m)], 1))


@BLOCKS.register()
class MP(nn.MaxPool2d):
    """The largest of k x k places, which do not overlap: (B, c, H, W) -> (B, c, H/k, W/k)."""

    def __init__(self, k=2):
        one_kernel(k)
        super().__init__(k, k)


@BLOCKS.register()
class SP(nn.MaxPool2d):
    """The largest of k x k places around each: (B, c, H, W) -> (B, c, H/s, W/s)."""

    def __init__(self, k=3, s=1):
        odd_kernels(k)
        super().__init__(k, s, k // 2)


def pooled_thrice(x, pool):
    """(B, c, H, W) -> (B, 4c, H, W): `x`, and `pool` once, twice and three times over it."""
    maps = [x]
    for _ in range(3):
        maps.append(pool(maps[-1]))
    return torch.cat(maps, 1)


@BLOCKS.register()
class SPPF(nn.Module):
    """The same maps as SPP with kernels k, 2k - 1, 3k - 2, by one pool three times in a row."""

    def __init__(self, c1, c2, k=5):
        super().__init__()
        odd_kernels(k)
        hidden = c1 // 2
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(hidden * 4, c2, 1, 1)
        self.m = nn.MaxPool2d(k, 1, k // 2)

    def forward(self, x):
        return self.cv2(pooled_thrice(self.cv1(x), self.m))


@BLOCKS.register()
class SimSPPF(SPPF):
    """SPPF with ReLU in its convolutions (Li et al., YOLOv6, 2022): (B, c1, H, W) -> (B, c2, H, W)."""

    def __init__(self, c1, c2, k=5):
        super().__init__(c1, c2, k)
        self.cv1.act, self.cv2.act = activation("nn.ReLU(inplace=True)"), activation("nn.ReLU(inplace=True)")


@BLOCKS.register(rule="stack", arguments={"e": POSITIVE})
class SPPCSPC(nn.Module):
    """Max pools of several kernel sizes in one of two paths (Wang et al., YOLOv7, 2022): (B, c1, H, W) -> (B, c2, H, W).

    `n`, `shortcut` and `g` are taken as other CSP blocks take them, and change nothing, as published.
    """

    def __init__(self, c1, c2, n=1, shortcut=False, g=1, e=0.5, k=(5, 9, 13)):
        super().__init__()
        several_kernels(k)
        hidden = int(2 * c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(c1, hidden, 1, 1)
        self.cv3 = Conv(hidden, hidden, 3, 1)
        self.cv4 = Conv(hidden, hidden, 1, 1)
        self.m = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in k)
        self.cv5 = Conv((len(k) + 1) * hidden, hidden, 1, 1)
        self.cv6 = Conv(hidden, hidden, 3, 1)
        self.cv7 = Conv(2 * hidden, c2, 1, 1)

    def forward(self, x):
        y = self.cv4(self.cv3(self.cv1(x)))
        y = self.cv6(self.cv5(torch.cat([y, *(m(y) for m in self.m)], 1)))
        return self.cv7(torch.cat((y, self.cv2(x)), 1))
