"""MobileNet v2 (Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018)."""

from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.backbone import STRIDES, Backbone, conv_bn, make_divisible, width_scaler


@BLOCKS.register("LinearBottleneck", "LinearBottleNeck", "InvertedResidual", arguments={"t": POSITIVE})
class LinearBottleneck(nn.Module):
    """Inverted residual with a linear bottleneck: 1x1 expansion, 3x3 depthwise convolution, 1x1 projection.

    (B, c1, H, W) -> (B, c2, H/s, W/s). ReLU6 behind the first two. The input is added where the shape stays. No 1x1
    expansion at t = 1, as in the published code.

    Args:
        c1: input channels.
        c2: output channels.
        s: stride, 1 or 2.
        t: expansion: t c1 channels inside.

    Source:
        Sandler et al., MobileNetV2, 2018, section 3, table 1. Names of torchvision.

    Example:
        [-1, 1, LinearBottleneck, [64, 2, 6]]
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

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.add else y


@BLOCKS.register()
class MobileNetV2(Backbone):
    """The MobileNet v2 backbone without its classifier.

    (B, c1, H, W) -> list of maps: 32, 96 and 320 channels at strides 8, 16 and 32. 3,504,872 parameters with `last` and
    a classifier of 1000 classes.

    Args:
        c1: input channels.
        width: multiplies all widths inside; the width multiple of the model does not apply.
        out: strides of the maps that are returned.
        last: the map at stride 32 is that of the last 1x1 convolution, of 1280 channels.

    Source:
        Sandler et al., MobileNetV2, 2018, table 2. Names of torchvision (`features.0.0`).

    Example:
        [-1, 1, MobileNetV2, [1.0]]
    """

    STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self, c1, width=1.0, out=STRIDES, last=False):
        super().__init__()
        w = width_scaler(width)
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
