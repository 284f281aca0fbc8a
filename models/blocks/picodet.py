"""Blocks of PicoDet and PP-LCNet in the forms published with YOLOv5-Lite.

Yu et al., PP-PicoDet: A Better Real-Time Object Detector on Mobile Devices, 2021; Cui et al., PP-LCNet: A Lightweight
CPU Convolutional Neural Network, 2021. The backbone of the PicoDet paper is in `esnet`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE_INT
from graftdet.models.blocks.backbone import conv_bn
from graftdet.models.blocks.constructor_checks import check_reduction, reduced_width
from graftdet.models.blocks.conv import Conv, FusePairs
from graftdet.models.blocks.ops import channel_shuffle


@BLOCKS.register()
class CBH(FusePairs, nn.Module):
    """Convolution without bias, batch norm and hard swish.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size.
        s: stride.
        g: groups of the convolution.

    Source:
        Cui et al., PP-LCNet, 2021, section 3.1; form of YOLOv5-Lite.

    Example:
        [-1, 1, CBH, [64, 3, 2]]
    """

    fuse_pairs = (("conv", "bn"),)

    def __init__(self, c1, c2, k=3, s=1, g=1):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, (k - 1) // 2, groups=g, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.hardswish = nn.Hardswish()

    def forward(self, x: Tensor) -> Tensor:
        return self.hardswish(self.bn(self.conv(x)))


@BLOCKS.register()
class DWConvblock(FusePairs, nn.Module):
    """Depthwise k x k and 1x1 convolution, batch norm and ReLU after each.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size of the depthwise convolution.
        s: stride.

    Source:
        Howard et al., MobileNets, 2017, section 3.1; form of YOLOv5-Lite.

    Example:
        [-1, 1, DWConvblock, [64, 3, 2]]
    """

    fuse_pairs = (("conv1", "bn1"), ("conv2", "bn2"))

    def __init__(self, c1, c2, k=3, s=1):
        super().__init__()
        self.conv1 = nn.Conv2d(c1, c1, k, s, k // 2, groups=c1, bias=False)
        self.bn1 = nn.BatchNorm2d(c1)
        self.conv2 = nn.Conv2d(c1, c2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)))


@BLOCKS.register(arguments={"reduction": POSITIVE_INT})
class ES_SEModule(nn.Module):
    """Squeeze and excitation with ReLU and a hard sigmoid.

    (B, c1, H, W) -> the same.

    Args:
        c1: input channels.
        reduction: c1 / reduction channels between the convolutions.

    Source:
        Hu et al., Squeeze-and-Excitation Networks, 2018; form of YOLOv5-Lite. The slope of the hard sigmoid is torch's
        1/6; PaddlePaddle's is 0.2.

    Example:
        [-1, 1, ES_SEModule, [4]]
    """

    def __init__(self, c1, reduction=4):
        super().__init__()
        check_reduction(c1, reduction)
        hidden = reduced_width(c1, reduction)
        self.conv1 = nn.Conv2d(c1, hidden, 1)
        self.conv2 = nn.Conv2d(hidden, c1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.conv2(F.relu(self.conv1(x.mean((2, 3), keepdim=True)))))

    def gate(self, x: Tensor) -> Tensor:
        """Map the weights of the channels to the range of the gate."""
        return F.hardsigmoid(x)


@BLOCKS.register(arguments={"reduction": POSITIVE_INT})
class LC_SEModule(ES_SEModule):
    """Squeeze and excitation with ReLU and SiLU as the gate.

    (B, c1, H, W) -> the same.

    Args:
        c1: input channels.
        reduction: c1 / reduction channels between the convolutions.

    Source:
        Cui et al., PP-LCNet, 2021, section 3.2; form of YOLOv5-Lite, where the paper has a hard sigmoid.

    Example:
        [-1, 1, LC_SEModule, [4]]
    """

    def gate(self, x: Tensor) -> Tensor:
        """Map the weights of the channels to the range of the gate."""
        return F.silu(x)


class _Ghost(nn.Module):
    """Half of the channels by a 1x1 Conv, the others from them by a depthwise k x k Conv."""

    def __init__(self, c1, c2, k=3):
        super().__init__()
        hidden = c2 // 2
        self.cv1 = Conv(c1, hidden, 1)
        self.cv2 = Conv(hidden, hidden, k, g=hidden)

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        return torch.cat((y, self.cv2(y)), 1)


@BLOCKS.register()
class ES_Bottleneck(nn.Module):
    """Enhanced shuffle block in the form of YOLOv5-Lite.

    (B, c1, H, W) -> (B, c2, H/s, W/s). Stride 1 (c1 equals c2) passes half of the channels, sends the others through
    branch3 and shuffles. Stride 2 concatenates branch1 and branch2 and mixes them in branch4. Branches that a stride
    does not use exist as in the published weights, frozen.

    Args:
        c1: input channels.
        c2: output channels, a multiple of 4.
        s: stride, 1 or 2.

    Source:
        Yu et al., PP-PicoDet, 2021, section 3.2; form of YOLOv5-Lite, without channel ratios and with SE at other
        positions.

    Example:
        [-1, 1, ES_Bottleneck, [64, 2]]
    """

    def __init__(self, c1, c2, s=1):
        super().__init__()
        if s not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {s}")
        if c2 % 4 or (s == 1 and c1 != c2):
            raise ValueError(f"needs a width divisible by 4, and as wide out as in at stride 1; got {c1} in, {c2} out")
        half = c2 // 2
        self.s = s
        swish = nn.Hardswish
        if s == 2:
            self.branch1 = nn.Sequential(*conv_bn(c1, c1, 3, s, g=c1), *conv_bn(c1, half, act=swish()))
        self.branch2 = nn.Sequential(
            *conv_bn(c1 if s == 2 else half, half, act=swish()),
            *conv_bn(half, half, 3, s, g=half),
            ES_SEModule(half),
            *conv_bn(half, half, act=swish()),
        )
        self.branch3 = nn.Sequential(_Ghost(half, half), ES_SEModule(half), *conv_bn(half, half, act=swish()))
        self.branch4 = nn.Sequential(*conv_bn(c2, c2, 3, g=c2), *conv_bn(c2, c2, act=swish()))
        for unused in (self.branch3,) if s == 2 else (self.branch2, self.branch4):
            unused.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        if self.s == 2:
            return self.branch4(torch.cat((self.branch1(x), self.branch2(x)), 1))
        passed, changed = x.chunk(2, 1)
        return channel_shuffle(torch.cat((passed, self.branch3(changed)), 1), 2)


@BLOCKS.register()
class LC_Block(nn.Module):
    """Depthwise k x k CBH, squeeze and excitation, 1x1 CBH.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        s: stride.
        k: kernel size of the depthwise convolution.
        se: squeeze and excitation (LC_SEModule).

    Source:
        Cui et al., PP-LCNet, 2021, section 3, figure 2; form of YOLOv5-Lite.

    Example:
        [-1, 1, LC_Block, [64, 2, 3, False]]
    """

    def __init__(self, c1, c2, s=1, k=3, se=False):
        super().__init__()
        self.dw_conv = CBH(c1, c1, k, s, c1)
        self.se = LC_SEModule(c1) if se else nn.Identity()
        self.pw_conv = CBH(c1, c2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pw_conv(self.se(self.dw_conv(x)))


@BLOCKS.register(arguments={"dw_size": POSITIVE_INT})
class DepthSepConv(nn.Module):
    """Depthwise CBH, squeeze and excitation with a hard sigmoid, 1x1 CBH.

    (B, inp, H, W) -> (B, oup, H/stride, W/stride).

    Args:
        inp: input channels.
        oup: output channels.
        dw_size: kernel size of the depthwise convolution.
        stride: stride.
        use_se: squeeze and excitation (ES_SEModule).

    Source:
        Cui et al., PP-LCNet, 2021, section 3, figure 2.

    Example:
        [-1, 1, DepthSepConv, [64, 3, 2]]
    """

    def __init__(self, inp, oup, dw_size=3, stride=1, use_se=False):
        super().__init__()
        self.dw_conv = CBH(inp, inp, dw_size, stride, inp)
        self.se = ES_SEModule(inp) if use_se else nn.Identity()
        self.pw_conv = CBH(inp, oup, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pw_conv(self.se(self.dw_conv(x)))


@BLOCKS.register()
class Dense(nn.Module):
    """Convolution without padding, bias and batch norm, hard swish and dropout.

    (B, c1, H, W) -> (B, c2, H - k + 1, W - k + 1).

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size.
        dropout: dropout probability.

    Source:
        Cui et al., PP-LCNet, 2021, section 3.4 (the layer before its classifier), on maps; form of YOLOv5-Lite.

    Example:
        [-1, 1, Dense, [64, 1, 0.2]]
    """

    def __init__(self, c1, c2, k=1, dropout=0.2):
        super().__init__()
        self.dense_conv = nn.Conv2d(c1, c2, k, bias=False)
        self.hardswish = nn.Hardswish()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.hardswish(self.dense_conv(x)))
