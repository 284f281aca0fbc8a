"""Triplet attention (Misra et al., Rotate to Attend: Convolutional Triplet Attention Module, 2021)."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.constructor_checks import check_odd_kernels, check_same_width
from graftdet.models.blocks.conv import Conv


class _Gate(nn.Module):
    """Mean and maximum over the first axis after the batch through a k x k convolution, batch norm and sigmoid."""

    def __init__(self, k):
        super().__init__()
        self.conv = Conv(2, 1, k, act=False)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)
        return x * torch.sigmoid(self.conv(both))


@BLOCKS.register(small_first=("kernel_size",))
class TripletAttention(nn.Module):
    """The mean of three attentions: over height and width, channels and width, channels and height.

    (B, c1, H, W) -> the same.

    Args:
        c1: input channels.
        c2: output channels, equal to c1; may be omitted.
        kernel_size: odd kernel size of the three convolutions.

    Source:
        Misra et al., Rotate to Attend: Convolutional Triplet Attention Module, 2021, section 3.2, figure 3.

    Example:
        [-1, 1, TripletAttention, [64]]
    """

    def __init__(self, c1, c2=None, kernel_size=7):
        super().__init__()
        check_same_width(c1, c2, "kernel_size: 7")
        check_odd_kernels(kernel_size)
        self.cw, self.hc, self.hw = _Gate(kernel_size), _Gate(kernel_size), _Gate(kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        by_width = self.cw(x.transpose(1, 2)).transpose(1, 2)
        by_height = self.hc(x.transpose(1, 3)).transpose(1, 3)
        return (by_width + by_height + self.hw(x)) / 3
