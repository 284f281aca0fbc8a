"""C3 blocks with channel or coordinate attention in each bottleneck."""

from collections.abc import Callable

from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.channel_attention import CBAM, ECA, SE, CoordAtt
from graftdet.models.blocks.csp import C3, Bottleneck


class _AttentionBottleneck(Bottleneck):
    """A bottleneck with attention behind its second convolution, before the shortcut."""

    def __init__(self, c1, c2, attention, shortcut=True, g=1):
        super().__init__(c1, c2, shortcut, g, e=1.0)
        self.attention = attention(c2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(self.cv2(self.cv1(x)))
        return x + y if self.add else y


class _AttentionC3(C3):
    """C3 with `attention` in each bottleneck, at the position of Hu et al.: (B, c1, H, W) -> (B, c2, H, W)."""

    attention: Callable[[int], nn.Module]  # of a width

    def inner(self, hidden: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Sequential(*(_AttentionBottleneck(hidden, hidden, self.attention, shortcut, g) for _ in range(n)))


@BLOCKS.register(arguments={"e": POSITIVE})
class C3SE(_AttentionC3):
    """C3 block with squeeze and excitation (SE) in each bottleneck, before the shortcut.

    (B, c1, H, W) -> (B, c2, H, W). The reduction is 16, or the width where that is less.

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        g: groups of the convolution.
        e: inner width as a fraction of c2.

    Source:
        Hu et al., Squeeze-and-Excitation Networks, 2018, figure 3 (position), in the C3 layout of YOLOv5.

    Example:
        [-1, 1, C3SE, [64]]
    """

    @staticmethod
    def attention(c: int) -> nn.Module:
        return SE(c, r=min(16, c))


@BLOCKS.register(arguments={"e": POSITIVE})
class C3CBAM(_AttentionC3):
    """C3 block with CBAM in each bottleneck, before the shortcut.

    (B, c1, H, W) -> (B, c2, H, W). The reduction is 16, or the width where that is less.

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        g: groups of the convolution.
        e: inner width as a fraction of c2.

    Source:
        Woo et al., CBAM, 2018, figure 3 (position), in the C3 layout of YOLOv5.

    Example:
        [-1, 1, C3CBAM, [64]]
    """

    @staticmethod
    def attention(c: int) -> nn.Module:
        return CBAM(c, ratio=min(16, c))


@BLOCKS.register(arguments={"e": POSITIVE})
class C3ECA(_AttentionC3):
    """C3 block with ECA in each bottleneck, before the shortcut.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        g: groups of the convolution.
        e: inner width as a fraction of c2.

    Source:
        Wang et al., ECA-Net, 2020, in the C3 layout of YOLOv5.

    Example:
        [-1, 1, C3ECA, [64]]
    """

    attention = ECA


@BLOCKS.register(arguments={"e": POSITIVE})
class C3CA(_AttentionC3):
    """C3 block with coordinate attention (CoordAtt) in each bottleneck, before the shortcut.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        g: groups of the convolution.
        e: inner width as a fraction of c2.

    Source:
        Hou et al., Coordinate Attention, 2021, in the C3 layout of YOLOv5.

    Example:
        [-1, 1, C3CA, [64]]
    """

    attention = CoordAtt
