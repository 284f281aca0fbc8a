"""Inception convolution (Liu et al., Inception Convolution with Efficient Dilation Search, 2021)."""

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import activation
from graftdet.models.blocks.constructor_checks import check_square_kernel
from graftdet.utils.errors import UserError


@BLOCKS.register("InceptionConv", "DilatedInceptionConv")
class InceptionConv(nn.Module):
    """Convolution whose output channels have different dilations in height and width, batch norm and activation.

    (B, c1, H, W) -> (B, c2, H/s, W/s). The channels of one pair of dilations are one convolution (`conv_list`), so the
    cost is that of a plain convolution.

    Args:
        c1: input channels.
        c2: output channels.
        k: odd kernel size.
        s: stride.
        dilations: list of pairs (height, width), one per output channel, or fewer, which are spread evenly over the
            channels.
        g: groups of each of the convolutions.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Liu et al., Inception Convolution with Efficient Dilation Search, 2021, section 3.1. The search (EDO) is not
        part of this block.

    Example:
        [-1, 1, InceptionConv, [64, 3, 2]]
    """

    def __init__(self, c1, c2, k=3, s=1, dilations=((1, 1), (1, 2), (2, 1), (2, 2)), g=1, act=True):
        super().__init__()
        check_square_kernel(k)
        if k % 2 == 0:
            raise ValueError(f"the kernel must be odd, got {k}")
        self.channels: dict[tuple[int, int], list[int]] = {}  # pair -> its output channels
        for channel, pair in enumerate(_pair_per_channel(dilations, c2)):
            self.channels.setdefault(pair, []).append(channel)
        self.conv_list = nn.ModuleList(
            nn.Conv2d(c1, len(own), k, s, [d * (k // 2) for d in pair], pair, groups=g, bias=False)
            for pair, own in self.channels.items()
        )
        concatenated = [channel for own in self.channels.values() for channel in own]
        self.in_order = concatenated == sorted(concatenated)
        order = torch.tensor(concatenated).argsort()  # output channel -> its index in the concatenated convolutions
        self.register_buffer("channel_order", order, persistent=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([conv(x) for conv in self.conv_list], 1)
        return self.act(self.bn(y if self.in_order else y.index_select(1, self.channel_order)))

    def fuse(self) -> None:
        """Merge into each convolution its channels of the batch norm, in place."""
        if not isinstance(self.bn, nn.BatchNorm2d):
            return
        for i, own in enumerate(self.channels.values()):
            part = nn.BatchNorm2d(len(own), self.bn.eps).to(self.bn.weight).eval()
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(part, name).data = getattr(self.bn, name).data[own].clone()
            self.conv_list[i] = fuse_conv_bn_eval(self.conv_list[i], part)
        self.bn = nn.Identity()


def _pair_per_channel(dilations, channels: int) -> list[tuple[int, int]]:
    """The pair of each output channel. Raises `UserError` unless `dilations` is a list of pairs of whole numbers."""

    def is_pair(p):
        return isinstance(p, (list, tuple)) and len(p) == 2 and all(type(d) is int and d > 0 for d in p)

    if not isinstance(dilations, (list, tuple)) or not dilations or not all(map(is_pair, dilations)):
        raise UserError(f"dilations: expected a list of pairs such as [[1, 1], [1, 2]], got {dilations!r}")
    if len(dilations) > channels:
        raise UserError(
            f"dilations: {len(dilations)} pairs for {channels} output channels, expected at most one per channel"
        )
    return [tuple(dilations[i * len(dilations) // channels]) for i in range(channels)]
