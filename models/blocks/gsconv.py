"""Blocks of the slim neck (Li et al., Slim-neck by GSConv: A Better Design Paradigm of Detector Architectures, 2022)."""

import torch
from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.conv import Conv
from torch import nn


@BLOCKS.register()
class GSConv(nn.Module):
    """Half of the channels by a convolution, the other half from those by a 5x5 depth-wise one, then dealt out in turn.

    (B, c1, H, W) -> (B, c2, H/s, W/s). The even channels of the joint map come first, then the odd ones (figure 3).
    """

    def __init__(self, c1, c2, k=1, s=1, g=1, act=True):
        super().__init__()
        if c2 % 2:
            raise ValueError(f"needs an even width out, got {c2}")
        hidden = c2 // 2
        self.cv1 = Conv(c1, hidden, k, s, None, g, act=act)
        self.cv2 = Conv(hidden, hidden, 5, 1, None, hidden, act=act)

    def forward(self, x):
        y = self.cv1(x)
        y = torch.cat((y, self.cv2(y)), 1)
        return torch.cat((y[:, 0::2], y[:, 1::2]), 1)


class GSBottleneck(nn.Module):
    """Two GSConvs beside a 1x1 Conv without activation, added (figure 4 a): (B, c1, H, W) -> (B, c2, H, W)."""

    def __init__(self, c1, c2, e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.conv_lighting = nn.Sequential(GSConv(c1, hidden, 1, 1), GSConv(hidden, c2, 3, 1, act=False))
        self.shortcut = Conv(c1, c2, 1, 1, act=False)

    def forward(self, x):
        return self.conv_lighting(x) + self.shortcut(x)


@BLOCKS.register(arguments={"e": POSITIVE})
class VoVGSCSP(nn.Module):
    """CSP block of `n` GS bottlenecks, joined once (figure 4 b): (B, c1, H, W) -> (B, c2, H, W).

    `shortcut` and `g` are taken as C3 takes them, and change nothing, as published. Published weights also hold a
    convolution `res` that nothing reads; it is not built here.
    """

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(c1, hidden, 1, 1)
        self.gsb = nn.Sequential(*(GSBottleneck(hidden, hidden, e=1.0) for _ in range(n)))
        self.cv3 = Conv(2 * hidden, c2, 1)

    def forward(self, x):
        return self.cv3(torch.cat((self.cv2(x), self.gsb(self.cv1(x))), 1))
