"""Ghost blocks (Han et al., GhostNet, 2020) in the forms of YOLOv5 and of a public TensorFlow port."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE, POSITIVE_INT
from graftdet.models.blocks.backbone import conv_bn
from graftdet.models.blocks.constructor_checks import check_reduction, reduced_width
from graftdet.models.blocks.conv import Conv, DWConv
from graftdet.models.blocks.ghostnet import check_ratio, concat_ghost_features


@BLOCKS.register(arguments={"ratio": POSITIVE})
class SEModule(nn.Module):
    """Squeeze and excitation without biases and with the hard sigmoid of Keras, clip(0.2 x + 0.5, 0, 1).

    (B, c1, H, W) -> the same.

    Args:
        c1: input channels.
        ratio: reduction: c1 / ratio channels between the convolutions.

    Source:
        Hu et al., Squeeze-and-Excitation Networks, 2018, in the form of a public TensorFlow port of GhostNet.

    Example:
        [-1, 1, SEModule, [2]]
    """

    def __init__(self, c1, ratio=2):
        super().__init__()
        check_reduction(c1, ratio)
        self.conv1 = nn.Conv2d(c1, reduced_width(c1, min(ratio, c1)), 1, bias=False)
        self.conv2 = nn.Conv2d(self.conv1.out_channels, c1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv2(F.relu(self.conv1(x.mean((2, 3), keepdim=True))))
        return x * (0.2 * weight + 0.5).clamp(0, 1)


class _PlainGhostModule(nn.Module):
    """A Ghost module without batch norm and activation."""

    def __init__(self, c1, c2, ratio):
        super().__init__()
        check_ratio(ratio)
        first = math.ceil(c2 / ratio)
        self.c2 = c2
        self.conv = nn.Conv2d(c1, first, 1, bias=False)
        cheap = first * (ratio - 1)
        self.depthconv = nn.Conv2d(first, cheap, 3, padding=1, groups=first, bias=False) if cheap else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y if self.depthconv is None else concat_ghost_features(y, self.depthconv(y), self.c2)


@BLOCKS.register(arguments={"hidden": POSITIVE_INT, "ratio": POSITIVE})
class GBNeck(nn.Module):
    """Ghost bottleneck with one batch norm per Ghost module and a convolution as shortcut.

    (B, c1, H, W) -> (B, c2, H/s, W/s). ReLU follows the strided depthwise convolution as well.

    Args:
        c1: input channels.
        c2: output channels.
        hidden: expanded width; the width multiple does not apply.
        k: kernel size of the depthwise convolutions.
        s: stride.
        se: squeeze and excitation (SEModule) before the projection.
        ratio: ratio of the Ghost modules and reduction of SEModule.

    Source:
        Han et al., GhostNet, 2020, section 3.2, in the form of a public TensorFlow port; its depthwise convolutions
        keep the width here for ratio > 2.

    Example:
        [-1, 1, GBNeck, [64, 128, 3, 2, True]]
    """

    def __init__(self, c1, c2, hidden, k=3, s=1, se=False, ratio=2):
        super().__init__()
        self.ghost1 = nn.Sequential(_PlainGhostModule(c1, hidden, ratio), nn.BatchNorm2d(hidden), nn.ReLU(inplace=True))
        self.strided = conv_bn(hidden, hidden, k, s, g=hidden, act=nn.ReLU(inplace=True)) if s > 1 else nn.Identity()
        self.se = SEModule(hidden, ratio) if se else nn.Identity()
        self.ghost2 = nn.Sequential(_PlainGhostModule(hidden, c2, ratio), nn.BatchNorm2d(c2))
        self.shortcut = nn.Sequential(*conv_bn(c1, c1, k, s, g=c1), *conv_bn(c1, c2))

    def forward(self, x: Tensor) -> Tensor:
        return self.ghost2(self.se(self.strided(self.ghost1(x)))) + self.shortcut(x)


@BLOCKS.register()
class GhostConv(nn.Module):
    """Ghost module with a ratio of two: half of the channels by Conv, the others from them by a depthwise 5x5 Conv.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size of the primary convolution.
        s: stride.
        g: groups of the primary convolution.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Han et al., GhostNet, 2020, section 3.1, with another activation and a 5x5 cheap kernel; form of YOLOv5.

    Example:
        [-1, 1, GhostConv, [64, 3, 2]]
    """

    def __init__(self, c1, c2, k=1, s=1, g=1, act=True):
        super().__init__()
        hidden = c2 // 2
        self.cv1 = Conv(c1, hidden, k, s, None, g, act=act)
        self.cv2 = Conv(hidden, hidden, 5, 1, None, hidden, act=act)

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        return torch.cat((y, self.cv2(y)), 1)


@BLOCKS.register()
class GhostBottleneck(nn.Module):
    """Two GhostConvs with a shortcut, a strided depthwise convolution between them at stride 2.

    (B, c1, H, W) -> (B, c2, H/s, W/s). At stride 1 c1 must equal c2.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size of the depthwise convolutions.
        s: stride, 1 or 2.

    Source:
        Han et al., GhostNet, 2020, section 3.2; form of YOLOv5.

    Example:
        [-1, 1, GhostBottleneck, [64, 3, 2]]
    """

    def __init__(self, c1, c2, k=3, s=1):
        super().__init__()
        if s not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {s}")
        if s == 1 and c1 != c2:
            raise ValueError(f"at stride 1 the width stays: {c1} in, {c2} out")
        hidden = c2 // 2
        strided = s == 2
        self.conv = nn.Sequential(
            GhostConv(c1, hidden, 1, 1),
            DWConv(hidden, hidden, k, s, act=False) if strided else nn.Identity(),
            GhostConv(hidden, c2, 1, 1, act=False),
        )
        self.shortcut = (
            nn.Sequential(DWConv(c1, c1, k, s, act=False), Conv(c1, c2, 1, 1, act=False)) if strided else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.shortcut(x)
