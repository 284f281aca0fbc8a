"""Blocks of YOLOv12 (Tian, Ye and Doermann, YOLOv12: Attention-Centric Real-Time Object Detectors, 2025, section 3)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.c2f import C3k
from graftdet.models.blocks.constructor_checks import head_count
from graftdet.models.blocks.conv import Conv

_HEAD_WIDTH = 32  # channels of an attention head


class _AreaAttention(nn.Module):
    """Self-attention within each of `area` strips of a map: (B, c, H, W) -> the same.

    The strips have the same number of positions, row by row; the last one is shorter where they do not divide evenly.
    A depthwise 7x7 convolution of the values encodes the position.
    """

    def __init__(self, c, area):
        super().__init__()
        self.area, self.heads = area, head_count(c, c // _HEAD_WIDTH)
        self.qkv = Conv(c, 3 * c, 1, act=False)
        self.proj = Conv(c, c, 1, act=False)
        self.pe = Conv(c, c, 7, g=c, act=False)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        width, rest = c // self.heads, -(h * w) % self.area
        parts = F.pad(self.qkv(x).flatten(2), (0, rest))
        q, k, v = (
            parts.view(b, self.heads, 3 * width, self.area, -1).transpose(2, 3).chunk(3, 3)
        )  # (B, heads, area, width, N)
        weights = q.transpose(-2, -1) @ k * width**-0.5
        if self.area > 1:
            # half of the lowest number: sums stay finite, as a strip may hold padding only
            penalty = F.pad(weights.new_zeros(h * w), (0, rest), value=torch.finfo(weights.dtype).min / 2)
            weights = weights + penalty.view(self.area, 1, -1)
        y = v @ weights.softmax(-1).transpose(-2, -1)
        y, v = (strips.transpose(2, 3).reshape(b, c, -1)[..., : h * w].view(b, c, h, w) for strips in (y, v))
        return self.proj(y + self.pe(v))


class _AreaBlock(nn.Module):
    """Area attention, then two 1x1 convolutions, each with a shortcut: (B, c, H, W)."""

    def __init__(self, c, area, mlp_ratio):
        super().__init__()
        hidden = int(c * mlp_ratio)
        self.attn = _AreaAttention(c, area)
        self.mlp = nn.Sequential(Conv(c, hidden, 1), Conv(hidden, c, 1, act=False))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


@BLOCKS.register(
    defaults_by_scale={"lx": {"residual": True, "mlp_ratio": 1.2}}, arguments={"mlp_ratio": POSITIVE, "e": POSITIVE}
)
class A2C2f(nn.Module):
    """R-ELAN: n pairs of area attention blocks (or C3k blocks) in sequence, all outputs concatenated.

    (B, c1, H, W) -> (B, c2, H, W). Scales l and x of a file with `scales` use residual and an mlp_ratio of 1.2, as the
    published sizes do, unless a row says otherwise by keyword.

    Args:
        c1: input channels.
        c2: output channels.
        n: number of inner blocks (the row's number).
        a2: area attention blocks; False: C3k blocks of two bottlenecks.
        area: number of strips within which positions attend to each other; 1 for the whole map.
        residual: add the input to the result times a learned factor, initially 0.01; c1 must equal c2.
        mlp_ratio: width inside the MLP as a multiple of the inner width.
        e: inner width as a fraction of c2.
        g: groups of the C3k blocks.
        shortcut: shortcuts in the C3k blocks.

    Source:
        Tian et al., YOLOv12: Attention-Centric Real-Time Object Detectors, 2025, section 3.

    Example:
        [-1, 1, A2C2f, [64, True, 4]]
    """

    def __init__(self, c1, c2, n=1, a2=True, area=1, residual=False, mlp_ratio=2.0, e=0.5, g=1, shortcut=True):
        super().__init__()
        if a2 and (isinstance(area, bool) or not isinstance(area, int) or area < 1):
            raise ValueError(f"area, the number of strips, must be a whole number of at least 1, got {area!r}")
        if a2 and residual and c1 != c2:
            raise ValueError(f"residual adds the input: expected widths that agree, got {c1} and {c2}")
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1)
        self.cv2 = Conv((1 + n) * hidden, c2, 1)
        self.gamma = nn.Parameter(torch.full((c2,), 0.01)) if a2 and residual else None
        self.m = nn.ModuleList(
            nn.Sequential(*(_AreaBlock(hidden, area, mlp_ratio) for _ in range(2)))
            if a2
            else C3k(hidden, hidden, 2, shortcut, g)
            for _ in range(n)
        )

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.cv1(x)]
        for m in self.m:
            maps.append(m(maps[-1]))
        y = self.cv2(torch.cat(maps, 1))
        return y if self.gamma is None else x + self.gamma.view(-1, 1, 1) * y
