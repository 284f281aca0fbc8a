"""Convolution with batch norm and activation, the unit of most other blocks."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import activation
from graftdet.models.blocks.argument_ranges import NON_NEGATIVE, POSITIVE
from graftdet.models.blocks.constructor_checks import check_kernel_list


def same_padding(
    k: int | Sequence[int], p: int | Sequence[int] | None = None, d: int | Sequence[int] = 1
) -> int | Sequence[int]:
    """Return the padding `p` or, if that is None, the padding that keeps the size at stride 1.

    Args:
        k: odd kernel size, a number or a pair.
        p: padding, a number or a pair.
        d: dilation, a number or a pair.
    """
    if p is not None:
        return p
    if isinstance(k, int):
        return (d * (k - 1) + 1) // 2
    d = (d, d) if isinstance(d, int) else d
    return [(dilation * (size - 1) + 1) // 2 for size, dilation in zip(k, d, strict=True)]


def fuse_pair(module: nn.Module, conv: str, bn: str) -> None:
    """Merge the batch norm named `bn` of a module into its convolution `conv`, in place; `bn` becomes an identity."""
    if isinstance(getattr(module, bn), nn.BatchNorm2d):
        layer, batch_norm = getattr(module, conv), getattr(module, bn)
        merged = (
            layer.merge_batch_norm(batch_norm) if _merges_batch_norm(layer) else fuse_conv_bn_eval(layer, batch_norm)
        )
        setattr(module, conv, merged)
        setattr(module, bn, nn.Identity())


def _merges_batch_norm(layer: nn.Module | None) -> bool:
    """Whether a layer other than nn.Conv2d can merge the batch norm behind it."""
    return hasattr(layer, "merge_batch_norm")


def is_fusible(layer: nn.Module | None, bn: nn.Module | None) -> bool:
    """Return whether `layer` is a convolution that can merge `bn`, a batch norm behind it."""
    return (type(layer) is nn.Conv2d or _merges_batch_norm(layer)) and type(bn) is nn.BatchNorm2d


class FusePairs:
    """Mix-in: `fuse()` merges the convolutions and batch norms whose attribute names `fuse_pairs` lists."""

    fuse_pairs: tuple[tuple[str, str], ...] = ()

    def fuse(self) -> None:
        """Merge the pairs, in place; the block must be in eval mode from then on."""
        for conv, bn in self.fuse_pairs:
            fuse_pair(self, conv, bn)


def fuse_sequential(module: nn.Sequential) -> None:
    """Merge each convolution of a Sequential with the batch norm that follows it directly."""
    names = list(module._modules)
    for conv, bn in pairwise(names):
        layer = module._modules[conv]
        if is_fusible(layer, module._modules[bn]):
            fuse_pair(module, conv, bn)


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

    def forward(self, x: Tensor) -> Tensor:
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

    def forward(self, x: Tensor) -> Tensor:
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

    def forward(self, x: Tensor) -> Tensor:
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
        check_kernel_list(k)
        if equal_ch:
            # channel j goes to kernel floor(j (len(k) - tiny) / (c2 - 1)): as in published weights
            part = [int(j * (len(k) - 1e-6) / max(c2 - 1, 1)) for j in range(c2)]
            widths = [part.count(i) for i in range(len(k))]
        else:
            inverse_area = [1 / size**2 for size in k]
            widths = [round(c2 * inverse / sum(inverse_area)) for inverse in inverse_area]
            widths[widths.index(max(widths))] += c2 - sum(widths)
        self.m = nn.ModuleList(
            nn.Conv2d(c1, w, size, s, size // 2, groups=math.gcd(c1, w), bias=False)
            for size, w in zip(k, widths, strict=True)
        )
        self.bn = nn.BatchNorm2d(c2)
        self.act = activation(True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(torch.cat([m(x) for m in self.m], 1)))
