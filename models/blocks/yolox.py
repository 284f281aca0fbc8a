"""The blocks of YOLOX-Nano, whose 3x3 convolutions are depthwise separable."""

from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.conv import Conv
from graftdet.models.blocks.csp import C3, Bottleneck


@BLOCKS.register()
class YOLOXDepthwiseConv(nn.Module):
    """Depthwise, then pointwise convolution, each with batch norm and activation.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size of the depthwise convolution.
        s: its stride.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Howard et al., MobileNets, 2017, section 3.1; weight names of YOLOX-Nano (Ge et al., YOLOX, 2021).

    Example:
        [-1, 1, YOLOXDepthwiseConv, [64, 3, 2]]
    """

    def __init__(self, c1, c2, k=3, s=1, act=True):
        super().__init__()
        self.dconv = Conv(c1, c1, k, s, g=c1, act=act)
        self.pconv = Conv(c1, c2, 1, act=act)

    def forward(self, x: Tensor) -> Tensor:
        return self.pconv(self.dconv(x))


class _DepthwiseBottleneck(Bottleneck):
    def __init__(self, c1, c2, shortcut=True):
        super().__init__(c1, c2, shortcut, e=1.0)
        self.cv2 = YOLOXDepthwiseConv(c2, c2, 3)


@BLOCKS.register(arguments={"e": POSITIVE})
class YOLOXDepthwiseC3(C3):
    """C3 whose bottlenecks have a depthwise separable instead of a 3x3 convolution.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        e: inner width as a fraction of c2.

    Source:
        Ge et al., YOLOX, 2021, section 3 (YOLOX-Nano).

    Example:
        [-1, 3, YOLOXDepthwiseC3, [64]]
    """

    def __init__(self, c1, c2, n=1, shortcut=True, e=0.5):
        super().__init__(c1, c2, n, shortcut, e=e)

    def inner(self, hidden: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Sequential(*(_DepthwiseBottleneck(hidden, hidden, shortcut) for _ in range(n)))
