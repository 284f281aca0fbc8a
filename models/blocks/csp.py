"""Cross stage partial blocks (Wang et al., CSPNet, 2020) in the forms published with YOLOv5."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import activation
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.conv import Conv, CrossConv
from graftdet.models.blocks.ghost_blocks import GhostBottleneck
from graftdet.models.blocks.pool import SPP
from graftdet.models.blocks.transformer import TransformerBlock


@BLOCKS.register(arguments={"e": POSITIVE})
class Bottleneck(nn.Module):
    """1x1 Conv, 3x3 Conv and a shortcut where the widths agree.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        shortcut: add the input where c1 equals c2.
        g: groups of the 3x3 convolution.
        e: inner width as a fraction of c2.

    Source:
        He et al., Deep Residual Learning, 2016, figure 5; two convolutions instead of three, as in Darknet-53 (Redmon
        and Farhadi, YOLOv3, 2018).

    Example:
        [-1, 1, Bottleneck, [64]]
    """

    def __init__(self, c1, c2, shortcut=True, g=1, e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(hidden, c2, 3, 1, g=g)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


def bottlenecks(c: int, n: int, shortcut: bool, g: int) -> nn.Sequential:
    """N bottlenecks of constant width in sequence: (B, c, H, W) -> the same."""
    return nn.Sequential(*(Bottleneck(c, c, shortcut, g, e=1.0) for _ in range(n)))


# YOLOv5-Lite uses LeakyReLU here, which its PicoDet files do not state; ES_Bottleneck rows identify these files
@BLOCKS.register(defaults_with_module={"ES_Bottleneck": {"act": "nn.LeakyReLU(0.1)"}}, arguments={"e": POSITIVE})
class BottleneckCSP(nn.Module):
    """CSP block with batch norm and activation behind the concatenation.

    (B, c1, H, W) -> (B, c2, H, W). `act` does not follow the model's activation, as in the published weights.

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        g: groups of the convolution.
        e: inner width as a fraction of c2.
        act: activation behind the concatenation; LeakyReLU(0.1) by default in models with ES_Bottleneck rows, as in
            YOLOv5-Lite.

    Source:
        Wang et al., CSPNet, 2020, figure 3; form of YOLOv5.

    Example:
        [-1, 3, BottleneckCSP, [64]]
    """

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5, act="nn.SiLU()"):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = nn.Conv2d(c1, hidden, 1, 1, bias=False)
        self.cv3 = nn.Conv2d(hidden, hidden, 1, 1, bias=False)
        self.cv4 = Conv(2 * hidden, c2, 1, 1)
        self.bn = nn.BatchNorm2d(2 * hidden)
        self.act = activation(act)
        self.m = bottlenecks(hidden, n, shortcut, g)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1)
        return self.cv4(self.act(self.bn(joined)))


@BLOCKS.register(arguments={"e": POSITIVE})
class C3(nn.Module):
    """CSP block with three convolutions and n bottlenecks.

    (B, c1, H, W) -> (B, c2, H, W). Subclasses override `inner`, the path between cv1 and cv3.

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        g: groups of the convolution.
        e: inner width as a fraction of c2.

    Source:
        Wang et al., CSPNet, 2020, figure 3, without the convolution behind the bottlenecks; form of YOLOv5.

    Example:
        [-1, 3, C3, [64]]
    """

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(c1, hidden, 1, 1)
        self.cv3 = Conv(2 * hidden, c2, 1)
        self.m = self.inner(hidden, n, shortcut, g)

    def inner(self, hidden: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return bottlenecks(hidden, n, shortcut, g)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


@BLOCKS.register(arguments={"e": POSITIVE})
class C3x(C3):
    """C3 block of factorized convolutions (CrossConv).

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of CrossConvs (the row's number).
        shortcut: add the input of each bottleneck to its output.
        g: groups of the convolution.
        e: inner width as a fraction of c2.

    Source:
        Wang et al., CSPNet, 2020, with CrossConv in place of the bottlenecks; form of YOLOv5.

    Example:
        [-1, 1, C3x, [64]]
    """

    def inner(self, hidden: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Sequential(*(CrossConv(hidden, hidden, 3, 1, g, 1.0, shortcut) for _ in range(n)))


@BLOCKS.register(arguments={"e": POSITIVE})
class C3TR(C3):
    """C3 block around a transformer encoder with four heads.

    (B, c1, H, W) -> (B, c2, H, W). Memory grows with the square of H x W.

    Args:
        c1: input channels.
        c2: output channels.
        n: number of transformer layers (the row's number).
        shortcut: accepted as in C3, without effect.
        g: accepted as in C3, without effect.
        e: inner width as a fraction of c2.

    Source:
        Vaswani et al., Attention Is All You Need, 2017, section 3.1, without layer norm; form of YOLOv5.

    Example:
        [-1, 1, C3TR, [64]]
    """

    def inner(self, hidden: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return TransformerBlock(hidden, hidden, 4, n)


@BLOCKS.register(rule="stack", arguments={"e": POSITIVE})
class C3SPP(C3):
    """C3 block around spatial pyramid pooling.

    (B, c1, H, W) -> (B, c2, H, W). The row's number stacks whole blocks.

    Args:
        c1: input channels.
        c2: output channels.
        k: list of odd pooling kernel sizes.
        n: accepted as in C3, without effect.
        shortcut: accepted as in C3, without effect.
        g: accepted as in C3, without effect.
        e: inner width as a fraction of c2.

    Source:
        He et al., Spatial Pyramid Pooling, 2014, inside a CSP block (Wang et al., CSPNet, 2020); form of YOLOv5.

    Example:
        [-1, 1, C3SPP, [64, [5, 9, 13]]]
    """

    def __init__(self, c1, c2, k=(5, 9, 13), n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, n, shortcut, g, e)
        hidden = int(c2 * e)
        self.m = SPP(hidden, hidden, k)

    def inner(self, hidden: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Identity()  # replaced by the constructor, which knows the kernels


@BLOCKS.register(arguments={"e": POSITIVE})
class C3Ghost(C3):
    """C3 block of Ghost bottlenecks.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of Ghost bottlenecks (the row's number).
        shortcut: accepted as in C3, without effect.
        g: accepted as in C3, without effect.
        e: inner width as a fraction of c2.

    Source:
        Han et al., GhostNet, 2020, section 3.2, inside a CSP block; form of YOLOv5.

    Example:
        [-1, 1, C3Ghost, [64]]
    """

    def inner(self, hidden: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Sequential(*(GhostBottleneck(hidden, hidden) for _ in range(n)))
