"""MobileNeXt (Zhou et al., Rethinking Bottleneck Structure for Efficient Mobile Network Design, 2020)."""

import math

from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.backbone import STRIDES, Backbone, conv_bn, make_divisible, width_scaler


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
    """Sandglass block: depthwise convolutions at the wide ends, two 1x1 convolutions with a narrow width between them.

    (B, c1, H, W) -> (B, c2, H/s, W/s). Both depthwise convolutions exist where t = 2, c1 = c2 or `keep_3x3`; else only
    the second one, and only at stride 2. The input is added where c1 = c2, s = 1, t is not 2 and `keep_3x3` is not set.
    ReLU6 follows the first depthwise and the second 1x1 convolution.

    Args:
        c1: input channels.
        c2: output channels.
        s: stride, 1 or 2.
        t: reduction: c1 / t channels between, at least c2 / 6 rounded to a multiple of 16.
        keep_3x3: both depthwise convolutions and no shortcut.

    Source:
        Zhou et al., Rethinking Bottleneck Structure (MobileNeXt), 2020, section 3.2, figure 3. The published code
        ignores a stride of 2 where c1 = c2 or keep_3x3. Names of the published code.

    Example:
        [-1, 1, SandGlass, [64, 2, 6]]
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

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.add else y


@BLOCKS.register()
class MobileNeXt(Backbone):
    """The MobileNeXt backbone without its classifier.

    (B, c1, H, W) -> list of maps: 192, 384 and 1280 channels at strides 8, 16 and 32. 3,535,416 parameters with a
    classifier of 1000 classes and 311 M multiply-adds at 224x224.

    Args:
        c1: input channels.
        width: multiplies all widths inside; the last stays 1280 below 1.
        out: strides of the maps that are returned.

    Source:
        Zhou et al., Rethinking Bottleneck Structure (MobileNeXt), 2020, table 2, which states 3.4 M parameters. Names
        of the published code.

    Example:
        [-1, 1, MobileNeXt, [1.0]]
    """

    STAGES = (  # t, width, blocks, stride of the first
        (2, 96, 1, 2),
        (6, 144, 1, 1),
        (6, 192, 3, 2),
        (6, 288, 3, 2),
        (6, 384, 4, 1),
        (6, 576, 4, 2),
        (6, 960, 3, 1),
        (6, 1280, 1, 1),
    )

    def __init__(self, c1, width=1.0, out=STRIDES):
        super().__init__()
        w = width_scaler(width)
        c = w(32)
        blocks = [(conv_bn(c1, c, 3, 2, act=nn.ReLU6(inplace=True)), 2)]
        stride = 2
        for t, wide, number, first in self.STAGES:
            c2 = 1280 if wide == 1280 and width < 1 else w(wide)
            stride *= first
            for i in range(number):
                # a stage of one block without stride has both 3x3 convolutions
                block = SandGlass(c, c2, first if i == 0 else 1, t, keep_3x3=number == 1 and first == 1)
                blocks.append((block, stride))
                c = c2
        self.stack([(f"features.{i}", block, stride) for i, (block, stride) in enumerate(blocks)], out)
