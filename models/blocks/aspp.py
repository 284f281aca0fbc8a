"""Atrous spatial pyramid pooling (Chen et al., DeepLab, 2017)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import are_positive_ints
from graftdet.models.blocks.conv import Conv


@BLOCKS.register()
class ASPP(nn.Module):
    """Convolutions of growing dilation and the mean of the map side by side, concatenated.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels, of each branch as well.
        rates: list of dilations; 1 is a 1x1 convolution, the others are of 3x3 convolutions.

    Source:
        Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017, section 3.3, figure 5. The
        branch of the mean has no batch norm, so that a batch of one can be trained.

    Example:
        [-1, 1, ASPP, [64]]
    """

    def __init__(self, c1, c2, rates=(1, 6, 12, 18)):
        super().__init__()
        if not are_positive_ints(rates):
            raise ValueError(f"rates are whole numbers of at least 1, got {rates!r}")
        rates = rates if isinstance(rates, (list, tuple)) else [rates]
        self.branches = nn.ModuleList(Conv(c1, c2, 1 if rate == 1 else 3, d=rate) for rate in rates)
        self.mean = nn.Conv2d(c1, c2, 1)
        self.project = Conv((len(rates) + 1) * c2, c2, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = F.relu(self.mean(x.mean((2, 3), keepdim=True)))
        maps = [branch(x) for branch in self.branches]
        return self.project(torch.cat([*maps, mean + torch.zeros_like(maps[0])], 1))
