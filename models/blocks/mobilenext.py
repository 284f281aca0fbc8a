"""MobileNeXt (Zhou et al., Rethinking Bottleneck Structure for Efficient Mobile Network Design, 2020)."""

import math

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.backbone import STRIDES, Backbone, conv_bn, make_divisible, scaled
from torch import nn


def _depthwise(c, s, act):
    return [
        nn.Conv2d(c, c, 3, s, 1, groups=c, bias=False),
        nn.BatchNorm2d(c),
        *([nn.ReLU6(inplace=True)] if act else []),
    ]


def _pointwise(c1, c2, act):
    return [nn.Conv2d(c1, c2, 1, bias=False), nn.BatchNorm2d(c2), *([nn.ReLU6(inplace=True)] if act else [])]


@BLOCKS.register("SandGlass", "SGBlock", arguments={"t": POSITIVE})
class SandGlass(nn.Module):
    """Depth-wise convolutions at the wide ends, two 1x1 convolutions narrow between them (section 3.2, figure 3).

    (B, c1, H, W) -> (B, c2, H/s, W/s). The narrow width is c1 // t, at least c2 / 6 rounded to multiples of 16. Cases,
    as in the published code:
    - t = 2: both depth-wise convolutions, the second strides, no shortcut;
    - c1 != c2, s = 1: neither depth-wise convolution; s = 2: the second one alone, which strides (section 4.1);
    - c1 = c2, or `keep_3x3`: both, with a shortcut where c1 = c2, s = 1 and `keep_3x3` is not set.
    ReLU6 follows the first depth-wise convolution and the widening one; the others are linear. Differs from the published
    code where that ignores a stride of 2 (c1 = c2, or `keep_3x3`): here the second depth-wise convolution strides, and
    there is no shortcut. Weights are named as there (`conv.0`).
    """

    def __init__(self, c1, c2, s=1, t=6, keep_3x3=False):
        super().__init__()
        if s not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {s}")
        hidden = c1 // t
        if hidden < c2 / 6:
            hidden = make_divisible(math.ceil(c2 / 6), 16)
        both = t == 2 or c1 == c2 or keep_3x3
        layers = _depthwise(c1, 1, act=True) if both else []
        layers += _pointwise(c1, hidden, act=False) + _pointwise(hidden, c2, act=True)
        if both or s == 2:
            layers += _depthwise(c2, s, act=False)
        self.conv = nn.Sequential(*layers)
        self.add = t != 2 and c1 == c2 and s == 1 and not keep_3x3

    def forward(self, x):
        y = self.conv(x)
        return x + y if self.add else y


@BLOCKS.register()
class MobileNeXt(Backbone):
    """The whole network without its classifier (table 2): maps of 192, 384 and 1280 channels at strides 8, 16, 32.

    `width` multiplies the widths (the last stays 1280 for widths below 1), `out` lists the strides. Weights are named as
    in the published code (`features.0.0`, `features.1.conv.0`). With a classifier of 1000 classes 3,535,416 parameters and 311 M
    multiply-adds of convolutions at 224x224; the paper states 3.4 M and 300 M, its authors' table of weights 3.5 M.
    """

    STAGES = (  # t, width, blocks, stride of the first
        (2, 96, 1, 2), (6, 144, 1, 1), (6, 192, 3, 2), (6, 288, 3, 2), (6, 384, 4, 1), (6, 576, 4, 2), (6, 960, 3, 1),
        (6, 1280, 1, 1),
    )  # fmt: skip

    def __init__(self, c1, width=1.0, out=STRIDES):
        super().__init__()
        w = scaled(width)
        c = w(32)
        blocks = [(conv_bn(c1, c, 3, 2, act=nn.ReLU6(inplace=True)), 2)]
        stride = 2
        for t, wide, number, first in self.STAGES:
            c2 = 1280 if wide == 1280 and width < 1 else w(wide)
            stride *= first
            for i in range(number):
                # a lone block that keeps the size has both of its 3x3 convolutions
                block = SandGlass(c, c2, first if i == 0 else 1, t, keep_3x3=number == 1 and first == 1)
                blocks.append((block, stride))
                c = c2
        self.stack([(f"features.{i}", block, stride) for i, (block, stride) in enumerate(blocks)], out)
