"""Attention that weights a map and keeps its shape, as rows of their own.

A row gives the width (`[-1, 1, CBAM, [1024]]`, scaled by the width multiple, as in published files) or omits it (`[]`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE, POSITIVE_INT
from graftdet.models.blocks.constructor_checks import check_same_width, reduced_width
from graftdet.models.blocks.conv import FusePairs


@BLOCKS.register("SE", "SEAttention", arguments={"r": POSITIVE_INT})
class SE(nn.Module):
    """Squeeze and excitation: channels weighted by their means.

    (B, c1, H, W) -> the same. Two linear layers without bias (`l1`, `l2`), ReLU, sigmoid.

    Args:
        c1: input channels.
        c2: output channels, equal to c1; may be omitted.
        r: reduction: c1 / r channels between the two layers.

    Source:
        Hu et al., Squeeze-and-Excitation Networks, 2018, section 3.

    Example:
        [-1, 1, SE, [64]]
    """

    def __init__(self, c1, c2=None, r=16):
        super().__init__()
        check_same_width(c1, c2, "r: 16")
        self.l1 = nn.Linear(c1, reduced_width(c1, r), bias=False)
        self.l2 = nn.Linear(self.l1.out_features, c1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.l2(F.relu(self.l1(x.mean((2, 3))))))
        return x * weights[:, :, None, None]


class _ChannelAttention(nn.Module):
    """CBAM section 3, equation 2: spatial means and maxima through one shared perceptron, added, sigmoid."""

    def __init__(self, c, ratio):
        super().__init__()
        self.f1 = nn.Conv2d(c, reduced_width(c, ratio), 1, bias=False)
        self.f2 = nn.Conv2d(self.f1.out_channels, c, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean, largest = (
            self.f2(F.relu(self.f1(y))) for y in (x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True))
        )
        return torch.sigmoid(mean + largest)  # (B, c, 1, 1)


class _SpatialAttention(nn.Module):
    """CBAM section 3, equation 3: mean and maximum over the channels through one k x k convolution, sigmoid."""

    def __init__(self, k):
        super().__init__()
        if k % 2 == 0:
            raise ValueError(f"the kernel must be odd, got {k}")
        self.conv = nn.Conv2d(2, 1, k, padding=k // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(
            self.conv(torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1))
        )  # (B, 1, H, W)


@BLOCKS.register(odd_means="kernel_size", arguments={"ratio": POSITIVE})
class CBAM(nn.Module):
    """Channel attention, then spatial attention.

    (B, c1, H, W) -> the same.

    Args:
        c1: input channels.
        c2: output channels, equal to c1; may be omitted.
        ratio: reduction of the channel attention. An odd number here (`[256, 7]`), or alone (`[7]`), is the kernel
            size, as in rows of YOLOv8.
        kernel_size: odd kernel size of the spatial attention.

    Source:
        Woo et al., CBAM: Convolutional Block Attention Module, 2018, section 3. No batch norm behind the k x k
        convolution, as in equation 3.

    Example:
        [-1, 1, CBAM, [64]]
    """

    def __init__(self, c1, c2=None, ratio=16, kernel_size=7):
        super().__init__()
        check_same_width(c1, c2, "kernel_size: 7")
        self.channel_attention = _ChannelAttention(c1, ratio)
        self.spatial_attention = _SpatialAttention(kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.channel_attention(x)
        return x * self.spatial_attention(x)


@BLOCKS.register()
class ECA(nn.Module):
    """Channels weighted by a convolution over the means of neighboring channels.

    (B, c1, H, W) -> the same.

    Args:
        c1: input channels.
        c2: output channels, equal to c1; may be omitted.
        k_size: odd number of neighboring channels.

    Source:
        Wang et al., ECA-Net, 2020, section 3.2. The default of 3 is the published code's; the paper derives it from the
        width (equation 12).

    Example:
        [-1, 1, ECA, [64]]
    """

    def __init__(self, c1, c2=None, k_size=3):
        super().__init__()
        check_same_width(c1, c2, "k_size: 3")
        if k_size % 2 == 0:
            raise ValueError(f"k_size must be odd, got {k_size}")
        self.conv = nn.Conv1d(1, 1, k_size, padding=k_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True).transpose(1, 2)  # (B, 1, c1, 1)
        # the convolution over one axis as one over two, as OpenCV 5 reads no other
        weights = F.conv2d(means, self.conv.weight.unsqueeze(3), padding=(self.conv.padding[0], 0))
        return x * weights.transpose(1, 2).sigmoid()


@BLOCKS.register("CoordAtt", "CA", arguments={"reduction": POSITIVE_INT})
class CoordAtt(FusePairs, nn.Module):
    """Coordinate attention: positions weighted by the means of their row and column.

    (B, inp, H, W) -> the same. Weights are named as published (`conv1 bn1 conv_h conv_w`).

    Args:
        inp: input channels.
        oup: output channels, equal to inp; may be omitted.
        reduction: inp / reduction channels inside, at least 8.

    Source:
        Hou et al., Coordinate Attention for Efficient Mobile Network Design, 2021, section 3.2.

    Example:
        [-1, 1, CoordAtt, [64]]
    """

    fuse_pairs = (("conv1", "bn1"),)

    def __init__(self, inp, oup=None, reduction=32):
        super().__init__()
        check_same_width(inp, oup, "reduction: 32")
        if reduction < 1:
            raise ValueError(f"reduction must be at least 1, got {reduction}")
        hidden = max(8, inp // reduction)
        self.conv1 = nn.Conv2d(inp, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.act = nn.Hardswish()
        self.conv_h = nn.Conv2d(hidden, inp, 1)
        self.conv_w = nn.Conv2d(hidden, inp, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.shape[2]
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)  # (B, c, H, 1), (B, c, W, 1)
        y = self.act(self.bn1(self.conv1(torch.cat((rows, columns), 2))))
        rows, columns = torch.sigmoid(self.conv_h(y[:, :, :h])), torch.sigmoid(self.conv_w(y[:, :, h:].transpose(2, 3)))
        return x * rows * columns


@BLOCKS.register(arguments={"e_lambda": POSITIVE})
class SimAM(nn.Module):
    """Attention without weights: each value weighted by its squared distance from the mean of its channel.

    (B, c1, H, W) -> the same, computed in float32.

    Args:
        c1: input channels.
        c2: output channels, equal to c1; may be omitted.
        e_lambda: regularization, added to the variance.

    Source:
        Yang et al., SimAM, 2021, equation 5.

    Example:
        [-1, 1, SimAM, [64]]
    """

    def __init__(self, c1, c2=None, e_lambda=1e-4):
        super().__init__()
        check_same_width(c1, c2, "e_lambda: 0.001")
        self.e_lambda = e_lambda

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        positions = torch.ones_like(y[:1, :1]).sum()
        distance = (y - y.mean((2, 3), keepdim=True)).square()
        # by the mean, as OpenCV before 4.7 reads no sum along axes; divided by the positions minus one, at least one
        variance = distance.mean((2, 3), keepdim=True) * (positions / (positions - 1).clamp(min=1))
        return x * torch.sigmoid(distance / (4 * (variance + self.e_lambda)) + 0.5).to(x.dtype)
