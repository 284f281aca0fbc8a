"""Blocks of YOLOv6 (Li et al., YOLOv6: A Single-Stage Object Detection Framework for Industrial Applications, 2022)."""

from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.conv import Conv
from graftdet.models.blocks.repvgg import RepVGGBlock


@BLOCKS.register()
class SimConv(Conv):
    """Conv with ReLU.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size.
        s: stride.
        g: groups.

    Source:
        Li et al., YOLOv6, 2022, section 2.1 (neck); Ioffe and Szegedy, Batch Normalization, 2015.

    Example:
        [-1, 1, SimConv, [64, 1, 1]]
    """

    def __init__(self, c1, c2, k=1, s=1, g=1):
        super().__init__(c1, c2, k, s, g=g, act="nn.ReLU(inplace=True)")


@BLOCKS.register()
class RepBlock(nn.Module):
    """n RepVGG blocks with ReLU in sequence.

    (B, c1, H, W) -> (B, c2, H, W). Each becomes one 3x3 convolution by `fuse()`.

    Args:
        c1: input channels.
        c2: output channels.
        n: number of RepVGG blocks (the row's number).

    Source:
        Li et al., YOLOv6, 2022, section 2.1, figure 3 a and b; Ding et al., RepVGG, 2021.

    Example:
        [-1, 6, RepBlock, [64]]
    """

    def __init__(self, c1, c2, n=1):
        super().__init__()
        self.conv1 = RepVGGBlock(c1, c2)
        self.block = nn.Sequential(*(RepVGGBlock(c2, c2) for _ in range(n - 1)))
        for block in (self.conv1, *self.block):
            block.nonlinearity = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.conv1(x))
