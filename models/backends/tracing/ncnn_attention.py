"""Attention over parts of a map without operations that ncnn lacks: it has no batch axis that a reshape could enlarge.

The same numbers as the blocks that are replaced, for one image of a fixed size.
"""

import torch
from torch import Tensor, nn

from graftdet.models.blocks.grouped_attention import ShuffleAttention
from graftdet.models.blocks.mobilevit import MobileViTBlock, PatchAttention
from graftdet.models.blocks.swin import WINDOW, WindowAttention


class OneBatchShuffleAttention(nn.Module):
    """`ShuffleAttention` with all groups beside each other.

    Args:
        block: the block to replace.
    """

    def __init__(self, block: ShuffleAttention):
        super().__init__()
        self.groups, width = block.groups, block.groups * block.gn.num_channels
        self.by_mean = nn.Conv2d(width, width, 1, groups=width)  # a factor and a bias per channel
        self.by_norm = nn.InstanceNorm2d(width, block.gn.eps, affine=True)
        with torch.no_grad():
            self.by_mean.weight.copy_(self._all_groups(block.cweight)[:, None, None, None])
            self.by_mean.bias.copy_(self._all_groups(block.cbias))  # type: ignore[union-attr]
            self.by_norm.weight.copy_(self._all_groups(block.sweight.flatten() * block.gn.weight))
            self.by_norm.bias.copy_(self._all_groups(block.sweight.flatten() * block.gn.bias + block.sbias.flatten()))

    def _all_groups(self, values: Tensor) -> Tensor:
        """The values of one group, for every group."""
        return values.flatten().repeat(self.groups)

    def forward(self, x: Tensor) -> Tensor:
        """(1, c, H, W) -> the same."""
        _, c, h, w = (int(side) for side in x.shape)
        halves = x.reshape(1, self.groups, c * h * w // self.groups).chunk(2, 2)
        channels, positions = (half.reshape(1, c // 2, h, w) for half in halves)
        channels = channels * self.by_mean(channels.mean((2, 3), keepdim=True)).sigmoid()
        positions = positions * self.by_norm(positions).sigmoid()
        gated = [half.reshape(1, self.groups, c * h * w // self.groups // 2) for half in (channels, positions)]
        first, second = torch.cat(gated, 2).reshape(1, 2, c // 2, h * w).unbind(1)
        # a channel shuffle, which pnnx would apply to the shape before the last reshape
        return torch.stack((first, second), 2).reshape(1, c, h, w)


class OneBatchWindowAttention(nn.Module):
    """`WindowAttention` with windows and heads along one axis.

    Args:
        block: the block to replace.
    """

    def __init__(self, block: WindowAttention):
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """(1, H, W, c) -> the same."""
        block = self.block
        _, h, w, c = (int(side) for side in x.shape)
        x = nn.functional.pad(x, (0, 0, 0, -w % WINDOW, 0, -h % WINDOW))
        x = _rolled(x, block.shift)
        rows, columns = int(x.shape[1]), int(x.shape[2])
        count = rows * columns // WINDOW**2
        x = x.reshape(1, rows // WINDOW, WINDOW, columns // WINDOW, WINDOW * c).transpose(2, 3)
        parts = block.qkv(x.reshape(1, count * WINDOW**2, c))
        y = _attend(parts, count, block.heads, self._added(rows, columns, count))
        y = y.reshape(1, rows // WINDOW, columns // WINDOW, WINDOW, WINDOW * c).transpose(2, 3)
        y = _rolled(y.reshape(1, rows, columns, c), -block.shift)
        return block.proj(y[:, :h, :w])

    def _added(self, rows: int, columns: int, count: int) -> Tensor:
        """Biases (1, number of windows x heads, 64, 64), far below zero where positions do not belong together."""
        area = WINDOW**2
        added = self.block.position_bias("cpu").expand(count, -1, -1, -1)
        if self.block.shift:
            added = added.masked_fill(self.block.outside(rows, columns, "cpu"), torch.finfo(torch.float32).min)
        # an array of NumPy becomes a constant of a trace
        return torch.from_numpy(added.reshape(1, -1, area, area).numpy())


def _attend(parts: Tensor, count: int, heads: int, added: Tensor | None = None) -> Tensor:
    """Attention within `count` sequences one after the other: (1, count x N, 3 c) -> (1, count x N, c)."""
    length, c = int(parts.shape[1]) // count, int(parts.shape[2]) // 3
    width = c // heads
    q, k, v = (
        part.reshape(1, count, length, heads, width).transpose(2, 3).reshape(1, count * heads, length, width)
        for part in parts.chunk(3, 2)
    )
    weights = q @ k.transpose(2, 3) * width**-0.5
    weights = weights if added is None else weights + added
    y = (weights.softmax(-1) @ v).reshape(1, count, heads, length, width).transpose(2, 3)
    return y.reshape(1, count * length, c)


def _rolled(x: Tensor, shift: int) -> Tensor:
    """Rows and columns of (1, H, W, c) moved by `shift` towards the first, those that leave appended at the end."""
    if not shift:
        return x
    x = torch.cat((x[:, shift:], x[:, :shift]), 1)
    return torch.cat((x[:, :, shift:], x[:, :, :shift]), 2)


class OneBatchMobileViT(nn.Module):
    """`MobileViTBlock` with the positions of a patch one after the other in one sequence.

    Args:
        block: the block to replace.
    """

    def __init__(self, block: MobileViTBlock):
        super().__init__()
        self.block = block
        for layer in block.transformer.children():
            layer.attn = _OneBatchPatchAttention(layer.attn, block.patch**2)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(1, c1, H, W) -> (1, c2, H, W)."""
        block, patch = self.block, self.block.patch
        y = block.conv_1x1(block.conv_kxk(x))
        height, width = (int(side) for side in y.shape[2:])
        y = torch.cat((y, y[:, :, -1:]), 2) if height % patch else y
        y = torch.cat((y, y[:, :, :, -1:]), 3) if width % patch else y
        c, h, w = (int(side) for side in y.shape[1:])
        y = nn.functional.pixel_unshuffle(y, patch).reshape(1, c, h * w).transpose(1, 2)
        y = block.norm(block.transformer(y)).transpose(1, 2)
        y = y.reshape(1, c * patch**2, h // patch, w // patch)
        y = nn.functional.pixel_shuffle(y, patch)[:, :, :height, :width]
        return block.conv_fusion(torch.cat((x, block.conv_proj(y)), 1))


class _OneBatchPatchAttention(nn.Module):
    """`PatchAttention` of several sequences one after the other: (1, count x N, c) -> the same."""

    def __init__(self, attention: PatchAttention, count: int):
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.count, self.heads = count, attention.heads

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(_attend(self.qkv(x), self.count, self.heads))
