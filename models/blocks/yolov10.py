"""Blocks of YOLOv10 (Wang et al., YOLOv10, 2024, section 3.2) and the attention block of YOLO11."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.c2f import C2f
from graftdet.models.blocks.constructor_checks import head_count
from graftdet.models.blocks.conv import Conv
from graftdet.models.blocks.repvgg import TwoKernels

_HEAD_WIDTH = 64  # minimum channels per attention head


@BLOCKS.register()
class SCDown(nn.Module):
    """1x1 convolution to the output width, then a depthwise convolution that strides.

    (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel size of the depthwise convolution.
        s: stride.

    Source:
        Wang et al., YOLOv10, 2024, section 3.2 (spatial-channel decoupled downsampling).

    Example:
        [-1, 1, SCDown, [64, 3, 2]]
    """

    def __init__(self, c1, c2, k=3, s=2):
        super().__init__()
        self.cv1 = Conv(c1, c2, 1, 1)
        self.cv2 = Conv(c2, c2, k, s, g=c2, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv2(self.cv1(x))


@BLOCKS.register(arguments={"e": POSITIVE})
class CIB(nn.Module):
    """Compact inverted block: depthwise 3x3 and 1x1 convolutions in turn, with a shortcut.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        shortcut: add the input where c1 equals c2.
        e: half of the inner width as a fraction of c2.
        lk: large kernel: 7x7 and 3x3 side by side in the middle; `fuse()` makes them one.

    Source:
        Wang et al., YOLOv10, 2024, section 3.2, figure 3 b.

    Example:
        [-1, 1, CIB, [64]]
    """

    def __init__(self, c1, c2, shortcut=True, e=0.5, lk=False):
        super().__init__()
        wide = 2 * int(c2 * e)
        self.cv1 = nn.Sequential(
            Conv(c1, c1, 3, g=c1),
            Conv(c1, wide, 1),
            TwoKernels(wide, wide, 7, 3, wide) if lk else Conv(wide, wide, 3, g=wide),
            Conv(wide, c2, 1),
            Conv(c2, c2, 3, g=c2),
        )
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv1(x) if self.add else self.cv1(x)


@BLOCKS.register(arguments={"e": POSITIVE})
class C2fCIB(C2f):
    """C2f of compact inverted blocks.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of compact inverted blocks (the row's number).
        shortcut: add the input of each bottleneck to its output.
        lk: large kernels in the blocks, see CIB.
        g: accepted as in C2f, without effect.
        e: inner width as a fraction of c2.

    Source:
        Wang et al., YOLOv10, 2024, section 3.2.

    Example:
        [-1, 1, C2fCIB, [64, True]]
    """

    def __init__(self, c1, c2, n=1, shortcut=False, lk=False, g=1, e=0.5):
        self._large = lk
        super().__init__(c1, c2, n, shortcut, g, e)

    def inner(self, hidden: int, shortcut: bool, g: int) -> nn.Module:
        return CIB(hidden, hidden, shortcut, e=1.0, lk=self._large)


class _Attention(nn.Module):
    """Self-attention over the positions of a map: (B, c, H, W) -> the same.

    Queries and keys have half the width of the values. A depthwise 3x3 convolution of the values encodes the position.
    """

    def __init__(self, c):
        super().__init__()
        self.heads = head_count(c, c // _HEAD_WIDTH)
        self.width = c // self.heads
        self.key_width = self.width // 2
        if self.key_width < 1:
            raise ValueError(f"attention needs at least two channels inside, got {c}")
        self.qkv = Conv(c, self.heads * (2 * self.key_width + self.width), 1, act=False)
        self.proj = Conv(c, c, 1, act=False)
        self.pe = Conv(c, c, 3, g=c, act=False)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        parts = self.qkv(x).view(b, self.heads, -1, h * w)
        q, k, v = parts.split((self.key_width, self.key_width, self.width), 2)  # (B, heads, channels, H*W)
        weights = (q.transpose(-2, -1) @ k * self.key_width**-0.5).softmax(-1)
        y = v @ weights.transpose(-2, -1)
        return self.proj(y.reshape(b, c, h, w) + self.pe(v.reshape(b, c, h, w)))


class _AttentionBlock(nn.Module):
    """Attention, then two 1x1 convolutions, each with a shortcut: (B, c, H, W)."""

    def __init__(self, c):
        super().__init__()
        self.attn = _Attention(c)
        self.ffn = nn.Sequential(Conv(c, 2 * c, 1), Conv(2 * c, c, 1, act=False))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.ffn(x)


@BLOCKS.register(arguments={"e": POSITIVE})
class C2PSA(nn.Module):
    """Partial self-attention: n attention blocks on half of the channels.

    (B, c1, H, W) -> (B, c2, H, W). Memory grows with the square of H x W: use it on the coarsest map.

    Args:
        c1: input channels.
        c2: output channels.
        n: number of attention blocks (the row's number).
        e: inner width as a fraction of c2.

    Source:
        Khanam and Hussain, YOLOv11: An Overview, 2024, section 4; Wang et al., YOLOv10, 2024, section 3.2.

    Example:
        [-1, 1, C2PSA, [64]]
    """

    def __init__(self, c1, c2, n=1, e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, 2 * hidden, 1)
        self.cv2 = Conv(2 * hidden, c2, 1)
        self.m = nn.Sequential(*(_AttentionBlock(hidden) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        passed, attended = self.cv1(x).chunk(2, 1)
        return self.cv2(torch.cat((passed, self.m(attended)), 1))


@BLOCKS.register(arguments={"e": POSITIVE})
class PSA(C2PSA):
    """Partial self-attention with one attention block on half of the channels.

    (B, c1, H, W) -> (B, c2, H, W). The row's number stacks whole blocks.

    Args:
        c1: input channels.
        c2: output channels.
        e: inner width as a fraction of c2.

    Source:
        Wang et al., YOLOv10, 2024, section 3.2, figure 3 c.

    Example:
        [-1, 1, PSA, [64]]
    """

    def __init__(self, c1, c2, e=0.5):
        super().__init__(c1, c2, 1, e)
