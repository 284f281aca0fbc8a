"""CSP blocks of Scaled-YOLOv4 and YOLOR (Wang et al., Scaled-YOLOv4, 2021), also found in model files of YOLOv7."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import activation
from graftdet.models.blocks.argument_ranges import POSITIVE, POSITIVE_INT
from graftdet.models.blocks.conv import Conv
from graftdet.models.blocks.csp import C3, bottlenecks
from graftdet.models.blocks.pool import SPPCSPC


@BLOCKS.register(arguments={"e": POSITIVE})
class BottleneckCSPA(C3):
    """CSP block with three convolutions and n bottlenecks: C3 under its name in YOLOR and YOLOv7.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        g: groups of the 3x3 convolutions.
        e: inner width as a fraction of c2.

    Source:
        Wang et al., CSPNet, 2020, figure 3; name of the published model files of YOLOR and YOLOv7.

    Example:
        [-1, 3, BottleneckCSPA, [64]]
    """


@BLOCKS.register()
class BottleneckCSPB(nn.Module):
    """Reversed CSP block: both paths start from the same 1x1 convolution, n bottlenecks without shortcut in one.

    (B, c1, H, W) -> (B, c2, H, W). All convolutions inside have c2 channels.

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        g: groups of the 3x3 convolutions.
        e: accepted as in other CSP blocks, without effect.

    Source:
        Wang et al., Scaled-YOLOv4, 2021, section 3.2 (rCSP), figure 2; name of the model files of YOLOR and YOLOv7.

    Example:
        [-1, 3, BottleneckCSPB, [64]]
    """

    def __init__(self, c1, c2, n=1, shortcut=False, g=1, e=0.5):
        super().__init__()
        self.cv1 = Conv(c1, c2, 1)
        self.cv2 = Conv(c2, c2, 1)
        self.cv3 = Conv(2 * c2, c2, 1)
        self.m = bottlenecks(c2, n, shortcut, g)

    def both_paths(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return torch.cat((self.m(x), self.cv2(x)), 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(self.both_paths(x))


@BLOCKS.register()
class BottleneckCSP2(BottleneckCSPB):
    """BottleneckCSPB with the batch norm of its second path behind the concatenation.

    (B, c1, H, W) -> (B, c2, H, W). All convolutions inside have c2 channels.

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        g: groups of the 3x3 convolutions.
        e: accepted as in other CSP blocks, without effect.

    Source:
        Wang et al., Scaled-YOLOv4, 2021, section 3.2 (rCSP), figure 2.

    Example:
        [-1, 3, BottleneckCSP2, [64]]
    """

    def __init__(self, c1, c2, n=1, shortcut=False, g=1, e=0.5):
        super().__init__(c1, c2, n, shortcut, g)
        self.cv2 = nn.Conv2d(c2, c2, 1, bias=False)
        self.bn = nn.BatchNorm2d(2 * c2)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(self.act(self.bn(self.both_paths(x))))


@BLOCKS.register(arguments={"e": POSITIVE})
class BottleneckCSPC(nn.Module):
    """CSP block with a convolution behind the bottlenecks, a batch norm behind each convolution.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        g: groups of the 3x3 convolutions.
        e: inner width as a fraction of c2.

    Source:
        Wang et al., CSPNet, 2020, figure 3; name of the published model files of YOLOR and YOLOv7.

    Example:
        [-1, 3, BottleneckCSPC, [64]]
    """

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1)
        self.cv2 = Conv(c1, hidden, 1)
        self.cv3 = Conv(hidden, hidden, 1)
        self.cv4 = Conv(2 * hidden, c2, 1)
        self.m = bottlenecks(hidden, n, shortcut, g)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv4(torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1))


@BLOCKS.register(rule="stack", arguments={"e": POSITIVE})
class SPPCSP(SPPCSPC):
    """SPPCSPC with the batch norm of its second path behind the concatenation.

    (B, c1, H, W) -> (B, c2, H, W). The row's number stacks whole blocks.

    Args:
        c1: input channels.
        c2: output channels.
        n: accepted as in other CSP blocks, without effect.
        shortcut: accepted as in other CSP blocks, without effect.
        g: accepted as in other CSP blocks, without effect.
        e: inner width as a fraction of 2 c2.
        k: list of odd pooling kernel sizes.

    Source:
        Wang et al., Scaled-YOLOv4, 2021, section 3.2 (CSP-ized SPP), figure 2; names of its published model files.

    Example:
        [-1, 1, SPPCSP, [64]]
    """

    def __init__(self, c1, c2, n=1, shortcut=False, g=1, e=0.5, k=(5, 9, 13)):
        super().__init__(c1, c2, n, shortcut, g, e, k)
        hidden = int(2 * c2 * e)
        self.cv2 = nn.Conv2d(c1, hidden, 1, bias=False)
        self.bn = nn.BatchNorm2d(2 * hidden)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.cv7(self.act(self.bn(self.both_paths(x))))


@BLOCKS.register(rule="stack", arguments={"k": POSITIVE_INT})
class DownC(nn.Module):
    """Downsampling in two paths: 1x1 and strided 3x3 convolution beside max pool and 1x1 convolution, concatenated.

    (B, c1, H, W) -> (B, c2, H/k, W/k), rounded up; c2 must be even.

    Args:
        c1: input channels.
        c2: output channels.
        n: accepted as in other blocks, without effect.
        k: stride, and window of the max pool.

    Source:
        Wang et al., YOLOv7, 2022 (its published model files of the sizes D6, E6 and E6E).

    Example:
        [-1, 1, DownC, [64]]
    """

    def __init__(self, c1, c2, n=1, k=2):
        super().__init__()
        if c2 % 2:
            raise ValueError(f"concatenates two halves: expected an even width, got {c2}")
        self.cv1 = Conv(c1, c1, 1)
        self.cv2 = Conv(c1, c2 // 2, 3, k)
        self.cv3 = Conv(c1, c2 // 2, 1)
        self.mp = nn.MaxPool2d(k, k, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.cv2(self.cv1(x)), self.cv3(self.mp(x))), 1)
