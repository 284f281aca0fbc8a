"""The convolution of the small YOLOX models."""

from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.conv import Conv


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
