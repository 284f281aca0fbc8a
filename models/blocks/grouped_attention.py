"""Attention over groups of channels, or over channels and positions together, that keeps the shape of its map.

A row gives the width (`[-1, 1, EMA, [256]]`, scaled by the width multiple) or omits it (`[]`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE_INT
from graftdet.models.blocks.constructor_checks import check_same_width, reduced_width
from graftdet.models.blocks.ops import channel_shuffle


@BLOCKS.register(arguments={"reduction": POSITIVE_INT, "G": POSITIVE_INT})
class ShuffleAttention(nn.Module):
    """Channels split into groups, half of each weighted by its mean, half by its group norm, then shuffled.

    (B, c1, H, W) -> the same; c1 must be a multiple of 2 G.

    Args:
        c1: input channels.
        c2: output channels, equal to c1; may be omitted.
        reduction: accepted as published, without effect.
        G: number of groups.

    Source:
        Zhang and Yang, SA-Net, 2021, section 3, figure 2. The paper has 64 groups; the default is that of model files.

    Example:
        [-1, 1, ShuffleAttention, [64]]
    """

    def __init__(self, c1, c2=None, reduction=16, G=8):
        super().__init__()
        check_same_width(c1, c2, "G: 8")
        if c1 % (2 * G):
            raise ValueError(f"splits its channels into 2 x {G} parts; {c1} is not a multiple of {2 * G}")
        self.groups, part = G, c1 // (2 * G)
        self.gn = nn.GroupNorm(part, part)
        self.cweight = nn.Parameter(torch.zeros(1, part, 1, 1))
        self.cbias = nn.Parameter(torch.ones(1, part, 1, 1))
        self.sweight = nn.Parameter(torch.zeros(1, part, 1, 1))
        self.sbias = nn.Parameter(torch.ones(1, part, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        channels, positions = x.reshape(-1, c // self.groups, h, w).chunk(2, 1)  # (B G, c / 2G, H, W)
        by_mean = self.cweight * channels.mean((2, 3), keepdim=True) + self.cbias
        by_norm = self.sweight * self.gn(positions) + self.sbias
        y = torch.cat((channels * by_mean.sigmoid(), positions * by_norm.sigmoid()), 1)
        return channel_shuffle(y.reshape(-1, c, h, w), 2)


@BLOCKS.register("NAM", "NAMAttention")
class NAM(nn.Module):
    """Channels weighted by their batch norm, each scaled by its fraction of all batch norm weights.

    (B, c1, H, W) -> the same.

    Args:
        c1: input channels.
        c2: output channels, equal to c1; may be omitted.

    Source:
        Liu et al., NAM: Normalization-based Attention Module, 2021, section 3, equation 2 (channel attention).

    Example:
        [-1, 1, NAM, [64]]
    """

    def __init__(self, c1, c2=None):
        super().__init__()
        check_same_width(c1, c2, "")
        self.bn2 = nn.BatchNorm2d(c1)

    def forward(self, x: Tensor) -> Tensor:
        size = self.bn2.weight.abs()
        weights = (size / size.sum()).view(-1, 1, 1)
        return x * torch.sigmoid(self.bn2(x) * weights)


@BLOCKS.register("GAM", "GAM_Attention", "GAMAttention", arguments={"rate": POSITIVE_INT})
class GAM(nn.Module):
    """Channel attention by a perceptron per position, then spatial attention by two 7x7 convolutions.

    (B, c1, H, W) -> the same. Most of its weights are those of the 7x7 convolutions.

    Args:
        c1: input channels.
        c2: output channels, equal to c1; may be omitted.
        rate: c1 / rate channels inside.

    Source:
        Liu et al., Global Attention Mechanism, 2021, section 3, figures 2 and 3.

    Example:
        [-1, 1, GAM, [64]]
    """

    def __init__(self, c1, c2=None, rate=4):
        super().__init__()
        check_same_width(c1, c2, "rate: 4")
        hidden = reduced_width(c1, rate)
        self.channel_attention = nn.Sequential(nn.Linear(c1, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, c1))
        self.spatial_attention = nn.Sequential(
            nn.Conv2d(c1, hidden, 7, padding=3),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, c1, 7, padding=3),
            nn.BatchNorm2d(c1),
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = self.channel_attention(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (B, c1, H, W)
        x = x * weights.sigmoid()
        return x * self.spatial_attention(x).sigmoid()


@BLOCKS.register("EMA", "EMA_attention", "EMAttention", arguments={"factor": POSITIVE_INT})
class EMA(nn.Module):
    """Efficient multi-scale attention: per group of channels, means of rows and columns against a 3x3 convolution.

    (B, c1, H, W) -> the same; c1 must be a multiple of the factor.

    Args:
        c1: input channels.
        c2: output channels, equal to c1; may be omitted.
        factor: number of groups.

    Source:
        Ouyang et al., Efficient Multi-Scale Attention Module with Cross-Spatial Learning, 2023, section 2, figure 3.
        The default is that of model files.

    Example:
        [-1, 1, EMA, [64, 8]]
    """

    def __init__(self, c1, c2=None, factor=8):
        super().__init__()
        check_same_width(c1, c2, "factor: 8")
        if c1 % factor:
            raise ValueError(f"splits its channels into {factor} groups; {c1} is not a multiple of {factor}")
        self.width = c1 // factor
        self.gn = nn.GroupNorm(self.width, self.width)
        self.conv1x1 = nn.Conv2d(self.width, self.width, 1)
        self.conv3x3 = nn.Conv2d(self.width, self.width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        groups = x.reshape(-1, self.width, h, w)  # (B factor, width, H, W)
        rows, columns = groups.mean(3, keepdim=True), groups.mean(2, keepdim=True).transpose(2, 3)
        both = self.conv1x1(torch.cat((rows, columns), 2)).sigmoid()
        first = self.gn(groups * both[:, :, :h] * both[:, :, h:].transpose(2, 3))
        second = self.conv3x3(groups)
        weights = self._compare(first, second) + self._compare(second, first)  # (B factor, 1, H W)
        return (groups * weights.reshape(-1, 1, h, w).sigmoid()).reshape(-1, c, h, w)

    @staticmethod
    def _compare(first: Tensor, second: Tensor) -> Tensor:
        """Channels of `second`, weighted by the softmax of the channel means of `first`."""
        means = F.softmax(first.mean((2, 3)), 1)
        return means.unsqueeze(1) @ second.flatten(2)
