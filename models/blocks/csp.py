"""Cross stage partial blocks (Wang et al., CSPNet, 2020) in the forms published with YOLOv5."""

import torch
from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import activation
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.conv import Conv, CrossConv, odd_kernels
from graftdet.models.blocks.ghostnet import GhostBottleneck
from graftdet.models.blocks.pool import SPP
from graftdet.models.blocks.transformer import TransformerBlock
from torch import nn


@BLOCKS.register(arguments={"e": POSITIVE})
class Bottleneck(nn.Module):
    """1x1 then 3x3 Conv with a shortcut where the widths agree (He et al., 2016): (B, c1, H, W) -> (B, c2, H, W)."""

    def __init__(self, c1, c2, shortcut=True, g=1, e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(hidden, c2, 3, 1, g=g)
        self.add = shortcut and c1 == c2

    def forward(self, x):
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


# YOLOv5-Lite has a LeakyReLU here, and its PicoDet files say so nowhere: what tells them apart is ES_Bottleneck
@BLOCKS.register(defaults_with_module={"ES_Bottleneck": {"act": "nn.LeakyReLU(0.1)"}}, arguments={"e": POSITIVE})
class BottleneckCSP(nn.Module):
    """CSP block with plain convolutions before the joint batch norm; `n` inner bottlenecks.

    `act` follows that batch norm. It stays as it is whatever the model's activation, as published.
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
        self.m = nn.Sequential(*(Bottleneck(hidden, hidden, shortcut, g, e=1.0) for _ in range(n)))

    def forward(self, x):
        joined = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1)
        return self.cv4(self.act(self.bn(joined)))


@BLOCKS.register(arguments={"e": POSITIVE})
class C3(nn.Module):
    """CSP block with three convolutions and `n` inner bottlenecks: (B, c1, H, W) -> (B, c2, H, W).

    Families of it override `inner`, which makes the path between cv1 and cv3.
    """

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(c1, hidden, 1, 1)
        self.cv3 = Conv(2 * hidden, c2, 1)
        self.m = self.inner(hidden, n, shortcut, g)

    def inner(self, hidden, n, shortcut, g) -> nn.Module:
        return nn.Sequential(*(Bottleneck(hidden, hidden, shortcut, g, e=1.0) for _ in range(n)))

    def forward(self, x):
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


@BLOCKS.register(arguments={"e": POSITIVE})
class C3x(C3):
    """C3 of factorised convolutions (CrossConv)."""

    def inner(self, hidden, n, shortcut, g):
        return nn.Sequential(*(CrossConv(hidden, hidden, 3, 1, g, 1.0, shortcut) for _ in range(n)))


@BLOCKS.register(arguments={"e": POSITIVE})
class C3TR(C3):
    """C3 around a transformer encoder of `n` layers with four heads (Vaswani et al., 2017).

    `shortcut` and `g` change nothing, as published.
    """

    def inner(self, hidden, n, shortcut, g):
        return TransformerBlock(hidden, hidden, 4, n)


@BLOCKS.register(rule="stack", arguments={"e": POSITIVE})
class C3SPP(C3):
    """C3 around spatial pyramid pooling with kernels `k`; a row's number above 1 stacks whole blocks.

    `n`, `shortcut` and `g` change nothing, as published.
    """

    def __init__(self, c1, c2, k=(5, 9, 13), n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, n, shortcut, g, e)
        hidden = int(c2 * e)
        self.m = SPP(hidden, hidden, k)

    def inner(self, hidden, n, shortcut, g):
        return nn.Identity()  # the kernels are known only to the constructor


@BLOCKS.register(arguments={"e": POSITIVE})
class C3Ghost(C3):
    """C3 of Ghost bottlenecks (Han et al., GhostNet, 2020). `shortcut` and `g` change nothing, as published."""

    def inner(self, hidden, n, shortcut, g):
        return nn.Sequential(*(GhostBottleneck(hidden, hidden) for _ in range(n)))


class _Squares(Bottleneck):
    """The bottleneck with kernels of one size in both convolutions."""

    def __init__(self, c1, c2, shortcut=True, g=1, e=1.0, k=3):
        super().__init__(c1, c2, shortcut, g, e)
        hidden = int(c2 * e)
        self.cv1, self.cv2 = Conv(c1, hidden, k, 1), Conv(hidden, c2, k, 1, g=g)


@BLOCKS.register(arguments={"e": POSITIVE})
class C2(nn.Module):
    """One 1x1 convolution whose first half goes through `n` bottlenecks, both joined: (B, c1, H, W) -> (B, c2, H, W).

    CSP (Wang et al., 2020) with names and 3x3 kernels of YOLOv8.
    """

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, 2 * hidden, 1, 1)
        self.cv2 = Conv(2 * hidden, c2, 1)
        self.m = nn.Sequential(*(_Squares(hidden, hidden, shortcut, g) for _ in range(n)))

    def forward(self, x):
        inner, kept = self.cv1(x).chunk(2, 1)
        return self.cv2(torch.cat((self.m(inner), kept), 1))


@BLOCKS.register(arguments={"e": POSITIVE})
class C2f(nn.Module):
    """CSP block that joins what each of its `n` bottlenecks gives, as ELAN does: (B, c1, H, W) -> (B, c2, H, W).

    Wang et al., Designing Network Design Strategies Through Gradient Path Analysis, 2022, have stacks of convolutions
    in place of the bottlenecks. Names, 3x3 kernels and no shortcut by default are those of YOLOv8. Families of it override
    `inner`, which makes one bottleneck.
    """

    def __init__(self, c1, c2, n=1, shortcut=False, g=1, e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, 2 * hidden, 1, 1)
        self.cv2 = Conv((2 + n) * hidden, c2, 1)
        self.m = nn.ModuleList(self.inner(hidden, shortcut, g) for _ in range(n))

    def inner(self, hidden, shortcut, g) -> nn.Module:
        return _Squares(hidden, hidden, shortcut, g)

    def forward(self, x):
        maps = list(self.cv1(x).chunk(2, 1))
        for m in self.m:
            maps.append(m(maps[-1]))
        return self.cv2(torch.cat(maps, 1))


@BLOCKS.register(arguments={"e": POSITIVE})
class C3k(C3):
    """C3 whose bottlenecks have k x k kernels in both convolutions (Khanam and Hussain, YOLOv11: An Overview, 2024)."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5, k=3):
        odd_kernels(k)
        self._kernel = k
        super().__init__(c1, c2, n, shortcut, g, e)

    def inner(self, hidden, n, shortcut, g):
        return nn.Sequential(*(_Squares(hidden, hidden, shortcut, g, k=self._kernel) for _ in range(n)))


@BLOCKS.register(defaults_by_scale={"mlx": {"c3k": True}}, arguments={"e": POSITIVE})
class C3k2(C2f):
    """C2f with narrower bottlenecks or, with `c3k`, a C3k of two in the place of each (Khanam and Hussain, 2024).

    The published sizes m, l and x of YOLO11 have `c3k` in every row, though their file says False in some: so do these sizes of any
    file with `scales`, but where a row names it, {c3k: False}.
    """

    def __init__(self, c1, c2, n=1, c3k=False, e=0.5, g=1, shortcut=True):
        self._c3k = c3k
        super().__init__(c1, c2, n, shortcut, g, e)

    def inner(self, hidden, shortcut, g):
        return C3k(hidden, hidden, 2, shortcut, g) if self._c3k else _Squares(hidden, hidden, shortcut, g, e=0.5)
