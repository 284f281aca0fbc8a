"""ConvNeXt (Liu et al., A ConvNet for the 2020s, 2022)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.constructor_checks import OMIT_WIDTH_HINT
from graftdet.models.blocks.csp import C3


@BLOCKS.register()
class ConvNextBlock(nn.Module):
    """7x7 depthwise convolution, layer norm, a GELU MLP of four times the width, layer scale, shortcut.

    (B, dim, H, W) -> the same. Weights are named as published (`dwconv norm pwconv1 pwconv2 gamma`).

    Args:
        dim: channels.
        layer_scale_init_value: initial value of the layer scale `gamma`, at most 1; 0 or less omits it.

    Source:
        Liu et al., A ConvNet for the 2020s (ConvNeXt), 2022, figure 4. The paper also has drop path.

    Example:
        [-1, 1, ConvNextBlock, []]
    """

    def __init__(self, dim, layer_scale_init_value=1e-6):
        super().__init__()
        if layer_scale_init_value > 1:
            raise ValueError(f"layer_scale_init_value must be at most 1, got {layer_scale_init_value}{OMIT_WIDTH_HINT}")
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        scale = torch.full((dim,), float(layer_scale_init_value))
        self.gamma = nn.Parameter(scale) if layer_scale_init_value > 0 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(x).permute(0, 2, 3, 1)  # (B, H, W, dim)
        y = self.pwconv2(F.gelu(self.pwconv1(self.norm(y))))
        y = y if self.gamma is None else self.gamma * y
        return x + y.permute(0, 3, 1, 2)


@BLOCKS.register(arguments={"e": POSITIVE})
class CNeB(C3):
    """C3 block of ConvNeXt blocks.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of ConvNeXt blocks (the row's number).
        shortcut: accepted as in C3, without effect.
        g: accepted as in C3, without effect.
        e: inner width as a fraction of c2.

    Source:
        Liu et al., A ConvNet for the 2020s (ConvNeXt), 2022, in the C3 layout of YOLOv5.

    Example:
        [-1, 1, CNeB, [64]]
    """

    def inner(self, hidden: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Sequential(*(ConvNextBlock(hidden) for _ in range(n)))
