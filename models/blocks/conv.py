"""Convolution with batch norm and activation, the unit that most other blocks are built of."""

import math

import torch
from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import activation
from graftdet.models.blocks.argument_ranges import NON_NEGATIVE, POSITIVE
from graftdet.utils.errors import UserError
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def same_padding(k, p=None, d=1):
    """The padding that keeps the size at stride 1 for an odd kernel `k` (int or pair) with dilation `d`."""
    if p is not None:
        return p
    if isinstance(k, int):
        return (d * (k - 1) + 1) // 2
    d = (d, d) if isinstance(d, int) else d
    return [(dilation * (size - 1) + 1) // 2 for size, dilation in zip(k, d, strict=True)]


def one_kernel(k) -> None:
    """Raise `ValueError` where a block that has square kernels alone is given a pair."""
    if isinstance(k, bool) or not isinstance(k, int):
        raise ValueError(f"k must be one number, got {k!r}")


def odd_kernels(*sizes) -> None:
    """Raise `UserError` unless each size is an odd whole number: others do not keep the map's size."""
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1 or size % 2 == 0:
            raise UserError(f"keeps the size with odd kernels alone; expected whole numbers such as 5, got {size!r}")


def several_kernels(k) -> None:
    """Raise `UserError` unless `k` is a list of odd kernels."""
    if not isinstance(k, (list, tuple)) or not k:
        raise UserError(f"takes a list of kernels, such as [5, 9, 13], got {k!r}")
    odd_kernels(*k)


LEAVE_OUT = "; the width is filled in, leave it out"


def reduced(c, ratio) -> int:
    """The width between, of attention that squeezes `c` channels by `ratio`. Raises `ValueError` where none is left."""
    if ratio < 1:
        raise ValueError(f"a reduction must be at least 1, got {ratio}")
    if ratio > c:
        raise ValueError(f"a reduction of {ratio} leaves no channels of {c}")
    return int(c // ratio)


def refuse_width(c, ratio) -> None:
    """Raise `ValueError` where a word that takes no output width is given one in the place of its reduction."""
    if ratio >= max(c, 17):  # 16 of 16 and the like are written
        raise ValueError(
            f"a reduction of {ratio} leaves {'one channel' if ratio == c else 'no channels'} of {c}{LEAVE_OUT}"
        )


def _fuse_pair(module: nn.Module, conv: str, bn: str) -> None:
    """Replace the convolution by one that includes the batch norm, which becomes an identity."""
    if isinstance(getattr(module, bn), nn.BatchNorm2d):
        layer, norm = getattr(module, conv), getattr(module, bn)
        setattr(module, conv, layer.absorb_norm(norm) if _absorbs(layer) else fuse_conv_bn_eval(layer, norm))
        setattr(module, bn, nn.Identity())


def _absorbs(layer: nn.Module) -> bool:
    """Whether a layer that is no nn.Conv2d itself knows how to take in the batch norm behind it."""
    return hasattr(layer, "absorb_norm")


class FusePairs:
    """Mix-in: `fuse()` merges the convolutions and batch norms whose attribute names `fuse_pairs` lists."""

    fuse_pairs: tuple[tuple[str, str], ...] = ()

    def fuse(self) -> None:
        for conv, bn in self.fuse_pairs:
            _fuse_pair(self, conv, bn)


def fuse_sequential(module: nn.Sequential) -> None:
    """Merge each convolution of a Sequential with the batch norm that follows it directly."""
    names = list(module._modules)
    for conv, bn in zip(names, names[1:], strict=False):
        layer = module._modules[conv]
        if (type(layer) is nn.Conv2d or _absorbs(layer)) and type(module._modules[bn]) is nn.BatchNorm2d:
            _fuse_pair(module, conv, bn)


@BLOCKS.register(arguments={"p": NON_NEGATIVE})
class Conv(FusePairs, nn.Module):
    """Convolution without bias, batch norm and activation: the unit of most other blocks.

    (B, c1, H, W) -> (B, c2, H/s, W/s). `fuse()` merges the batch norm into the convolution.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size, a number or a pair.
        s: stride.
        p: padding; None keeps the size at stride 1.
        g: groups of the convolution.
        d: dilation.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Ioffe and Szegedy, Batch Normalization, 2015; argument order of YOLOv5.

    Example:
        [-1, 1, Conv, [64, 3, 2]]
    """

    fuse_pairs = (("conv", "bn"),)

    def __init__(self, c1, c2, k=1, s=1, p=None, g=1, d=1, act=True):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, same_padding(k, p, d), dilation=d, groups=g, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = activation(act)

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


@BLOCKS.register()
class DWConv(Conv):
    """Conv with as many groups as both widths allow, depthwise where they are equal.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size.
        s: stride.
        d: dilation.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        Howard et al., MobileNets, 2017, section 3.1 (depthwise convolution); argument order of YOLOv5.

    Example:
        [-1, 1, DWConv, [64, 3, 2]]
    """

    def __init__(self, c1, c2, k=1, s=1, d=1, act=True):
        super().__init__(c1, c2, k, s, g=math.gcd(c1, c2), d=d, act=act)


@BLOCKS.register(arguments={"p1": NON_NEGATIVE, "p2": NON_NEGATIVE})
class DWConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution with as many groups as both widths allow.

    (B, c1, H, W) -> (B, c2, (H - 1) s - 2 p1 + k + p2, ...), without batch norm and activation.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size.
        s: stride.
        p1: padding.
        p2: output padding, below the stride.

    Source:
        Zeiler et al., Deconvolutional Networks, 2010; argument order of YOLOv5.

    Example:
        [-1, 1, DWConvTranspose2d, [64, 4, 2, 1]]
    """

    def __init__(self, c1, c2, k=1, s=1, p1=0, p2=0):
        super().__init__(c1, c2, k, s, p1, p2, groups=math.gcd(c1, c2))


@BLOCKS.register(arguments={"p": NON_NEGATIVE})
class Focus(nn.Module):
    """Space to depth by a factor of two, then Conv.

    (B, c1, H, W) -> (B, c2, H/2/s, W/2/s). H and W must be even.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size.
        s: stride of the convolution behind the space-to-depth step.
        p: padding; None keeps the size at stride 1.
        g: groups of the convolution.
        act: activation: True for the model's, False for none, or a name such as nn.ReLU().

    Source:
        The stem of YOLOv5 before version 6; space to depth as in Ridnik et al., TResNet, 2020, section 2.

    Example:
        [-1, 1, Focus, [64, 3]]
    """

    def __init__(self, c1, c2, k=1, s=1, p=None, g=1, act=True):
        super().__init__()
        self.conv = Conv(4 * c1, c2, k, s, p, g, act=act)

    def forward(self, x):
        quarters = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.conv(torch.cat(quarters, 1))


@BLOCKS.register(arguments={"e": POSITIVE})
class CrossConv(nn.Module):
    """A k x k convolution factorized into 1 x k and k x 1, with an optional shortcut.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size.
        s: stride.
        g: groups of the second convolution.
        e: inner width as a fraction of c2.
        shortcut: add the input where stride is 1 and c1 equals c2.

    Source:
        Szegedy et al., Rethinking the Inception Architecture, 2016, section 3.2 (factorization); form of YOLOv5.

    Example:
        [-1, 1, CrossConv, [64, 3, 1]]
    """

    def __init__(self, c1, c2, k=3, s=1, g=1, e=1.0, shortcut=False):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, (1, k), (1, s))
        self.cv2 = Conv(hidden, c2, (k, 1), (s, 1), g=g)
        self.add = shortcut and c1 == c2 and s == 1

    def forward(self, x):
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


@BLOCKS.register()
class MixConv2d(nn.Module):
    """Grouped convolutions of several kernel sizes side by side, concatenated, batch norm and activation.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        k: list of odd kernel sizes.
        s: stride.
        equal_ch: True: the same number of output channels per kernel size; False: about the same number of weights.

    Source:
        Tan and Le, MixConv: Mixed Depthwise Convolutional Kernels, 2019, section 3. Here the groups are gcd(c1, width
        of the part).

    Example:
        [-1, 1, MixConv2d, [64, [3, 5, 7]]]
    """

    def __init__(self, c1, c2, k=(1, 3), s=1, equal_ch=True):
        super().__init__()
        several_kernels(k)
        if equal_ch:
            # channel j goes to kernel floor(j (len(k) - tiny) / (c2 - 1)): the shares of published weights
            share = [int(j * (len(k) - 1e-6) / max(c2 - 1, 1)) for j in range(c2)]
            widths = [share.count(i) for i in range(len(k))]
        else:
            share = [1 / size**2 for size in k]
            widths = [round(c2 * s_ / sum(share)) for s_ in share]
            widths[widths.index(max(widths))] += c2 - sum(widths)
        self.m = nn.ModuleList(
            nn.Conv2d(c1, w, size, s, size // 2, groups=math.gcd(c1, w), bias=False)
            for size, w in zip(k, widths, strict=True)
        )
        self.bn = nn.BatchNorm2d(c2)
        self.act = activation(True)

    def forward(self, x):
        return self.act(self.bn(torch.cat([m(x) for m in self.m], 1)))
