"""The backbone and neck blocks of PicoDet (Yu et al., PP-PicoDet, 2021)."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import activation
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.backbone import check_width_factor, conv_bn, make_divisible
from graftdet.models.blocks.conv import Conv
from graftdet.models.blocks.ops import channel_shuffle
from graftdet.models.blocks.picodet import ES_SEModule
from graftdet.utils.errors import UserError

SWISH = "nn.Hardswish()"


def _cba(c1, c2, k=1, s=1, g=1, act=None):
    return conv_bn(c1, c2, k, s, g=g, act=None if act is None else activation(act))


@BLOCKS.register(arguments={"ratio": POSITIVE})
class ESBlock(nn.Module):
    """Enhanced shuffle block of PicoDet.

    (B, c1, H, W) -> (B, c2, H/s, W/s). Stride 1 (c1 equals c2): half of the channels pass unchanged, the other half
    goes through a Ghost module, SE and a 1x1 convolution; channel shuffle. Stride 2: a depthwise branch and one with
    SE, concatenated, then a depthwise and a 1x1 convolution.

    Args:
        c1: input channels.
        c2: output channels.
        s: stride, 1 or 2.
        ratio: inner width as a fraction of c2.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Yu et al., PP-PicoDet, 2021, section 3.2, figure 3.

    Example:
        [-1, 1, ESBlock, [64, 2]]
    """

    def __init__(self, c1, c2, s=1, ratio=1.0, act=SWISH):
        super().__init__()
        if s not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {s}")
        if c2 % 2 or (s == 1 and c1 != c2):
            raise ValueError(f"needs an even width, and as wide out as in at stride 1; got {c1} in, {c2} out")
        half, inner = c2 // 2, make_divisible(c2 * ratio) // 2
        self.s = s
        self.conv_pw = _cba(c1 if s == 2 else half, inner, act=act)
        self.conv_dw = _cba(inner, inner, 3, s, g=inner)
        se_width = inner if s == 2 else 2 * inner
        self.se = ES_SEModule(se_width)
        self.conv_linear = _cba(se_width, half, act=act)
        if s == 2:
            self.side = nn.Sequential(_cba(c1, c1, 3, s, g=c1), _cba(c1, half, act=act))
            self.mix = nn.Sequential(_cba(c2, c2, 3, g=c2, act=act), _cba(c2, c2, act=act))

    def forward(self, x: Tensor) -> Tensor:
        if self.s == 2:
            y = self.conv_linear(self.se(self.conv_dw(self.conv_pw(x))))
            return self.mix(torch.cat((self.side(x), y), 1))
        passed, y = x.chunk(2, 1)
        y = self.conv_pw(y)
        y = self.conv_linear(self.se(torch.cat((y, self.conv_dw(y)), 1)))
        return channel_shuffle(torch.cat((passed, y), 1), 2)


@BLOCKS.register()
class ESNet(nn.Module):
    """The ESNet backbone of PicoDet: three maps at strides 8, 16 and 32.

    (B, c1, H, W) -> list of maps: 96, 192, 384 channels at scale 0.75 (PicoDet-S), 128, 256, 512 at 1.0 (M), 160, 320,
    640 at 1.25 (L).

    Args:
        c1: input channels.
        scale: multiplies all widths inside; the width multiple of the model does not apply.
        ratios: inner widths of the 13 blocks as fractions; None for those that the paper found by search (S up to scale
            0.75, else M and L).
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Yu et al., PP-PicoDet, 2021, section 3.2.

    Example:
        [-1, 1, ESNet, [0.75]]
    """

    DEPTHS = (3, 7, 3)
    RATIOS_S = (0.875, 0.5, 0.5, 0.5, 0.625, 0.5, 0.625, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    RATIOS_ML = (0.875, 0.5, 1.0, 0.625, 0.5, 0.75, 0.625, 0.625, 0.5, 0.625, 1.0, 0.625, 0.75)

    def __init__(self, c1, scale=1.0, ratios=None, act=SWISH):
        super().__init__()
        check_width_factor(scale, "scale")
        ratios = (self.RATIOS_S if scale <= 0.75 else self.RATIOS_ML) if ratios is None else ratios
        if not isinstance(ratios, (list, tuple)) or len(ratios) != sum(self.DEPTHS):
            raise UserError(f"ratios: expected a list of {sum(self.DEPTHS)} numbers, one per block, got {ratios!r}")
        self.stem = nn.Sequential(*_cba(c1, 24, 3, 2, act=act), nn.MaxPool2d(3, 2, 1))
        ratio, c, self.stages = iter(ratios), 24, nn.ModuleList()
        for depth, width in zip(self.DEPTHS, (128, 256, 512), strict=True):
            stage, c2 = nn.Sequential(), make_divisible(width * scale, 16)
            for i in range(depth):
                stage.append(ESBlock(c, c2, 2 if i == 0 else 1, next(ratio), act))
                c = c2
            self.stages.append(stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


@BLOCKS.register()
class DPConv(nn.Module):
    """Depthwise k x k Conv and 1x1 Conv.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size of the depthwise convolution.
        s: stride.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Yu et al., PP-PicoDet, 2021, section 3.3 (5x5 in the neck).

    Example:
        [-1, 1, DPConv, [64, 5, 2]]
    """

    def __init__(self, c1, c2, k=5, s=1, act=True):
        super().__init__()
        self.dw = Conv(c1, c1, k, s, g=c1, act=act)
        self.pw = Conv(c1, c2, act=act)

    def forward(self, x: Tensor) -> Tensor:
        return self.pw(self.dw(x))


@BLOCKS.register(arguments={"e": POSITIVE})
class CSPDP(nn.Module):
    """The CSP block of CSP-PAN: C3 of n bottlenecks of a 1x1 Conv and a DPConv, without shortcut.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        k: kernel size of the depthwise convolutions.
        e: inner width as a fraction of c2.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Yu et al., PP-PicoDet, 2021, section 3.3.

    Example:
        [-1, 1, CSPDP, [64]]
    """

    def __init__(self, c1, c2, n=1, k=5, e=0.5, act=True):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, act=act)
        self.cv2 = Conv(c1, hidden, act=act)
        self.cv3 = Conv(2 * hidden, c2, act=act)
        self.m = nn.Sequential(
            *(nn.Sequential(Conv(hidden, hidden, act=act), DPConv(hidden, hidden, k, act=act)) for _ in range(n))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))
