"""CSP blocks that split the channels of one input convolution: C2, C2f and the blocks of YOLO11 made from them."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.constructor_checks import check_odd_kernels
from graftdet.models.blocks.conv import Conv
from graftdet.models.blocks.csp import C3, Bottleneck


class _SameKernelBottleneck(Bottleneck):
    """A bottleneck with the same kernel size in both convolutions."""

    def __init__(self, c1, c2, shortcut=True, g=1, e=1.0, k=3):
        super().__init__(c1, c2, shortcut, g, e)
        hidden = int(c2 * e)
        self.cv1, self.cv2 = Conv(c1, hidden, k, 1), Conv(hidden, c2, k, 1, g=g)


@BLOCKS.register(arguments={"e": POSITIVE})
class C2(nn.Module):
    """CSP block with one input convolution; its first half passes through n bottlenecks.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        g: groups of the convolution.
        e: inner width as a fraction of c2.

    Source:
        Wang et al., CSPNet, 2020, figure 3; names and 3x3 kernels of YOLOv8.

    Example:
        [-1, 1, C2, [64]]
    """

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, 2 * hidden, 1, 1)
        self.cv2 = Conv(2 * hidden, c2, 1)
        self.m = nn.Sequential(*(_SameKernelBottleneck(hidden, hidden, shortcut, g) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        inner, passed = self.cv1(x).chunk(2, 1)
        return self.cv2(torch.cat((self.m(inner), passed), 1))


@BLOCKS.register(arguments={"e": POSITIVE})
class C2f(nn.Module):
    """CSP block that concatenates the output of each of its n bottlenecks.

    (B, c1, H, W) -> (B, c2, H, W). Subclasses override `inner`, which makes one bottleneck.

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        g: groups of the convolution.
        e: inner width as a fraction of c2.

    Source:
        Wang et al., Designing Network Design Strategies Through Gradient Path Analysis (ELAN), 2022, with bottlenecks
        in place of stacked convolutions; names, 3x3 kernels and defaults of YOLOv8.

    Example:
        [-1, 3, C2f, [64, True]]
    """

    def __init__(self, c1, c2, n=1, shortcut=False, g=1, e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, 2 * hidden, 1, 1)
        self.cv2 = Conv((2 + n) * hidden, c2, 1)
        self.m = nn.ModuleList(self.inner(hidden, shortcut, g) for _ in range(n))

    def inner(self, hidden: int, shortcut: bool, g: int) -> nn.Module:
        return _SameKernelBottleneck(hidden, hidden, shortcut, g)

    def forward(self, x: Tensor) -> Tensor:
        maps = list(self.cv1(x).chunk(2, 1))
        for m in self.m:
            maps.append(m(maps[-1]))
        return self.cv2(torch.cat(maps, 1))


@BLOCKS.register(arguments={"e": POSITIVE})
class C3k(C3):
    """C3 block whose bottlenecks have k x k kernels in both convolutions.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottlenecks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        g: groups of the convolution.
        e: inner width as a fraction of c2.
        k: odd kernel size of both convolutions of a bottleneck.

    Source:
        Khanam and Hussain, YOLOv11: An Overview, 2024, section 4.

    Example:
        [-1, 2, C3k, [64]]
    """

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5, k=3):
        check_odd_kernels(k)
        self._kernel = k
        super().__init__(c1, c2, n, shortcut, g, e)

    def inner(self, hidden: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Sequential(*(_SameKernelBottleneck(hidden, hidden, shortcut, g, k=self._kernel) for _ in range(n)))


@BLOCKS.register(defaults_by_scale={"mlx": {"c3k": True}}, arguments={"e": POSITIVE})
class C3k2(C2f):
    """C2f with narrower bottlenecks or, with c3k, a C3k block of two bottlenecks in place of each.

    (B, c1, H, W) -> (B, c2, H, W). Scales m, l and x of a file with `scales` use c3k in every row, as the published
    sizes do, unless a row says {c3k: False}.

    Args:
        c1: input channels.
        c2: output channels.
        n: number of inner blocks (the row's number).
        c3k: C3k blocks instead of bottlenecks.
        e: inner width as a fraction of c2.
        g: groups of the convolution.
        shortcut: add the input of each bottleneck to its output.

    Source:
        Khanam and Hussain, YOLOv11: An Overview, 2024, section 4.

    Example:
        [-1, 2, C3k2, [64, False, 0.25]]
    """

    def __init__(self, c1, c2, n=1, c3k=False, e=0.5, g=1, shortcut=True):
        self._c3k = c3k
        super().__init__(c1, c2, n, shortcut, g, e)

    def inner(self, hidden: int, shortcut: bool, g: int) -> nn.Module:
        return (
            C3k(hidden, hidden, 2, shortcut, g)
            if self._c3k
            else _SameKernelBottleneck(hidden, hidden, shortcut, g, e=0.5)
        )
