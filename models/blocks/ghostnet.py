"""GhostNet (Han et al., GhostNet: More Features from Cheap Operations, 2020): blocks and the whole backbone.

Weight names are those of the published ImageNet weights. The forms of YOLOv5 are in `ghost_blocks`.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import activation
from graftdet.models.blocks.argument_ranges import POSITIVE, POSITIVE_INT
from graftdet.models.blocks.backbone import are_distinct_choices, check_width_factor, conv_bn, make_divisible
from graftdet.models.blocks.constructor_checks import OMIT_WIDTH_HINT
from graftdet.models.blocks.conv import FusePairs, same_padding
from graftdet.utils.errors import UserError

RELU = "nn.ReLU(inplace=True)"


@BLOCKS.register(arguments={"ratio": POSITIVE, "divisor": POSITIVE_INT})
class SqueezeExcite(nn.Module):
    """Squeeze and excitation by two 1x1 convolutions with ReLU and a hard sigmoid.

    (B, c1, H, W) -> the same.

    Args:
        c1: input channels.
        ratio: width between the convolutions as a fraction of c1, above 0 and at most 1.
        divisor: the width between is rounded to a multiple of it.
        bias: biases in both convolutions.

    Source:
        Hu et al., Squeeze-and-Excitation Networks, 2018, with the gate of MobileNetV3, as in Han et al., GhostNet,
        2020.

    Example:
        [-1, 1, SqueezeExcite, [0.25]]
    """

    def __init__(self, c1, ratio=0.25, divisor=4, bias=True):
        super().__init__()
        if not 0 < ratio <= 1:
            raise ValueError(
                f"the ratio must be above 0 and at most 1, got {ratio}{OMIT_WIDTH_HINT if ratio > 1 else ''}"
            )
        hidden = make_divisible(c1 * ratio, divisor)
        self.conv_reduce = nn.Conv2d(c1, hidden, 1, bias=bias)
        self.act1 = nn.ReLU(inplace=True)
        self.conv_expand = nn.Conv2d(hidden, c1, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv_expand(self.act1(self.conv_reduce(x.mean((2, 3), keepdim=True))))  # (B, c, 1, 1)
        return x * F.hardsigmoid(weight)


@BLOCKS.register()
class ConvBnAct(FusePairs, nn.Module):
    """Convolution without bias, batch norm and activation, ReLU by default.

    (B, c1, H, W) -> (B, c2, H/s, W/s). Weights are named as in the published GhostNet (`conv`, `bn1`).

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size.
        s: stride.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Han et al., GhostNet, 2020 (its published code).

    Example:
        [-1, 1, ConvBnAct, [64, 3, 2]]
    """

    fuse_pairs = (("conv", "bn1"),)

    def __init__(self, c1, c2, k=1, s=1, act=RELU):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, same_padding(k), bias=False)
        self.bn1 = nn.BatchNorm2d(c2)
        self.act1 = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act1(self.bn1(self.conv(x)))


def check_ratio(ratio: object, minimum: int = 1) -> None:
    """Raise `ValueError` unless the ratio of a Ghost module is a whole number of at least `minimum`."""
    if isinstance(ratio, bool) or not isinstance(ratio, int) or ratio < minimum:
        raise ValueError(f"the ratio must be a whole number of at least {minimum}, got {ratio!r}")


@BLOCKS.register(arguments={"ratio": POSITIVE, "dw_k": POSITIVE_INT})
class GhostModule(nn.Module):
    """Ghost module: some channels by a convolution, the others from them by cheap depthwise convolutions.

    (B, c1, H, W) -> (B, c2, H/s, W/s). Channels beyond c2 are cut off.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size of the primary convolution.
        ratio: c2 / ratio channels, rounded up, come from the primary convolution; 1 is a plain convolution.
        dw_k: kernel size of the cheap depthwise convolutions.
        s: stride.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Han et al., GhostNet, 2020, section 3.1.

    Example:
        [-1, 1, GhostModule, [64]]
    """

    def __init__(self, c1, c2, k=1, ratio=2, dw_k=3, s=1, act=RELU):
        super().__init__()
        check_ratio(ratio)
        first = math.ceil(c2 / ratio)
        cheap = first * (ratio - 1)
        self.c2 = c2
        self.primary_conv = conv_bn(c1, first, k, s, act=activation(act))
        self.cheap_operation = conv_bn(first, cheap, dw_k, g=first, act=activation(act)) if cheap else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.primary_conv(x)
        if self.cheap_operation is None:
            return y
        return concat_ghost_features(y, self.cheap_operation(y), self.c2)


def concat_ghost_features(primary: Tensor, cheap: Tensor, width: int) -> Tensor:
    """Both parts of a Ghost module concatenated and cut to `width` channels: (B, width, H, W)."""
    joined = torch.cat((primary, cheap), 1)
    return joined if joined.shape[1] == width else joined[:, :width]


@BLOCKS.register(arguments={"hidden": POSITIVE_INT})
class GhostNetBottleneck(FusePairs, nn.Module):
    """Ghost bottleneck: expand by a Ghost module, depthwise stride, SE, project by a Ghost module, shortcut.

    (B, c1, H, W) -> (B, c2, H/s, W/s). The depthwise convolution exists where s > 1. The shortcut is an identity where
    the shape stays, else a depthwise and a 1x1 convolution.

    Args:
        c1: input channels.
        c2: output channels.
        hidden: expanded width; the width multiple does not apply.
        k: kernel size of the depthwise convolutions.
        s: stride.
        se_ratio: width inside squeeze and excitation as a fraction of hidden; 0 for none.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().
        se_bias: biases in squeeze and excitation.

    Source:
        Han et al., GhostNet, 2020, section 3.2, figure 3.

    Example:
        [-1, 1, GhostNetBottleneck, [64, 128, 3, 2]]
    """

    fuse_pairs = (("conv_dw", "bn_dw"),)

    def __init__(self, c1, c2, hidden, k=3, s=1, se_ratio=0.0, act=RELU, se_bias=True):
        super().__init__()
        self.ghost1 = GhostModule(c1, hidden, act=act)
        if s > 1:
            self.conv_dw = nn.Conv2d(hidden, hidden, k, s, same_padding(k), groups=hidden, bias=False)
            self.bn_dw = nn.BatchNorm2d(hidden)
        else:
            self.conv_dw, self.bn_dw = None, None
        self.se = SqueezeExcite(hidden, se_ratio, bias=se_bias) if se_ratio else None
        self.ghost2 = GhostModule(hidden, c2, act=None)
        self.shortcut = nn.Sequential()
        if s > 1 or c1 != c2:
            self.shortcut.extend((*conv_bn(c1, c1, k, s, g=c1), *conv_bn(c1, c2)))

    def forward(self, x: Tensor) -> Tensor:
        y = self.ghost1(x)
        if self.conv_dw is not None:
            y = self.bn_dw(self.conv_dw(y))
        if self.se is not None:
            y = self.se(y)
        return self.ghost2(y) + self.shortcut(x)


@BLOCKS.register()
class GhostNet(FusePairs, nn.Module):
    """The GhostNet backbone without its classifier.

    (B, c1, H, W) -> list of maps, one per entry of `stages`: 40, 112 and 960 channels at strides 8, 16 and 32 by
    default. Stages behind the last one listed are not built. 5,182,508 parameters with a classifier of 1000 classes.

    Args:
        c1: input channels.
        width: multiplies all widths inside; the width multiple of the model does not apply.
        stages: indices of the stages whose outputs are returned, 0 to 9; 9 is the 1x1 convolution to 960 channels.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Han et al., GhostNet, 2020, table 1. Weights are named as in the published ImageNet weights.

    Example:
        [-1, 1, GhostNet, [1.0, [4, 6, 9]]]
    """

    fuse_pairs = (("conv_stem", "bn1"),)
    STAGES = (  # kernel, hidden width, width, SE ratio, stride of each bottleneck
        ((3, 16, 16, 0, 1),),
        ((3, 48, 24, 0, 2),),
        ((3, 72, 24, 0, 1),),
        ((5, 72, 40, 0.25, 2),),
        ((5, 120, 40, 0.25, 1),),
        ((3, 240, 80, 0, 2),),
        ((3, 200, 80, 0, 1), (3, 184, 80, 0, 1), (3, 184, 80, 0, 1), (3, 480, 112, 0.25, 1), (3, 672, 112, 0.25, 1)),
        ((5, 672, 160, 0.25, 2),),
        ((5, 960, 160, 0, 1), (5, 960, 160, 0.25, 1), (5, 960, 160, 0, 1), (5, 960, 160, 0.25, 1)),
    )
    LAST = 960

    def __init__(self, c1, width=1.0, stages=(4, 6, 9), act=RELU):
        super().__init__()
        check_width_factor(width)
        last = len(self.STAGES)
        if not are_distinct_choices(stages, range(last + 1)):
            raise UserError(f"stages: expected a list of different numbers from 0 to {last}, got {stages!r}")
        self.stages = list(stages)
        c = make_divisible(16 * width, 4)
        self.conv_stem = nn.Conv2d(c1, c, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.act1 = activation(act)
        self.blocks = nn.Sequential()
        for rows in self.STAGES[: max(stages) + 1]:
            stage = nn.Sequential()
            for k, hidden, c2, se_ratio, s in rows:
                c2 = make_divisible(c2 * width, 4)
                stage.append(GhostNetBottleneck(c, c2, make_divisible(hidden * width, 4), k, s, se_ratio, act))
                c = c2
            self.blocks.append(stage)
        if max(stages) == last:
            self.blocks.append(nn.Sequential(ConvBnAct(c, make_divisible(self.LAST * width, 4), 1, act=act)))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.act1(self.bn1(self.conv_stem(x)))
        maps = []
        for stage in self.blocks:
            x = stage(x)
            maps.append(x)
        return [maps[stage] for stage in self.stages]
