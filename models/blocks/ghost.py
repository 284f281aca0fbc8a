"""Ghost blocks (Han et al., GhostNet: More Features from Cheap Operations, 2020) in the forms published with YOLOv5."""

import torch
from torch import nn

from . import BLOCKS
from .base import Conv, DWConv


@BLOCKS.register()
class GhostConv(nn.Module):
    """Half of the channels by a convolution, the other half from those by a cheap 5x5 depth-wise one (section 3.1).

    (B, c1, H, W) -> (B, c2, H/s, W/s). Differs from the paper in activation and in the kernel of the cheap part.
    """

    def __init__(self, c1, c2, k=1, s=1, g=1, act=True):
        super().__init__()
        hidden = c2 // 2
        self.cv1 = Conv(c1, hidden, k, s, None, g, act=act)
        self.cv2 = Conv(hidden, hidden, 5, 1, None, hidden, act=act)

    def forward(self, x):
        y = self.cv1(x)
        return torch.cat((y, self.cv2(y)), 1)


@BLOCKS.register()
class GhostBottleneck(nn.Module):
    """Two GhostConvs, a strided depth-wise convolution between them when s = 2 (section 3.2).

    (B, c1, H, W) -> (B, c2, H/s, W/s). The shortcut is an identity at stride 1, so c1 and c2 must agree there.
    """

    def __init__(self, c1, c2, k=3, s=1):
        super().__init__()
        if s not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {s}")
        if s == 1 and c1 != c2:
            raise ValueError(f"at stride 1 the width stays: {c1} in, {c2} out")
        hidden = c2 // 2
        strided = s == 2
        self.conv = nn.Sequential(
            GhostConv(c1, hidden, 1, 1),
            DWConv(hidden, hidden, k, s, act=False) if strided else nn.Identity(),
            GhostConv(hidden, c2, 1, 1, act=False),
        )
        self.shortcut = (
            nn.Sequential(DWConv(c1, c1, k, s, act=False), Conv(c1, c2, 1, 1, act=False)) if strided else nn.Identity()
        )

    def forward(self, x):
        return self.conv(x) + self.shortcut(x)
