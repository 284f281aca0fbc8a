"""ShuffleNet v1 (Zhang et al., ShuffleNet: An Extremely Efficient CNN for Mobile Devices, 2017)."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.backbone import STRIDES, Backbone, check_width_factor, conv_bn
from graftdet.models.blocks.ops import channel_shuffle
from graftdet.utils.errors import UserError


@BLOCKS.register()
class ChannelShuffle(nn.Module):
    """Interleave the channels of several groups.

    (B, c, H, W) -> the same.

    Args:
        groups: number of groups; c must be a multiple of it.

    Source:
        Zhang et al., ShuffleNet, 2017, section 3.1, figure 1.

    Example:
        [-1, 1, ChannelShuffle, [2]]
    """

    def __init__(self, groups=2):
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] % self.groups:
            raise ValueError(f"{x.shape[1]} channels do not divide into {self.groups} groups")
        return channel_shuffle(x, self.groups)


@BLOCKS.register("PointwiseConv", "PointwiseConv2d")
class PointwiseConv(nn.Module):
    """Grouped 1x1 convolution and batch norm, without activation.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        g: groups of the convolution.
        s: stride.

    Source:
        Zhang et al., ShuffleNet, 2017, section 3.1 (pointwise group convolution).

    Example:
        [-1, 1, PointwiseConv, [64, 2]]
    """

    def __init__(self, c1, c2, g=1, s=1):
        super().__init__()
        self.pointwise = conv_bn(c1, c2, 1, s, g=g)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(x)


@BLOCKS.register("DepthwiseConv", "DepthwiseConv2d")
class DepthwiseConv(nn.Module):
    """Depthwise k x k convolution and batch norm, without activation.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels, a multiple of c1.
        k: kernel size.
        s: stride.

    Source:
        Zhang et al., ShuffleNet, 2017, section 3.2.

    Example:
        [-1, 1, DepthwiseConv, [64, 3, 2]]
    """

    def __init__(self, c1, c2, k=3, s=1):
        super().__init__()
        self.depthwise = conv_bn(c1, c2, k, s, g=c1)

    def forward(self, x: Tensor) -> Tensor:
        return self.depthwise(x)


@BLOCKS.register()
class ShuffleNetUnit(nn.Module):
    """Unit of ShuffleNet v1: grouped 1x1, shuffle, 3x3 depthwise, grouped 1x1 convolution.

    (B, c1, H, W) -> (B, c2, H/s, W/s) with c2 / 4 channels inside. The input is added where the shape stays, else its
    3x3 average pool is concatenated with c2 - c1 new channels; ReLU follows.

    Args:
        c1: input channels.
        c2: output channels.
        stage: stage of the network; in stage 2 the first 1x1 convolution of the unit that changes the shape is not
            grouped.
        s: stride.
        g: groups of the 1x1 convolutions.

    Source:
        Zhang et al., ShuffleNet, 2017, section 3.2, figure 2, and section 3.3.

    Example:
        [-1, 1, ShuffleNetUnit, [256, 3, 2, 4]]
    """

    def __init__(self, c1, c2, stage=3, s=1, g=3):
        super().__init__()
        hidden = c2 // 4
        self.add = s == 1 and c1 == c2
        new = c2 if self.add else c2 - c1
        if new < 1:
            raise ValueError(
                f"concatenates its input with new channels: the output width {c2} must exceed the input width {c1}"
            )
        if hidden % g or new % g:
            raise ValueError(f"{g} groups do not divide {hidden} channels between and {new} new channels")
        self.bottleneck = PointwiseConv(c1, hidden, 1 if stage == 2 and not self.add else g)
        self.shuffle = ChannelShuffle(g)
        self.depthwise = DepthwiseConv(hidden, hidden, 3, s)
        self.expand = PointwiseConv(hidden, new, g)
        self.shortcut = nn.Identity() if self.add else nn.AvgPool2d(3, s, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.shuffle(self.relu(self.bottleneck(x)))
        y = self.expand(self.depthwise(y))
        x = self.shortcut(x)
        return self.relu(x + y if self.add else torch.cat((x, y), 1))


@BLOCKS.register()
class ShuffleNetV1(Backbone):
    """The ShuffleNet v1 backbone without its classifier.

    (B, c1, H, W) -> list of maps: 240, 480 and 960 channels (3 groups) at strides 8, 16 and 32. 143.1, 140.8, 137.5,
    134.3 and 138.4 M multiply-adds at 224x224 for 1, 2, 3, 4 and 8 groups (paper: 143, 140, 137, 133, 137). 1,865,728
    parameters with 3 groups and a classifier of 1000 classes.

    Args:
        c1: input channels.
        width: multiplies all widths inside, rounded to multiples of what the groups need.
        groups: groups of the 1x1 convolutions: 1, 2, 3, 4 or 8.
        out: strides of the maps that are returned.

    Source:
        Zhang et al., ShuffleNet, 2017, table 1.

    Example:
        [-1, 1, ShuffleNetV1, [1.0, 3]]
    """

    WIDTHS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # of stage 2, by groups; each next stage has twice as many

    def __init__(self, c1, width=1.0, groups=3, out=STRIDES):
        super().__init__()
        if groups not in self.WIDTHS:
            raise UserError(f"groups: expected one of {list(self.WIDTHS)}, got {groups!r}")
        check_width_factor(width)
        unit = 4 * groups
        c = max(round(24 * width / groups), 1) * groups
        base = max(round(self.WIDTHS[groups] * width / unit), 1) * unit
        layers = [
            ("conv1", conv_bn(c1, c, 3, 2, act=nn.ReLU(inplace=True)), 2),
            ("maxpool", nn.MaxPool2d(3, 2, 1), 4),
        ]
        for stage, blocks in ((2, 4), (3, 8), (4, 4)):
            c2 = base * 2 ** (stage - 2)
            for i in range(blocks):
                unit = ShuffleNetUnit(c, c2, stage, 2 if i == 0 else 1, groups)
                layers.append((f"stage{stage}.{i}", unit, 2 ** (stage + 1)))
                c = c2
        self.stack(layers, out)
