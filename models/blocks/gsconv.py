"""Blocks of the slim neck (Li et al., Slim-neck by GSConv, 2022)."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.conv import Conv, DWConv


@BLOCKS.register()
class GSConv(nn.Module):
    """Half of the channels by Conv, the others from them by a depthwise 5x5 Conv, then shuffled.

    (B, c1, H, W) -> (B, c2, H/s, W/s); c2 must be even. The even channels come first, then the odd ones.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size of the first convolution.
        s: stride.
        g: groups of the first convolution.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Li et al., Slim-neck by GSConv, 2022, figure 3.

    Example:
        [-1, 1, GSConv, [64, 3, 2]]
    """

    def __init__(self, c1, c2, k=1, s=1, g=1, act=True):
        super().__init__()
        if c2 % 2:
            raise ValueError(f"needs an even width out, got {c2}")
        hidden = c2 // 2
        self.cv1 = Conv(c1, hidden, k, s, None, g, act=act)
        self.cv2 = Conv(hidden, hidden, 5, 1, None, hidden, act=act)

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        y = torch.cat((y, self.cv2(y)), 1)
        return torch.cat((y[:, 0::2], y[:, 1::2]), 1)


class GSBottleneck(nn.Module):
    """Two GSConvs beside a 1x1 Conv without activation, added (figure 4 a): (B, c1, H, W) -> (B, c2, H, W)."""

    def __init__(self, c1, c2, e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.conv_lighting = nn.Sequential(GSConv(c1, hidden, 1, 1), GSConv(hidden, c2, 3, 1, act=False))
        self.shortcut = Conv(c1, c2, 1, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_lighting(x) + self.shortcut(x)


@BLOCKS.register(arguments={"e": POSITIVE})
class VoVGSCSP(nn.Module):
    """CSP block of n GS bottlenecks.

    (B, c1, H, W) -> (B, c2, H, W). The unused convolution `res` of the published weights is not built.

    Args:
        c1: input channels.
        c2: output channels.
        n: number of GS bottlenecks (the row's number).
        shortcut: accepted as in C3, without effect.
        g: accepted as in C3, without effect.
        e: inner width as a fraction of c2.

    Source:
        Li et al., Slim-neck by GSConv, 2022, figure 4 b.

    Example:
        [-1, 1, VoVGSCSP, [64]]
    """

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(c1, hidden, 1, 1)
        self.gsb = nn.Sequential(*(GSBottleneck(hidden, hidden, e=1.0) for _ in range(n)))
        self.cv3 = Conv(2 * hidden, c2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.cv2(x), self.gsb(self.cv1(x))), 1))


@BLOCKS.register(arguments={"e": POSITIVE})
class VoVGSCSPC(VoVGSCSP):
    """VoVGSCSP of one cheap GS bottleneck, whose shortcut is a depthwise convolution.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: accepted as in VoVGSCSP, without effect.
        shortcut: accepted as in C3, without effect.
        g: accepted as in C3, without effect.
        e: inner width as a fraction of c2.

    Source:
        Li et al., Slim-neck by GSConv, 2022, figure 4; name of its published model files. The unused convolution `res`
        is not built.

    Example:
        [-1, 1, VoVGSCSPC, [64]]
    """

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, 1, shortcut, g, e)
        hidden = int(c2 * e)
        self.gsb = GSBottleneck(hidden, hidden)
        self.gsb.shortcut = DWConv(hidden, hidden, act=False)
