"""Spatial pyramid pooling (He et al., 2014)."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import activation
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.constructor_checks import check_kernel_list, check_odd_kernels, check_square_kernel
from graftdet.models.blocks.conv import Conv


@BLOCKS.register()
class SPP(nn.Module):
    """Max pools of several kernel sizes side by side between two 1x1 convolutions.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        k: list of odd pooling kernel sizes.

    Source:
        He et al., Spatial Pyramid Pooling, 2014, with pools of stride 1 as in YOLOv3-SPP; form of YOLOv5.

    Example:
        [-1, 1, SPP, [64, [5, 9, 13]]]
    """

    def __init__(self, c1, c2, k=(5, 9, 13)):
        super().__init__()
        check_kernel_list(k)
        hidden = c1 // 2
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(hidden * (len(k) + 1), c2, 1, 1)
        self.m = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in k)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.cv2(torch.cat([x, *(m(x) for m in self.m)], 1))


@BLOCKS.register()
class MP(nn.MaxPool2d):
    """Max pool with non-overlapping windows.

    (B, c, H, W) -> (B, c, H/k, W/k).

    Args:
        k: window size and stride.

    Source:
        Wang et al., YOLOv7, 2022 (name in its published model files).

    Example:
        [-1, 1, MP, []]
    """

    def __init__(self, k=2):
        check_square_kernel(k)
        super().__init__(k, k)


@BLOCKS.register()
class SP(nn.MaxPool2d):
    """Max pool that keeps the size at stride 1.

    (B, c, H, W) -> (B, c, H/s, W/s).

    Args:
        k: odd window size.
        s: stride.

    Source:
        Wang et al., YOLOv7, 2022 (name in its published model files).

    Example:
        [-1, 1, SP, [5]]
    """

    def __init__(self, k=3, s=1):
        check_odd_kernels(k)
        super().__init__(k, s, k // 2)


def pool_three_times(x: Tensor, pool: nn.Module) -> Tensor:
    """Concatenate `x` with the outputs of `pool` applied once, twice and three times: (B, c, H, W) -> (B, 4c, H, W)."""
    maps = [x]
    for _ in range(3):
        maps.append(pool(maps[-1]))
    return torch.cat(maps, 1)


@BLOCKS.register()
class SPPF(nn.Module):
    """Spatial pyramid pooling by one max pool applied three times: the maps of SPP with kernels k, 2k - 1, 3k - 2.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        k: odd pooling kernel size.

    Source:
        He et al., Spatial Pyramid Pooling, 2014; form of YOLOv5 version 6.

    Example:
        [-1, 1, SPPF, [64, 5]]
    """

    def __init__(self, c1, c2, k=5):
        super().__init__()
        check_odd_kernels(k)
        hidden = c1 // 2
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(hidden * 4, c2, 1, 1)
        self.m = nn.MaxPool2d(k, 1, k // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv2(pool_three_times(self.cv1(x), self.m))


@BLOCKS.register()
class SimSPPF(SPPF):
    """SPPF with ReLU in its convolutions.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        k: odd pooling kernel size.

    Source:
        Li et al., YOLOv6, 2022, section 2.1.

    Example:
        [-1, 1, SimSPPF, [64, 5]]
    """

    def __init__(self, c1, c2, k=5):
        super().__init__(c1, c2, k)
        self.cv1.act, self.cv2.act = activation("nn.ReLU(inplace=True)"), activation("nn.ReLU(inplace=True)")


@BLOCKS.register(rule="stack", arguments={"e": POSITIVE})
class SPPCSPC(nn.Module):
    """Spatial pyramid pooling in one of the two paths of a CSP block.

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
        Wang et al., YOLOv7, 2022 (its published model files); CSP as in Wang et al., Scaled-YOLOv4, 2021, section 3.

    Example:
        [-1, 1, SPPCSPC, [64]]
    """

    def __init__(self, c1, c2, n=1, shortcut=False, g=1, e=0.5, k=(5, 9, 13)):
        super().__init__()
        check_kernel_list(k)
        hidden = int(2 * c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(c1, hidden, 1, 1)
        self.cv3 = Conv(hidden, hidden, 3, 1)
        self.cv4 = Conv(hidden, hidden, 1, 1)
        self.m = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in k)
        self.cv5 = Conv((len(k) + 1) * hidden, hidden, 1, 1)
        self.cv6 = Conv(hidden, hidden, 3, 1)
        self.cv7 = Conv(2 * hidden, c2, 1, 1)

    def both_paths(self, x: Tensor) -> Tensor:
        y = self.cv4(self.cv3(self.cv1(x)))
        y = self.cv6(self.cv5(torch.cat([y, *(m(y) for m in self.m)], 1)))
        return torch.cat((y, self.cv2(x)), 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv7(self.both_paths(x))


@BLOCKS.register(rule="stack", arguments={"e": POSITIVE})
class SPPFCSPC(SPPCSPC):
    """SPPCSPC by one max pool applied three times, as in SPPF.

    (B, c1, H, W) -> (B, c2, H, W). The row's number stacks whole blocks.

    Args:
        c1: input channels.
        c2: output channels.
        n: accepted as in other CSP blocks, without effect.
        shortcut: accepted as in other CSP blocks, without effect.
        g: accepted as in other CSP blocks, without effect.
        e: inner width as a fraction of 2 c2.
        k: odd pooling kernel size.

    Source:
        Wang et al., YOLOv7, 2022 (SPPCSPC); pooling in sequence as in SPPF of YOLOv5. With k = 5 it computes what
        SPPCSPC computes.

    Example:
        [-1, 1, SPPFCSPC, [64]]
    """

    def __init__(self, c1, c2, n=1, shortcut=False, g=1, e=0.5, k=5):
        check_odd_kernels(k)
        super().__init__(c1, c2, n, shortcut, g, e)
        self.m = nn.MaxPool2d(k, 1, k // 2)

    def both_paths(self, x: Tensor) -> Tensor:
        y = self.cv4(self.cv3(self.cv1(x)))
        return torch.cat((self.cv6(self.cv5(pool_three_times(y, self.m))), self.cv2(x)), 1)
