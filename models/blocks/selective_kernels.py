"""Selective kernels (Li et al., Selective Kernel Networks, 2019)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE_INT
from graftdet.models.blocks.constructor_checks import check_kernel_list, check_same_width
from graftdet.models.blocks.conv import Conv


@BLOCKS.register(arguments={"reduction": POSITIVE_INT})
class SKAttention(nn.Module):
    """Convolutions of several kernel sizes, weighted per channel by a softmax over the branches.

    (B, c1, H, W) -> the same. The convolutions are not grouped: with the default kernels a row has 84 c1^2 weights.

    Args:
        c1: input channels.
        c2: output channels, equal to c1; may be omitted.
        kernels: list of odd kernel sizes, one per branch.
        reduction: c1 / reduction channels from which the weights are predicted, at least 32.

    Source:
        Li et al., Selective Kernel Networks, 2019, section 3.1, equations 1 to 6. Larger kernels instead of dilated
        ones, and four branches by default, as in model files.

    Example:
        [-1, 1, SKAttention, [64]]
    """

    def __init__(self, c1, c2=None, kernels=(1, 3, 5, 7), reduction=16):
        super().__init__()
        check_same_width(c1, c2, "reduction: 16")
        check_kernel_list(kernels)
        self.convs = nn.ModuleList(Conv(c1, c1, k, act="nn.ReLU()") for k in kernels)
        hidden = max(32, c1 // reduction)
        self.fc = nn.Linear(c1, hidden)
        self.fcs = nn.ModuleList(nn.Linear(hidden, c1) for _ in kernels)

    def forward(self, x: Tensor) -> Tensor:
        maps = [conv(x) for conv in self.convs]
        z = self.fc(sum(maps).mean((2, 3)))
        weights = F.softmax(torch.cat([fc(z)[:, :, None, None] for fc in self.fcs], 2), 2)  # (B, c1, branches, 1)
        return sum(y * weight for y, weight in zip(maps, weights.split(1, 2), strict=True))
