"""Blocks of YOLOv5-face (Qi et al., YOLO5Face: Why Reinventing a Face Detector, 2021)."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.blaze import BlazeBlock
from graftdet.models.blocks.conv import Conv
from graftdet.models.blocks.shufflenet_v2 import ShuffleNetV2Unit


@BLOCKS.register()
class StemBlock(nn.Module):
    """Stem of two downsampling steps: a strided convolution, then a convolution path and a max pool side by side.

    (B, c1, H, W) -> (B, c2, H/2s, W/2s); c2 must be even.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size of the first convolution.
        s: stride of the first convolution.
        p: padding of the first convolution; None keeps the size at stride 1.
        g: groups of the first convolution.
        act: activation of the first convolution: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Qi et al., YOLO5Face, 2021, section 3.2, figure 1; Wang et al., Pelee, 2018, section 2.1.

    Example:
        [-1, 1, StemBlock, [64, 3, 2]]
    """

    def __init__(self, c1, c2, k=3, s=2, p=None, g=1, act=True):
        super().__init__()
        if c2 % 2:
            raise ValueError(f"halves its width: expected an even number, got {c2}")
        self.stem_1 = Conv(c1, c2, k, s, p, g, act=act)
        self.stem_2a = Conv(c2, c2 // 2, 1)
        self.stem_2b = Conv(c2 // 2, c2, 3, 2)
        self.stem_2p = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.stem_3 = Conv(2 * c2, c2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_1(x)
        return self.stem_3(torch.cat((self.stem_2b(self.stem_2a(x)), self.stem_2p(x)), 1))


@BLOCKS.register()
class ShuffleV2Block(ShuffleNetV2Unit):
    """Unit of ShuffleNet v2 with SiLU in place of ReLU.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels, even.
        s: stride, 1 or 2.

    Source:
        Ma et al., ShuffleNet V2, 2018, section 3.2, figure 3 c and d; name and activation of YOLOv5-face.

    Example:
        [-1, 1, ShuffleV2Block, [64, 2]]
    """

    def __init__(self, c1, c2, s=1):
        super().__init__(c1, c2, s)
        for branch in (self.branch1, self.branch2):
            for position, layer in enumerate(branch):
                if isinstance(layer, nn.ReLU):
                    branch[position] = nn.SiLU(inplace=True)


@BLOCKS.register()
class DoubleBlazeBlock(BlazeBlock):
    """Double BlazeBlock: depthwise 5x5 and 1x1 convolution twice, with a shortcut.

    (B, c1, H, W) -> (B, c2, H/s, W/s). BlazeBlock with other arguments: the output width comes first.

    Args:
        c1: input channels.
        c2: output channels.
        mid: width between both pairs; the width multiple does not apply. None: c1.
        s: stride, 1 or 2.

    Source:
        Bazarevsky et al., BlazeFace, 2019, section 3.2, figure 1, right; arguments of YOLOv5-face. Where the shape
        changes the shortcut is max pool, 1x1 convolution, batch norm and ReLU.

    Example:
        [-1, 1, DoubleBlazeBlock, [96, 24, 2]]
    """

    def __init__(self, c1, c2, mid=None, s=1):
        super().__init__(c1, mid or c1, c2, s, project=True)
