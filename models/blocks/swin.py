"""Swin Transformer layers (Liu et al., Swin Transformer, 2021) inside a C3 block."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE
from graftdet.models.blocks.constructor_checks import head_count
from graftdet.models.blocks.csp import C3

WINDOW = 8  # positions per side of a window
_HEAD_WIDTH = 32  # channels per attention head


class WindowAttention(nn.Module):
    """Attention within windows of 8x8 positions with relative position biases: (B, H, W, c) -> the same.

    The map is padded to whole windows and rolled by `shift`. Positions that are neighbors only by rolling do not attend
    to each other (section 3.2, figure 4).
    """

    def __init__(self, c, shift):
        super().__init__()
        self.shift, self.heads = shift, head_count(c, c // _HEAD_WIDTH)
        self.qkv = nn.Linear(c, 3 * c)
        self.proj = nn.Linear(c, c)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, self.heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        _, h, w, c = x.shape
        x = F.pad(x, (0, 0, 0, -w % WINDOW, 0, -h % WINDOW)).roll((-self.shift, -self.shift), (1, 2))
        rows, columns = x.shape[1], x.shape[2]
        y = self._attend(_to_windows(x).flatten(2, 3).flatten(0, 1), rows, columns)
        y = y.reshape(-1, rows // WINDOW, columns // WINDOW, WINDOW, WINDOW, c).transpose(2, 3)
        y = y.reshape(-1, rows, columns, c).roll((self.shift, self.shift), (1, 2))
        return self.proj(y[:, :h, :w])

    def _attend(self, windows: Tensor, rows, columns) -> Tensor:
        """Attention within windows (B x number, 64, c) of a map of rows x columns."""
        area, c = WINDOW**2, windows.shape[-1]
        parts = self.qkv(windows).reshape(-1, area, 3, self.heads, c // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)  # (B x number, heads, 64, c / heads)
        weights = q @ k.transpose(2, 3) * (c // self.heads) ** -0.5 + self.position_bias(windows.device)
        if self.shift:
            outside = self.outside(rows, columns, windows.device)  # (number, 1, 64, 64)
            weights = weights.reshape(-1, outside.shape[0], self.heads, area, area)
            # added instead of filled in: OpenCV reads no constants of true and false
            weights = weights + outside.to(weights.dtype) * torch.finfo(weights.dtype).min
            weights = weights.reshape(-1, self.heads, area, area)
        return (weights.softmax(-1) @ v).transpose(1, 2).reshape(-1, area, c)

    def position_bias(self, device) -> Tensor:
        """Biases (heads, 64, 64) by the distance in rows and columns."""
        position = torch.arange(WINDOW, device=device)
        distance = position[:, None] - position + WINDOW - 1  # (8, 8)
        index = distance[:, None, :, None] * (2 * WINDOW - 1) + distance[None, :, None, :]
        area = WINDOW**2
        return self.relative_position_bias_table[index.reshape(area, area)].permute(2, 0, 1)

    def outside(self, rows, columns, device) -> Tensor:
        """Pairs of positions (number of windows, 1, 64, 64) of a rolled map that do not belong together."""
        regions = [self._regions(size, device) for size in (rows, columns)]
        regions = _to_windows((3 * regions[0][:, None] + regions[1])[None, :, :, None]).reshape(-1, WINDOW**2)
        return (regions[:, :, None] != regions[:, None, :]).unsqueeze(1)

    def _regions(self, size, device) -> Tensor:
        position = torch.arange(size, device=device)
        return (position >= size - WINDOW).long() + (position >= size - self.shift).long()


def _to_windows(x: Tensor) -> Tensor:
    """Maps (B, H, W, c) -> windows (B, number, 8, 8, c)."""
    _, h, w, c = x.shape
    x = x.reshape(-1, h // WINDOW, WINDOW, w // WINDOW, WINDOW, c).transpose(2, 3)
    return x.flatten(1, 2)


class _SwinLayer(nn.Module):
    """Window attention, then a GELU MLP, each behind a layer norm and with a shortcut: (B, H, W, c)."""

    def __init__(self, c, shift):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.attn = WindowAttention(c, shift)
        self.mlp = nn.Sequential(nn.Linear(c, 4 * c), nn.GELU(), nn.Linear(4 * c, c))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _SwinBlock(nn.Module):
    """n layers, whose windows are shifted by half a window in every second one: (B, c, H, W) -> the same."""

    def __init__(self, c, n):
        super().__init__()
        self.tr = nn.Sequential(*(_SwinLayer(c, WINDOW // 2 if i % 2 else 0) for i in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.tr(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@BLOCKS.register(arguments={"e": POSITIVE})
class C3STR(C3):
    """C3 block of Swin Transformer layers: attention within windows of 8x8, shifted in every second layer.

    (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: number of layers (the row's number).
        shortcut: accepted as in C3, without effect.
        g: accepted as in C3, without effect.
        e: inner width as a fraction of c2.

    Source:
        Liu et al., Swin Transformer, 2021, section 3.2, in the C3 layout of YOLOv5. The paper has windows of 7x7 and
        drop path.

    Example:
        [-1, 2, C3STR, [64]]
    """

    def inner(self, hidden: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return _SwinBlock(hidden, n)
