"""Blocks of MobileNet v3 (Howard et al., Searching for MobileNetV3, 2019) in the forms published with YOLOv5-Lite."""

from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE_INT
from graftdet.models.blocks.backbone import conv_bn
from graftdet.models.blocks.constructor_checks import check_reduction, reduced_width
from graftdet.models.blocks.conv import FusePairs


@BLOCKS.register()
class Hswish(nn.Module):
    """relu6(x + 3) / 6: a hard sigmoid by value, named hard swish as published.

    (B, c, H, W) -> the same.

    Source:
        Howard et al., Searching for MobileNetV3, 2019, section 5.2; form of YOLOv5-Lite, without the factor x.

    Example:
        [-1, 1, Hswish, []]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.hardsigmoid(x)


@BLOCKS.register(arguments={"reduction": POSITIVE_INT})
class SELayer(nn.Module):
    """Squeeze and excitation by two linear layers with ReLU and a hard sigmoid (Hswish).

    (B, c1, H, W) -> the same.

    Args:
        c1: input channels.
        reduction: c1 / reduction channels between the layers.

    Source:
        Howard et al., Searching for MobileNetV3, 2019, section 5.3; form of YOLOv5-Lite.

    Example:
        [-1, 1, SELayer, [4]]
    """

    def __init__(self, c1, reduction=4):
        super().__init__()
        check_reduction(c1, reduction)
        hidden = reduced_width(c1, reduction)
        self.fc = nn.Sequential(nn.Linear(c1, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, c1), Hswish())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


@BLOCKS.register(arguments={"hidden": POSITIVE_INT})
class mobilev3_bneck(nn.Module):
    """Bottleneck of MobileNet v3 in the form of YOLOv5-Lite.

    (B, c1, H, W) -> (B, c2, H/s, W/s). No 1x1 expansion where c1 equals hidden; then the activation comes before SE,
    else after it. The input is added where the shape stays.

    Args:
        c1: input channels.
        c2: output channels.
        hidden: expanded width; the width multiple does not apply.
        k: kernel size of the depthwise convolution.
        s: stride, 1 or 2.
        se: squeeze and excitation (SELayer).
        hs: the module Hswish (a hard sigmoid by value) instead of ReLU.

    Source:
        Howard et al., Searching for MobileNetV3, 2019, section 3, figure 4; the paper has a true hard swish.

    Example:
        [-1, 1, mobilev3_bneck, [64, 128, 3, 2]]
    """

    swish = Hswish

    def __init__(self, c1, c2, hidden, k=3, s=1, se=False, hs=False):
        super().__init__()
        if s not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {s}")

        def act():
            return self.swish() if hs else nn.ReLU(inplace=True)

        depthwise = conv_bn(hidden, hidden, k, s, g=hidden)
        excite = SELayer(hidden) if se else nn.Identity()
        if c1 == hidden:
            middle = (*depthwise, act(), excite)
        else:
            middle = (*conv_bn(c1, hidden, act=act()), *depthwise, excite, act())
        self.conv = nn.Sequential(*middle, *conv_bn(hidden, c2))
        self.add = s == 1 and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.add else self.conv(x)


@BLOCKS.register("MobileNetV3_InvertedResidual", "MobileNet_Block", arguments={"hidden": POSITIVE_INT})
class MobileNetV3_InvertedResidual(mobilev3_bneck):
    """mobilev3_bneck with a true hard swish.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        hidden: expanded width; the width multiple does not apply.
        k: kernel size of the depthwise convolution.
        s: stride, 1 or 2.
        se: squeeze and excitation (SELayer).
        hs: hard swish instead of ReLU.

    Source:
        Howard et al., Searching for MobileNetV3, 2019, section 3, figure 4.

    Example:
        [-1, 1, MobileNetV3_InvertedResidual, [64, 128, 3, 2]]
    """

    swish = nn.Hardswish


@BLOCKS.register()
class conv_bn_hswish(FusePairs, nn.Module):
    """3x3 convolution without bias, batch norm and hard swish.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        s: stride.

    Source:
        Howard et al., Searching for MobileNetV3, 2019, table 1 (first row).

    Example:
        [-1, 1, conv_bn_hswish, [32, 2]]
    """

    fuse_pairs = (("conv", "bn"),)

    def __init__(self, c1, c2, s=1):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, 3, s, 1, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = nn.Hardswish()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))
