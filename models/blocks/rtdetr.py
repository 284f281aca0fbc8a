"""Convolution blocks of RT-DETR (Lv et al., DETRs Beat YOLOs on Real-time Object Detection, 2023) and its HGNetv2."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE, POSITIVE_INT
from graftdet.models.blocks.conv import Conv
from graftdet.models.blocks.repvgg import TwoKernels

_RELU = "nn.ReLU(inplace=True)"


@BLOCKS.register(arguments={"cm": POSITIVE_INT, "c3": POSITIVE_INT})
class HGStem(nn.Module):
    """Stem of HGNetv2: two strided convolutions with a pooling path and two 2x2 convolutions side by side between them.

    (B, c1, H, W) -> (B, c3, H/4, W/4).

    Args:
        c1: input channels.
        cm: width inside, even; the width multiple does not apply.
        c3: output channels; the width multiple does not apply.

    Source:
        Lv et al., RT-DETR, 2023, section 5 (HGNetv2 as the backbone); layers of PP-HGNetv2 in PaddleClas.

    Example:
        [-1, 1, HGStem, [32, 48]]
    """

    def __init__(self, c1, cm, c3):
        super().__init__()
        if cm % 2:
            raise ValueError(f"cm is halved: expected an even number, got {cm}")
        self.stem1 = Conv(c1, cm, 3, 2, act=_RELU)
        self.stem2a = Conv(cm, cm // 2, 2, 1, 0, act=_RELU)
        self.stem2b = Conv(cm // 2, cm, 2, 1, 0, act=_RELU)
        self.stem3 = Conv(2 * cm, cm, 3, 2, act=_RELU)
        self.stem4 = Conv(cm, c3, 1, act=_RELU)
        self.pool = nn.MaxPool2d(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(self.stem1(x), (0, 1, 0, 1))
        y = self.stem2b(F.pad(self.stem2a(x), (0, 1, 0, 1)))
        return self.stem4(self.stem3(torch.cat((self.pool(x), y), 1)))


class _LightConv(nn.Sequential):
    """1x1 convolution, then a depthwise k x k convolution with ReLU: (B, c1, H, W) -> (B, c2, H, W)."""

    def __init__(self, c1, c2, k):
        super().__init__(Conv(c1, c2, 1, act=False), Conv(c2, c2, k, g=c2, act=_RELU))


@BLOCKS.register(arguments={"cm": POSITIVE_INT, "c3": POSITIVE_INT})
class HGBlock(nn.Module):
    """Block of HGNetv2: n convolutions in sequence, all outputs concatenated, two 1x1 convolutions.

    (B, c1, H, W) -> (B, c3, H, W).

    Args:
        c1: input channels.
        cm: width of the convolutions; the width multiple does not apply.
        c3: output channels, even; the width multiple does not apply.
        k: kernel size.
        n: number of convolutions (the row's number).
        lightconv: 1x1 and depthwise convolutions in place of dense ones.
        shortcut: add the input where c1 equals c3.

    Source:
        Lv et al., RT-DETR, 2023, section 5 (HGNetv2 as the backbone); layers of PP-HGNetv2 in PaddleClas.

    Example:
        [-1, 6, HGBlock, [48, 128, 3]]
    """

    def __init__(self, c1, cm, c3, k=3, n=6, lightconv=False, shortcut=False):
        super().__init__()
        if c3 % 2:
            raise ValueError(f"c3 is halved: expected an even number, got {c3}")
        widths = [c1, *[cm] * (n - 1)]
        self.m = nn.ModuleList(_LightConv(c, cm, k) if lightconv else Conv(c, cm, k, act=_RELU) for c in widths)
        self.sc = Conv(c1 + n * cm, c3 // 2, 1, act=_RELU)
        self.ec = Conv(c3 // 2, c3, 1, act=_RELU)
        self.add = shortcut and c1 == c3

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for m in self.m:
            maps.append(m(maps[-1]))
        y = self.ec(self.sc(torch.cat(maps, 1)))
        return x + y if self.add else y


@BLOCKS.register(arguments={"e": POSITIVE})
class RepC3(nn.Module):
    """CSP block of n re-parameterizable 3x3 convolutions whose two paths are added.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of re-parameterizable convolutions (the row's number).
        e: inner width as a fraction of c2; below 1, a 1x1 convolution follows the sum.

    Source:
        Lv et al., RT-DETR, 2023, section 4.2, figure 4 (fusion block); Ding et al., RepVGG, 2021, section 3.3, without
        the identity branch.

    Example:
        [-1, 3, RepC3, [64]]
    """

    def __init__(self, c1, c2, n=3, e=1.0):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1)
        self.cv2 = Conv(c1, hidden, 1)
        self.m = nn.Sequential(*(TwoKernels(hidden, hidden) for _ in range(n)))
        self.cv3 = Conv(hidden, c2, 1) if hidden != c2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(self.m(self.cv1(x)) + self.cv2(x))
