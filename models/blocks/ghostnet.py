"""GhostNet (Han et al., GhostNet: More Features from Cheap Operations, 2020): blocks and the whole backbone.

The YOLOv5 forms, `GhostConv` and `GhostBottleneck`, are in `ghost.py`. Weight names are those of the published
ImageNet weights, so that they load by name.
"""

import math

import torch
from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import activation
from graftdet.models.blocks.argument_ranges import POSITIVE, POSITIVE_INT
from graftdet.models.blocks.backbone import are_among, check_width, conv_bn, make_divisible
from graftdet.models.blocks.conv import LEAVE_OUT, Conv, DWConv, FusePairs, reduced, refuse_width, same_padding
from graftdet.utils.errors import UserError
from torch import nn
from torch.nn import functional as F

RELU = "nn.ReLU(inplace=True)"


@BLOCKS.register(arguments={"ratio": POSITIVE, "divisor": POSITIVE_INT})
class SqueezeExcite(nn.Module):
    """Channels weighted by what their means say (Hu et al., Squeeze-and-Excitation, 2018): (B, c, H, W) -> the same.

    Between the two 1x1 convolutions there are `ratio * c1` channels to the nearest multiple of `divisor`; ReLU, and a
    hard sigmoid as the gate, as in MobileNet v3. `bias=False` leaves out their biases.
    """

    def __init__(self, c1, ratio=0.25, divisor=4, bias=True):
        super().__init__()
        if not 0 < ratio <= 1:
            raise ValueError(f"the ratio must be above 0 and at most 1, got {ratio}{LEAVE_OUT if ratio > 1 else ''}")
        hidden = make_divisible(c1 * ratio, divisor)
        self.conv_reduce = nn.Conv2d(c1, hidden, 1, bias=bias)
        self.act1 = nn.ReLU(inplace=True)
        self.conv_expand = nn.Conv2d(hidden, c1, 1, bias=bias)

    def forward(self, x):
        weight = self.conv_expand(self.act1(self.conv_reduce(x.mean((2, 3), keepdim=True))))  # (B, c, 1, 1)
        return x * F.hardsigmoid(weight)


@BLOCKS.register()
class ConvBnAct(FusePairs, nn.Module):
    """Convolution without bias, batch norm, activation (ReLU): (B, c1, H, W) -> (B, c2, H/s, W/s)."""

    fuse_pairs = (("conv", "bn1"),)

    def __init__(self, c1, c2, k=1, s=1, act=RELU):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, same_padding(k), bias=False)
        self.bn1 = nn.BatchNorm2d(c2)
        self.act1 = activation(act)

    def forward(self, x):
        return self.act1(self.bn1(self.conv(x)))


def check_ratio(ratio, least: int = 1) -> None:
    """Raise `ValueError` unless a Ghost module's ratio is a whole number of at least `least`."""
    if isinstance(ratio, bool) or not isinstance(ratio, int) or ratio < least:
        raise ValueError(f"the ratio must be a whole number of at least {least}, got {ratio!r}")


@BLOCKS.register(arguments={"ratio": POSITIVE, "dw_k": POSITIVE_INT})
class GhostModule(nn.Module):
    """One part of the channels by a convolution, the others from it by cheap depth-wise ones (section 3.1).

    (B, c1, H, W) -> (B, c2, H/s, W/s). The convolution (kernel `k`) gives c2 / ratio channels, rounded up; each of
    them yields ratio - 1 more with kernel `dw_k`; what exceeds c2 is cut off. `ratio` 1 is a plain convolution.
    """

    def __init__(self, c1, c2, k=1, ratio=2, dw_k=3, s=1, act=RELU):
        super().__init__()
        check_ratio(ratio)
        first = math.ceil(c2 / ratio)
        cheap = first * (ratio - 1)
        self.c2 = c2
        self.primary_conv = conv_bn(c1, first, k, s, act=activation(act))
        self.cheap_operation = conv_bn(first, cheap, dw_k, g=first, act=activation(act)) if cheap else None

    def forward(self, x):
        y = self.primary_conv(x)
        if self.cheap_operation is None:
            return y
        return join_ghosts(y, self.cheap_operation(y), self.c2)


def join_ghosts(primary, cheap, width: int):
    """Both parts of a Ghost module side by side, cut to `width` channels: (B, width, H, W)."""
    joined = torch.cat((primary, cheap), 1)
    return joined if joined.shape[1] == width else joined[:, :width]


@BLOCKS.register(arguments={"hidden": POSITIVE_INT})
class GhostNetBottleneck(FusePairs, nn.Module):
    """Ghost module up to `hidden` channels, strided depth-wise convolution, SE, Ghost module down (section 3.2).

    (B, c1, H, W) -> (B, c2, H/s, W/s). The depth-wise part is there where s > 1, SE where `se_ratio` > 0; the second
    Ghost module has no activation. The shortcut is an identity where the shape stays, else a depth-wise and a 1x1
    convolution. `se_bias=False` gives the SE of the TensorFlow article; `GBNeck` is that article's whole block.
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

    def forward(self, x):
        y = self.ghost1(x)
        if self.conv_dw is not None:
            y = self.bn_dw(self.conv_dw(y))
        if self.se is not None:
            y = self.se(y)
        return self.ghost2(y) + self.shortcut(x)


@BLOCKS.register()
class GhostNet(FusePairs, nn.Module):
    """The whole network without its classifier (table 1): (B, c1, H, W) -> list of maps, one for each of `stages`.

    Stages count from 0 to 9, the last being the 1x1 convolution to 960 channels. At width 1.0 stages 4, 6 and 9 give
    40, 112 and 960 channels at strides 8, 16 and 32, stage 8 gives 160 there. Stages behind the last one that is
    asked for are not built. `width` is the network's own: a YAML's width multiple leaves it alone. With the paper's
    classifier of 1000 classes it has 5,182,508 parameters.
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
        check_width(width)
        last = len(self.STAGES)
        if not are_among(stages, range(last + 1)):
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

    def forward(self, x):
        x = self.act1(self.bn1(self.conv_stem(x)))
        maps = []
        for stage in self.blocks:
            x = stage(x)
            maps.append(x)
        return [maps[stage] for stage in self.stages]


@BLOCKS.register(arguments={"ratio": POSITIVE})
class SEModule(nn.Module):
    """Squeeze and excite of the TensorFlow article: c1 / ratio channels between, no biases: (B, c, H, W) -> the same.

    Its gate is Keras's hard sigmoid, which is clip(0.2 x + 0.5, 0, 1) where torch's is clip(x / 6 + 0.5, 0, 1).
    """

    def __init__(self, c1, ratio=2):
        super().__init__()
        refuse_width(c1, ratio)
        self.conv1 = nn.Conv2d(c1, reduced(c1, min(ratio, c1)), 1, bias=False)
        self.conv2 = nn.Conv2d(self.conv1.out_channels, c1, 1, bias=False)

    def forward(self, x):
        weight = self.conv2(F.relu(self.conv1(x.mean((2, 3), keepdim=True))))
        return x * (0.2 * weight + 0.5).clamp(0, 1)


class _BareGhost(nn.Module):
    """A Ghost module without norms and activations: the cheap channels come from the plain convolution's output."""

    def __init__(self, c1, c2, ratio):
        super().__init__()
        check_ratio(ratio)
        first = math.ceil(c2 / ratio)
        self.c2 = c2
        self.conv = nn.Conv2d(c1, first, 1, bias=False)
        cheap = first * (ratio - 1)
        self.depthconv = nn.Conv2d(first, cheap, 3, padding=1, groups=first, bias=False) if cheap else None

    def forward(self, x):
        y = self.conv(x)
        return y if self.depthconv is None else join_ghosts(y, self.depthconv(y), self.c2)


@BLOCKS.register(arguments={"hidden": POSITIVE_INT, "ratio": POSITIVE})
class GBNeck(nn.Module):
    """The Ghost bottleneck as the TensorFlow article has it: (B, c1, H, W) -> (B, c2, H/s, W/s).

    Differs from the paper: one batch norm behind each Ghost module instead of one in each of its parts, ReLU after
    the strided depth-wise convolution too, an SE without biases that reduces by `ratio`, and always a convolution
    as the shortcut. The article's depth-wise convolutions widen when ratio > 2, which its sum forbids: here they keep
    the width.
    """

    def __init__(self, c1, c2, hidden, k=3, s=1, se=False, ratio=2):
        super().__init__()
        self.ghost1 = nn.Sequential(_BareGhost(c1, hidden, ratio), nn.BatchNorm2d(hidden), nn.ReLU(inplace=True))
        self.strided = conv_bn(hidden, hidden, k, s, g=hidden, act=nn.ReLU(inplace=True)) if s > 1 else nn.Identity()
        self.se = SEModule(hidden, ratio) if se else nn.Identity()
        self.ghost2 = nn.Sequential(_BareGhost(hidden, c2, ratio), nn.BatchNorm2d(c2))
        self.shortcut = nn.Sequential(*conv_bn(c1, c1, k, s, g=c1), *conv_bn(c1, c2))

    def forward(self, x):
        return self.ghost2(self.se(self.strided(self.ghost1(x)))) + self.shortcut(x)


@BLOCKS.register()
class GhostConv(nn.Module):
    """Half of the channels by a convolution, the other half from those by a cheap 5x5 depth-wise one (section 3.1).

    (B, c1, H, W) -> (B, c2, H/s, W/s). Differs from the paper in activation and in the kernel of the cheap part.
    """

    def __init__(self, c1, c2, k=1, s=1, g=1, act=True):
        super().__init__()
        hidden = c2 // 2
        self.cv1 = Conv(c1, hidden, k, s, None, g, act=act)
        self.cv2 = Conv(hidden, hidden, 5, 1, None, hidden, act=act)

    def forward(self, x):
        y = self.cv1(x)
        return torch.cat((y, self.cv2(y)), 1)


@BLOCKS.register()
class GhostBottleneck(nn.Module):
    """Two GhostConvs, a strided depth-wise convolution between them when s = 2 (section 3.2).

    (B, c1, H, W) -> (B, c2, H/s, W/s). The shortcut is an identity at stride 1, so c1 and c2 must agree there.
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

    def forward(self, x):
        return self.conv(x) + self.shortcut(x)
