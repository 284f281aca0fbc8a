"""Blocks of other light networks in the forms published with YOLOv5-Lite."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE, POSITIVE_INT
from graftdet.models.blocks.backbone import conv_bn
from graftdet.models.blocks.conv import FusePairs, same_padding
from graftdet.models.blocks.csp import C3
from graftdet.models.blocks.ops import channel_shuffle

_BATCH_NORM = {"eps": 1e-3, "momentum": 0.01}  # as in EfficientNet; a DetectionModel sets its own values


@BLOCKS.register("conv_bn_relu_maxpool", "CBRM")
class conv_bn_relu_maxpool(nn.Module):
    """Stem of ShuffleNet v2: strided 3x3 convolution, batch norm, ReLU, strided 3x3 max pool.

    (B, c1, H, W) -> (B, c2, H/4, W/4).

    Args:
        c1: input channels.
        c2: output channels.

    Source:
        Ma et al., ShuffleNet V2, 2018, table 5; form of YOLOv5-Lite.

    Example:
        [-1, 1, conv_bn_relu_maxpool, [32]]
    """

    def __init__(self, c1, c2):
        super().__init__()
        self.conv = conv_bn(c1, c2, 3, 2, act=nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool(self.conv(x))


@BLOCKS.register("Shuffle_Block", "ShuffleNetV2_InvertedResidual")
class Shuffle_Block(nn.Module):
    """Unit of ShuffleNet v2 in the form of YOLOv5-Lite.

    (B, c1, H, W) -> (B, c2, H/s, W/s). Stride 1 passes half of the channels and needs c1 = c2; stride 2 sends all of
    them through both branches.

    Args:
        c1: input channels.
        c2: output channels, even.
        s: stride, 1 or 2.

    Source:
        Ma et al., ShuffleNet V2, 2018, section 3.2, figure 3 c and d.

    Example:
        [-1, 1, Shuffle_Block, [64, 2]]
    """

    def __init__(self, c1, c2, s=1):
        super().__init__()
        if s not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {s}")
        if c2 % 2 or (s == 1 and c1 != c2):
            raise ValueError(f"needs an even width, and as wide out as in at stride 1; got {c1} in, {c2} out")
        half = c2 // 2
        self.s = s
        self.branch1 = nn.Sequential()
        if s == 2:
            self.branch1.extend((*conv_bn(c1, c1, 3, s, g=c1), *conv_bn(c1, half, act=nn.ReLU(inplace=True))))
        self.branch2 = nn.Sequential(
            *conv_bn(c1 if s == 2 else half, half, act=nn.ReLU(inplace=True)),
            *conv_bn(half, half, 3, s, g=half),
            *conv_bn(half, half, act=nn.ReLU(inplace=True)),
        )

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1) if self.s == 1 else (x, x)
        return channel_shuffle(torch.cat((self.branch1(first), self.branch2(second)), 1), 2)


@BLOCKS.register()
class stem(nn.Module):
    """Convolution without bias, batch norm and ReLU.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size.
        s: stride.
        g: groups of the convolution.

    Source:
        Tan and Le, EfficientNet, 2019, table 1 (first row); form of YOLOv5-Lite.

    Example:
        [-1, 1, stem, [32]]
    """

    def __init__(self, c1, c2, k=3, s=2, g=1):
        super().__init__()
        self.conv = conv_bn(c1, c2, k, s, g=g, act=nn.ReLU(inplace=True), **_BATCH_NORM)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@BLOCKS.register()
class MBConvBlock(FusePairs, nn.Module):
    """Depthwise k x k and 1x1 convolution with a shortcut, without expansion and SE.

    (B, c1, H, W) -> (B, c2, H/s, W/s). c1 must equal c2. The input is added at stride 1.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size of the depthwise convolution.
        s: stride.

    Source:
        Tan and Le, EfficientNet, 2019, section 4 (MBConv1); form of YOLOv5-Lite.

    Example:
        [-1, 1, MBConvBlock, [64, 3, 2]]
    """

    fuse_pairs = (("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))

    def __init__(self, c1, c2, k=3, s=1):
        super().__init__()
        if c1 != c2:
            raise ValueError(
                f"keeps the width, but the row asks for {c1} to {c2}; change the width in a Conv row before"
            )
        self._depthwise_conv = nn.Conv2d(c1, c2, k, s, same_padding(k), groups=c2, bias=False)
        self._bn1 = nn.BatchNorm2d(c2, **_BATCH_NORM)
        self._project_conv = nn.Conv2d(c2, c2, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(c2, **_BATCH_NORM)
        self.add = s == 1

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self._bn1(self._depthwise_conv(x)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.add else y


@BLOCKS.register(arguments={"hidden": POSITIVE_INT})
class SEBlock(nn.Module):
    """Squeeze and excitation by two 1x1 convolutions with ReLU and sigmoid.

    (B, c1, H, W) -> the same.

    Args:
        c1: input channels.
        hidden: channels between the convolutions; the width multiple does not apply.

    Source:
        Hu et al., Squeeze-and-Excitation Networks, 2018, section 3; form of YOLOv5-Lite.

    Example:
        [-1, 1, SEBlock, [16]]
    """

    def __init__(self, c1, hidden):
        super().__init__()
        self.down = nn.Conv2d(c1, hidden, 1)
        self.up = nn.Conv2d(hidden, c1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


class GlobalContext(nn.Module):
    """Global context: each position scaled and shifted by attention over all positions: (B, c, H, W) -> the same.

    Cao et al., GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond, 2019, section 4.2, with both of
    its fusions: multiplied by a sigmoid, then added.
    """

    def __init__(self, c, ratio=0.25):
        super().__init__()
        hidden = max(int(c * ratio), 1)
        self.conv_mask = nn.Conv2d(c, 1, 1)
        self.channel_add_conv = self._transform(c, hidden)
        self.channel_mul_conv = self._transform(c, hidden)

    @staticmethod
    def _transform(c, hidden):
        return nn.Sequential(
            nn.Conv2d(c, hidden, 1), nn.LayerNorm([hidden, 1, 1]), nn.ReLU(inplace=True), nn.Conv2d(hidden, c, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        attention = self.conv_mask(x).flatten(2).softmax(-1)  # (B, 1, H*W)
        context = (x.flatten(2) @ attention.transpose(1, 2)).unsqueeze(-1)  # (B, c, 1, 1)
        return x * torch.sigmoid(self.channel_mul_conv(context)) + self.channel_add_conv(context)


@BLOCKS.register(arguments={"e": POSITIVE})
class C3_GC(C3):
    """C3 block with a global context block in its second path.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        g: groups of the convolution.
        e: inner width as a fraction of c2.

    Source:
        Cao et al., GCNet: Non-local Networks Meet Squeeze-Excitation Networks, 2019, section 4.2; form of YOLOv5-Lite.

    Example:
        [-1, 1, C3_GC, [64]]
    """

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, n, shortcut, g, e)
        self.gc = GlobalContext(c1)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(self.gc(x))), 1))


@BLOCKS.register(arguments={"e": POSITIVE})
class LC3(C3):
    """C3 block that adds its two paths instead of concatenating them.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        g: groups of the convolution.
        e: inner width as a fraction of c2.

    Source:
        Wang et al., CSPNet, 2020, figure 3, with a sum; form of YOLOv5-Lite.

    Example:
        [-1, 1, LC3, [64]]
    """

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, n, shortcut, g, e)
        self.cv3 = type(self.cv3)(int(c2 * e), c2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(self.m(self.cv1(x)) + self.cv2(x))
