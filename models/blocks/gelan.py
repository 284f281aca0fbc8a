"""GELAN (Wang, Yeh and Liao, YOLOv9: Learning What You Want to Learn Using Programmable Gradient Information, 2024)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE_INT
from graftdet.models.blocks.constructor_checks import check_odd_kernels
from graftdet.models.blocks.conv import Conv
from graftdet.models.blocks.csp import C3, Bottleneck
from graftdet.models.blocks.pool import pool_three_times
from graftdet.models.blocks.repvgg import TwoKernels


class _RepBottleneck(Bottleneck):
    """Bottleneck whose first convolution is a 3x3 and a 1x1 branch, added."""

    def __init__(self, c, shortcut):
        super().__init__(c, c, shortcut, e=1.0)
        self.cv1 = TwoKernels(c, c)


class _RepCSP(C3):
    """C3 of such bottlenecks."""

    def inner(self, hidden: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Sequential(*(_RepBottleneck(hidden, shortcut) for _ in range(n)))


@BLOCKS.register(arguments={"c3": POSITIVE_INT, "c4": POSITIVE_INT})
class ELAN1(nn.Module):
    """GELAN block: a 1x1 convolution, two 3x3 convolutions behind its second half, all outputs concatenated.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        c3: width of the first convolution, even; the width multiple does not apply.
        c4: width of the 3x3 convolutions; the width multiple does not apply.

    Source:
        Wang et al., YOLOv9, 2024, section 4.2 (GELAN); names of its published model files.

    Example:
        [-1, 1, ELAN1, [64, 64, 32]]
    """

    def __init__(self, c1, c2, c3, c4):
        super().__init__()
        if not isinstance(c3, int) or c3 % 2:
            raise ValueError(f"c3 is halved: expected an even number, got {c3}")
        self.cv1 = Conv(c1, c3, 1, 1)
        self.cv2 = self.inner(c3 // 2, c4)
        self.cv3 = self.inner(c4, c4)
        self.cv4 = Conv(c3 + 2 * c4, c2, 1, 1)

    def inner(self, c1: int, c2: int) -> nn.Module:
        return Conv(c1, c2, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = list(self.cv1(x).chunk(2, 1))
        maps.append(self.cv2(maps[-1]))
        maps.append(self.cv3(maps[-1]))
        return self.cv4(torch.cat(maps, 1))


@BLOCKS.register(rule="stack", arguments={"c3": POSITIVE_INT, "c4": POSITIVE_INT})
class RepNCSPELAN4(ELAN1):
    """GELAN block with a CSP block of re-parameterized bottlenecks before each 3x3 convolution.

    (B, c1, H, W) -> (B, c2, H, W). The row's number stacks whole blocks.

    Args:
        c1: input channels.
        c2: output channels.
        c3: width of the first convolution, even; the width multiple does not apply.
        c4: width of the inner blocks; the width multiple does not apply.
        n: number of bottlenecks per CSP block, given in the row.

    Source:
        Wang et al., YOLOv9, 2024, section 4.2 (GELAN), figure 4.

    Example:
        [-1, 1, RepNCSPELAN4, [64, 64, 32, 1]]
    """

    def __init__(self, c1, c2, c3, c4, n=1):
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"n must be a whole number of at least 1, got {n!r}")
        if c4 < 2:
            raise ValueError(f"c4 is halved: expected at least 2, got {c4}")
        self._number = n
        super().__init__(c1, c2, c3, c4)

    def inner(self, c1: int, c2: int) -> nn.Module:
        return nn.Sequential(_RepCSP(c1, c2, self._number), Conv(c2, c2, 3, 1))


@BLOCKS.register()
class AConv(nn.Module):
    """2x2 average pool of stride 1, then a 3x3 convolution of stride 2.

    (B, c1, H, W) -> (B, c2, H/2, W/2).

    Args:
        c1: input channels.
        c2: output channels.

    Source:
        Wang et al., YOLOv9, 2024 (its published model files).

    Example:
        [-1, 1, AConv, [64]]
    """

    def __init__(self, c1, c2):
        super().__init__()
        self.cv1 = Conv(c1, c2, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv1(F.avg_pool2d(x, 2, 1))


@BLOCKS.register()
class ADown(nn.Module):
    """2x2 average pool; half of the channels by a strided 3x3 convolution, half by max pool and 1x1 convolution.

    (B, c1, H, W) -> (B, c2, H/2, W/2). Both widths must be even.

    Args:
        c1: input channels.
        c2: output channels.

    Source:
        Wang et al., YOLOv9, 2024 (its published model files).

    Example:
        [-1, 1, ADown, [64]]
    """

    def __init__(self, c1, c2):
        super().__init__()
        if c1 % 2 or c2 % 2:
            raise ValueError(f"halves its channels: expected even widths, got {c1} and {c2}")
        self.cv1 = Conv(c1 // 2, c2 // 2, 3, 2)
        self.cv2 = Conv(c1 // 2, c2 // 2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = F.avg_pool2d(x, 2, 1).chunk(2, 1)
        return torch.cat((self.cv1(first), self.cv2(F.max_pool2d(second, 3, 2, 1))), 1)


@BLOCKS.register(arguments={"c3": POSITIVE_INT})
class SPPELAN(nn.Module):
    """SPPF whose inner width is an argument.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        c3: inner width; the width multiple does not apply.
        k: odd pooling kernel size.

    Source:
        Wang et al., YOLOv9, 2024 (its published model files).

    Example:
        [-1, 1, SPPELAN, [64, 32]]
    """

    def __init__(self, c1, c2, c3, k=5):
        super().__init__()
        check_odd_kernels(k)
        self.cv1 = Conv(c1, c3, 1, 1)
        self.cv5 = Conv(4 * c3, c2, 1, 1)
        self.m = nn.MaxPool2d(k, 1, k // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv5(pool_three_times(self.cv1(x), self.m))
