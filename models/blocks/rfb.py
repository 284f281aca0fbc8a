"""Receptive field block (Liu et al., Receptive Field Block Net for Accurate and Fast Object Detection, 2018)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE_INT
from graftdet.models.blocks.conv import FusePairs


class _ConvBn(FusePairs, nn.Module):
    """Convolution without bias, batch norm, ReLU where `relu`; weights are named as published (`conv`, `bn`)."""

    fuse_pairs = (("conv", "bn"),)

    def __init__(self, c1, c2, k=1, s=1, d=1, relu=True):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, d * (k - 1) // 2, d, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-5, momentum=0.01)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.relu(x) if self.relu else x


@BLOCKS.register(arguments={"visual": POSITIVE_INT})
class BasicRFB(nn.Module):
    """Receptive field block: branches of growing kernel size and dilation, concatenated, added to a shortcut.

    (B, in_planes, H, W) -> (B, out_planes, H/stride, W/stride). 5x5 kernels are two 3x3 ones, as published.

    Args:
        in_planes: input channels, at least 8.
        out_planes: output channels.
        stride: stride.
        scale: factor of the branches in the sum.
        visual: dilation of the first branch; the others have visual + 1 and 2 visual + 1.

    Source:
        Liu et al., Receptive Field Block Net, 2018, section 3.2, figure 4 a.

    Example:
        [-1, 1, BasicRFB, [64]]
    """

    def __init__(self, in_planes, out_planes, stride=1, scale=0.1, visual=1):
        super().__init__()
        c = in_planes // 8
        if c < 1:
            raise ValueError(f"needs at least 8 channels in, got {in_planes}")
        wider = max(c // 2 * 3, 1)
        self.scale = scale
        self.branch0 = nn.Sequential(
            _ConvBn(in_planes, 2 * c, s=stride), _ConvBn(2 * c, 2 * c, 3, d=visual, relu=False)
        )
        self.branch1 = nn.Sequential(
            _ConvBn(in_planes, c), _ConvBn(c, 2 * c, 3, stride), _ConvBn(2 * c, 2 * c, 3, d=visual + 1, relu=False)
        )
        self.branch2 = nn.Sequential(
            _ConvBn(in_planes, c),
            _ConvBn(c, wider, 3),
            _ConvBn(wider, 2 * c, 3, stride),
            _ConvBn(2 * c, 2 * c, 3, d=2 * visual + 1, relu=False),
        )
        self.ConvLinear = _ConvBn(6 * c, out_planes, relu=False)
        self.shortcut = _ConvBn(in_planes, out_planes, s=stride, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat((self.branch0(x), self.branch1(x), self.branch2(x)), 1)
        return F.relu(self.ConvLinear(joined) * self.scale + self.shortcut(x))
