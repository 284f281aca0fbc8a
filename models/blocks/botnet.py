"""Bottleneck transformers (Srinivas et al., Bottleneck Transformers for Visual Recognition, 2021)."""

from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.constructor_checks import head_count
from graftdet.models.blocks.conv import Conv
from graftdet.models.blocks.csp import C3

_HEADS = 4


class _SelfAttention(nn.Module):
    """Attention between all positions of a map, by content alone (figure 4): (B, c, H, W) -> the same."""

    def __init__(self, c):
        super().__init__()
        self.heads = head_count(c, _HEADS)
        self.query, self.key, self.value = (nn.Conv2d(c, c, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        q, k, v = (
            part(x).reshape(-1, self.heads, c // self.heads, h * w) for part in (self.query, self.key, self.value)
        )
        weights = (q.transpose(2, 3) @ k * (c // self.heads) ** -0.5).softmax(-1)  # (B, heads, H W, H W)
        return (v @ weights.transpose(2, 3)).reshape(-1, c, h, w)


class _TransformerBottleneck(nn.Module):
    """Bottleneck whose second convolution is self-attention: (B, c, H, W) -> the same."""

    def __init__(self, c):
        super().__init__()
        self.cv1 = Conv(c, c, 1)
        self.cv2 = _SelfAttention(c)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv2(self.cv1(x))


@BLOCKS.register(arguments={"e": POSITIVE})
class BoT3(C3):
    """C3 block of bottleneck transformers.

    (B, c1, H, W) -> (B, c2, H, W). Memory grows with the square of H x W: use it on the coarsest map.

    Args:
        c1: input channels.
        c2: output channels.
        n: number of bottleneck transformers (the row's number).
        e: inner width as a fraction of c2.
        e2: accepted as published, without effect: the width inside a bottleneck is that of its input.
        w: accepted as published, without effect.
        h: accepted as published, without effect.

    Source:
        Srinivas et al., Bottleneck Transformers, 2021, section 3, figure 4, in the C3 layout of YOLOv5. Without
        relative position encodings, which would fix the size of the map to w x h.

    Example:
        [-1, 1, BoT3, [64]]
    """

    def __init__(self, c1, c2, n=1, e=0.5, e2=1, w=20, h=20):
        super().__init__(c1, c2, n, e=e)

    def inner(self, hidden: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Sequential(*(_TransformerBottleneck(hidden) for _ in range(n)))
