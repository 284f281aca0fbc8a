"""MobileNet v3 (Howard et al., Searching for MobileNetV3, 2019)."""

from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE_INT
from graftdet.models.blocks.backbone import STRIDES, Backbone, conv_bn, make_divisible, width_scaler
from graftdet.models.blocks.constructor_checks import check_reduction, reduced_width
from graftdet.utils.errors import UserError, did_you_mean

_NORM = {"eps": 1e-3, "momentum": 0.01}  # as published


@BLOCKS.register("HardSigmoid", "Hsigmoid")
class HardSigmoid(nn.Hardsigmoid):
    """Hard sigmoid relu6(x + 3) / 6.

    (B, c, H, W) -> the same.

    Source:
        Howard et al., Searching for MobileNetV3, 2019, section 5.2.

    Example:
        [-1, 1, HardSigmoid, []]
    """

    def __init__(self):
        super().__init__()


@BLOCKS.register()
class HardSwish(nn.Hardswish):
    """Hard swish x relu6(x + 3) / 6.

    (B, c, H, W) -> the same. The published module Hswish is another one, a hard sigmoid.

    Source:
        Howard et al., Searching for MobileNetV3, 2019, section 5.2.

    Example:
        [-1, 1, HardSwish, []]
    """

    def __init__(self):
        super().__init__()


@BLOCKS.register("SqueezeExcitation", "Squeeze_excite", arguments={"r": POSITIVE_INT, "hidden": POSITIVE_INT})
class SqueezeExcitation(nn.Module):
    """Squeeze and excitation by two 1x1 convolutions with ReLU and a hard sigmoid, without batch norm.

    (B, c1, H, W) -> the same. Weights are named as in torchvision (`fc1`, `fc2`).

    Args:
        c1: input channels.
        r: reduction: c1 / r channels between the convolutions.
        hidden: channels between the convolutions; None for c1 / r.

    Source:
        Hu et al., Squeeze-and-Excitation Networks, 2018, as in Howard et al., Searching for MobileNetV3, 2019, section
        5.3.

    Example:
        [-1, 1, SqueezeExcitation, [4]]
    """

    def __init__(self, c1, r=4, hidden=None):
        super().__init__()
        if hidden is None:
            check_reduction(c1, r)
            hidden = reduced_width(c1, min(r, c1))
        self.fc1 = nn.Conv2d(c1, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, c1, 1)
        self.activation = nn.ReLU(inplace=True)
        self.scale_activation = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y = x.mean((2, 3), keepdim=True)  # (B, c1, 1, 1)
        return x * self.scale_activation(self.fc2(self.activation(self.fc1(y))))


@BLOCKS.register(arguments={"hidden": POSITIVE_INT})
class MobileNetV3Block(nn.Module):
    """Inverted residual with squeeze and excitation behind the depthwise convolution.

    (B, c1, H, W) -> (B, c2, H/s, W/s). No 1x1 expansion where hidden equals c1. The input is added where the shape
    stays. The width inside SE is hidden / 4, rounded to a multiple of 8.

    Args:
        c1: input channels.
        c2: output channels.
        hidden: expanded width; the width multiple does not apply.
        k: kernel size of the depthwise convolution.
        s: stride, 1 or 2.
        se: squeeze and excitation.
        hs: hard swish instead of ReLU.

    Source:
        Howard et al., Searching for MobileNetV3, 2019, section 3, figure 4. Names of torchvision.

    Example:
        [-1, 1, MobileNetV3Block, [64, 128, 3, 2]]
    """

    def __init__(self, c1, c2, hidden, k=3, s=1, se=True, hs=True):
        super().__init__()
        if s not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {s}")
        act = nn.Hardswish if hs else nn.ReLU
        layers = [] if hidden == c1 else [conv_bn(c1, hidden, act=act(inplace=True), **_NORM)]
        layers.append(conv_bn(hidden, hidden, k, s, g=hidden, act=act(inplace=True), **_NORM))
        if se:
            layers.append(SqueezeExcitation(hidden, hidden=make_divisible(hidden // 4)))
        layers.append(conv_bn(hidden, c2, **_NORM))
        self.block = nn.Sequential(*layers)
        self.add = s == 1 and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        return x + y if self.add else y


@BLOCKS.register()
class MobileNetV3(Backbone):
    """The MobileNet v3 backbone, large or small, without its classifier.

    (B, c1, H, W) -> list of maps at strides 8, 16 and 32: 40, 112 and 160 channels (large), 24, 48 and 96 (small). With
    `last` and the published classifier of 1000 classes 5,483,032 and 2,542,856 parameters.

    Args:
        c1: input channels.
        variant: "large" or "small".
        width: multiplies all widths inside; the width multiple of the model does not apply.
        out: strides of the maps that are returned.
        last: the map at stride 32 is that of the last 1x1 convolution, of 960 (large) or 576 (small) channels.

    Source:
        Howard et al., Searching for MobileNetV3, 2019, tables 1 and 2. Names of torchvision (`features.0.0`).

    Example:
        [-1, 1, MobileNetV3, [small, 1.0]]
    """

    ROWS = {  # kernel, hidden, width, SE, h-swish, stride
        "large": (
            (3, 16, 16, 0, 0, 1),
            (3, 64, 24, 0, 0, 2),
            (3, 72, 24, 0, 0, 1),
            (5, 72, 40, 1, 0, 2),
            (5, 120, 40, 1, 0, 1),
            (5, 120, 40, 1, 0, 1),
            (3, 240, 80, 0, 1, 2),
            (3, 200, 80, 0, 1, 1),
            (3, 184, 80, 0, 1, 1),
            (3, 184, 80, 0, 1, 1),
            (3, 480, 112, 1, 1, 1),
            (3, 672, 112, 1, 1, 1),
            (5, 672, 160, 1, 1, 2),
            (5, 960, 160, 1, 1, 1),
            (5, 960, 160, 1, 1, 1),
        ),
        "small": (
            (3, 16, 16, 1, 0, 2),
            (3, 72, 24, 0, 0, 2),
            (3, 88, 24, 0, 0, 1),
            (5, 96, 40, 1, 1, 2),
            (5, 240, 40, 1, 1, 1),
            (5, 240, 40, 1, 1, 1),
            (5, 120, 48, 1, 1, 1),
            (5, 144, 48, 1, 1, 1),
            (5, 288, 96, 1, 1, 2),
            (5, 576, 96, 1, 1, 1),
            (5, 576, 96, 1, 1, 1),
        ),
    }

    def __init__(self, c1, variant="large", width=1.0, out=STRIDES, last=False):
        super().__init__()
        if variant not in self.ROWS:
            raise UserError(f"variant: expected large or small, got {variant!r}{did_you_mean(str(variant), self.ROWS)}")
        w = width_scaler(width)
        c = w(16)
        blocks = [(conv_bn(c1, c, 3, 2, act=nn.Hardswish(inplace=True), **_NORM), 2)]
        stride = 2
        for k, hidden, c2, se, hs, s in self.ROWS[variant]:
            c2 = w(c2)
            stride *= s
            blocks.append((MobileNetV3Block(c, c2, w(hidden), k, s, bool(se), bool(hs)), stride))
            c = c2
        if last:
            blocks.append((conv_bn(c, 6 * c, act=nn.Hardswish(inplace=True), **_NORM), stride))
        self.stack([(f"features.{i}", block, stride) for i, (block, stride) in enumerate(blocks)], out)
