"""MobileNet v2 (Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018)."""

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.backbone import STRIDES, Backbone, conv_bn, make_divisible, scaled
from torch import nn


@BLOCKS.register("LinearBottleneck", "LinearBottleNeck", "InvertedResidual", arguments={"t": POSITIVE})
class LinearBottleneck(nn.Module):
    """Expand to t c1 channels, a 3x3 depth-wise convolution, project without activation (section 3, table 1).

    (B, c1, H, W) -> (B, c2, H/s, W/s); ReLU6 after the first two; a shortcut where s = 1 and the widths agree. At t = 1
    there is no expansion, as in the published code (the article's LinearBottleNeck keeps a 1x1 convolution there).
    Weights are named as in torchvision.
    """

    def __init__(self, c1, c2, s=1, t=6):
        super().__init__()
        if s not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {s}")
        hidden = round(c1 * t)
        layers = [] if t == 1 else [conv_bn(c1, hidden, act=nn.ReLU6(inplace=True))]
        layers.append(conv_bn(hidden, hidden, 3, s, g=hidden, act=nn.ReLU6(inplace=True)))
        self.conv = nn.Sequential(*layers, nn.Conv2d(hidden, c2, 1, bias=False), nn.BatchNorm2d(c2))
        self.add = s == 1 and c1 == c2

    def forward(self, x):
        y = self.conv(x)
        return x + y if self.add else y


@BLOCKS.register()
class MobileNetV2(Backbone):
    """The whole network without its classifier (table 2): maps of 32, 96 and 320 channels at strides 8, 16, 32.

    `width` multiplies the widths, `out` lists the strides; with `last` the map at stride 32 is that of the last 1x1
    convolution (1280 channels, more only for widths above 1). Weights are named as in torchvision (`features.0.0`).
    3,504,872 parameters with `last` and a classifier of 1000 classes.
    """

    STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self, c1, width=1.0, out=STRIDES, last=False):
        super().__init__()
        w = scaled(width)
        c = w(32)
        blocks = [(conv_bn(c1, c, 3, 2, act=nn.ReLU6(inplace=True)), 2)]
        stride = 2
        for t, c2, number, first in self.STAGES:
            c2 = w(c2)
            stride *= first
            for i in range(number):
                blocks.append((LinearBottleneck(c, c2, first if i == 0 else 1, t), stride))
                c = c2
        if last:
            blocks.append((conv_bn(c, make_divisible(1280 * max(width, 1.0)), act=nn.ReLU6(inplace=True)), stride))
        self.stack([(f"features.{i}", block, stride) for i, (block, stride) in enumerate(blocks)], out)
