"""ShuffleNet v1 (Zhang et al., ShuffleNet: An Extremely Efficient CNN for Mobile Devices, 2017)."""

import torch
from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.backbone import STRIDES, Backbone, check_width, conv_bn
from graftdet.models.blocks.ops import channel_shuffle
from graftdet.utils.errors import UserError
from torch import nn


@BLOCKS.register()
class ChannelShuffle(nn.Module):
    """Mix the channels of `groups` groups (section 3.1, figure 1): (B, c, H, W) -> the same; c must divide by groups."""

    def __init__(self, groups=2):
        super().__init__()
        self.groups = groups

    def forward(self, x):
        if x.shape[1] % self.groups:
            raise ValueError(f"{x.shape[1]} channels do not divide into {self.groups} groups")
        return channel_shuffle(x, self.groups)


@BLOCKS.register("PointwiseConv", "PointwiseConv2d")
class PointwiseConv(nn.Module):
    """1x1 convolution in `g` groups and batch norm, no activation: (B, c1, H, W) -> (B, c2, H/s, W/s)."""

    def __init__(self, c1, c2, g=1, s=1):
        super().__init__()
        self.pointwise = conv_bn(c1, c2, 1, s, g=g)

    def forward(self, x):
        return self.pointwise(x)


@BLOCKS.register("DepthwiseConv", "DepthwiseConv2d")
class DepthwiseConv(nn.Module):
    """k x k convolution with a group for each input channel and batch norm, no activation.

    (B, c1, H, W) -> (B, c2, H/s, W/s); c2 must be a multiple of c1.
    """

    def __init__(self, c1, c2, k=3, s=1):
        super().__init__()
        self.depthwise = conv_bn(c1, c2, k, s, g=c1)

    def forward(self, x):
        return self.depthwise(x)


@BLOCKS.register()
class ShuffleNetUnit(nn.Module):
    """Grouped 1x1, shuffle, 3x3 depth-wise, grouped 1x1 (section 3.2, figure 2).

    (B, c1, H, W) -> (B, c2, H/s, W/s) with c2 / 4 channels between. Where the unit keeps size and width its input is added,
    else a 3x3 average pool of the input is put beside c2 - c1 new channels; ReLU follows. In stage 2 the first 1x1 of
    the unit that widens is not grouped, because its input is narrow (section 3.3).
    """

    def __init__(self, c1, c2, stage=3, s=1, g=3):
        super().__init__()
        hidden = c2 // 4
        self.add = s == 1 and c1 == c2
        new = c2 if self.add else c2 - c1
        if new < 1:
            raise ValueError(f"puts its input beside new channels, so that {c2} channels out must be more than {c1} in")
        if hidden % g or new % g:
            raise ValueError(f"{g} groups do not divide {hidden} channels between and {new} new channels")
        self.bottleneck = PointwiseConv(c1, hidden, 1 if stage == 2 and not self.add else g)
        self.shuffle = ChannelShuffle(g)
        self.depthwise = DepthwiseConv(hidden, hidden, 3, s)
        self.expand = PointwiseConv(hidden, new, g)
        self.shortcut = nn.Identity() if self.add else nn.AvgPool2d(3, s, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.shuffle(self.relu(self.bottleneck(x)))
        y = self.expand(self.depthwise(y))
        x = self.shortcut(x)
        return self.relu(x + y if self.add else torch.cat((x, y), 1))


@BLOCKS.register()
class ShuffleNetV1(Backbone):
    """The whole network without its classifier (table 1), in `groups` groups.

    Maps of 240, 480 and 960 channels (for 3 groups) at strides 8, 16, 32, the outputs of stages 2, 3 and 4. `width` is
    the paper's scale factor, its widths rounded to what the groups divide; `out` lists the strides. The paper counts
    multiply-adds at 224x224 only: 143, 140, 137, 133 and 137 M for 1, 2, 3, 4 and 8 groups; here the convolutions have
    143.1, 140.8, 137.5, 134.3 and 138.4 M. With a classifier of 1000 classes and 3 groups 1,865,728 parameters.
    """

    WIDTHS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # of stage 2, by groups; each next stage has twice as many

    def __init__(self, c1, width=1.0, groups=3, out=STRIDES):
        super().__init__()
        if groups not in self.WIDTHS:
            raise UserError(f"groups: expected one of {list(self.WIDTHS)}, got {groups!r}")
        check_width(width)
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
