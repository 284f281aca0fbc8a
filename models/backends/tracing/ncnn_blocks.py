"""Blocks with operations that ncnn lacks or computes wrongly, by others: the same numbers."""

import numpy as np
import torch
from torch import Tensor, nn

from graftdet.models.backends.tracing.ncnn_attention import (
    OneBatchMobileViT,
    OneBatchShuffleAttention,
    OneBatchWindowAttention,
)
from graftdet.models.blocks.conv import Focus
from graftdet.models.blocks.grouped_attention import ShuffleAttention
from graftdet.models.blocks.gsconv import GSConv
from graftdet.models.blocks.inception_conv import InceptionConv
from graftdet.models.blocks.mobilevit import MobileViTBlock
from graftdet.models.blocks.ops import Contract, Expand, SpaceToDepth
from graftdet.models.blocks.swin import WindowAttention


class SlicesAsConvolution(nn.Module):
    """Every n-th pixel of each row and column as channels: a convolution whose weights are zeros and ones.

    Args:
        gain: n.
        by_column: the order of the parts, each with all channels: column by column, else row by row.
    """

    def __init__(self, gain: int = 2, by_column: bool = True):
        super().__init__()
        self.gain, self.by_column = gain, by_column

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, gain^2 c, H/gain, W/gain)."""
        channels, gain = int(x.shape[1]), self.gain
        every, weight = np.arange(channels), np.zeros((gain**2, channels, channels, gain, gain), np.float32)
        for part in range(gain**2):
            row, column = (part % gain, part // gain) if self.by_column else (part // gain, part % gain)
            weight[part, every, every, row, column] = 1
        # an array of NumPy becomes a constant of a trace
        return nn.functional.conv2d(x, torch.from_numpy(weight.reshape(-1, channels, gain, gain)), stride=gain)


class ShuffledExpand(nn.Module):
    """`Expand` as a channel shuffle and a pixel shuffle.

    Args:
        gain: factor by which height and width grow.
    """

    def __init__(self, gain: int):
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, c / gain^2, H gain, W gain)."""
        batch, channels, height, width = x.shape
        parts = x.view(batch, self.gain**2, channels // self.gain**2, height, width).transpose(1, 2)
        return nn.functional.pixel_shuffle(parts.reshape(batch, channels, height, width), self.gain)


class ShuffledGSConv(nn.Module):
    """`GSConv` whose last step is a channel shuffle.

    Args:
        block: the block to replace.
    """

    def __init__(self, block: GSConv):
        super().__init__()
        self.cv1, self.cv2 = block.cv1, block.cv2
        self.hidden = next(one for one in block.cv2.modules() if isinstance(one, nn.Conv2d)).out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H/s, W/s)."""
        y = self.cv1(x)
        y = torch.cat((y, self.cv2(y)), 1)
        batch, channels, height, width = y.shape
        return y.view(batch, self.hidden, 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)


class SlicedInceptionConv(nn.Module):
    """`InceptionConv` that orders channels by slices of neighbors.

    Args:
        block: the block to replace.
    """

    def __init__(self, block: InceptionConv):
        super().__init__()
        self.conv_list, self.bn, self.act = block.conv_list, block.bn, block.act
        self.slices: list[list[int]] = []  # first and last + 1 of the concatenated channels
        for index in block.get_buffer("channel_order").tolist():
            if self.slices and self.slices[-1][1] == index:
                self.slices[-1][1] += 1
            else:
                self.slices.append([index, index + 1])

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H/s, W/s)."""
        y = torch.cat([conv(x) for conv in self.conv_list], 1)
        return self.act(self.bn(torch.cat([y[:, start:end] for start, end in self.slices], 1)))


class VectorLayerNorm(nn.Module):
    """A layer norm of maps of one pixel, as one of vectors: ncnn would normalize each channel alone.

    Args:
        norm: the layer norm, of the shape (c, 1, 1).
    """

    def __init__(self, norm: nn.LayerNorm):
        super().__init__()
        self.norm = nn.LayerNorm(norm.normalized_shape[0], norm.eps)
        self.norm.weight, self.norm.bias = (nn.Parameter(one.flatten(), False) for one in (norm.weight, norm.bias))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, 1, 1) -> the same."""
        return self.norm(x.flatten(1))[:, :, None, None]


def replace_for_ncnn(module: nn.Module) -> None:
    """Replace these blocks in a module."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is SpaceToDepth:
                setattr(parent, name, SlicesAsConvolution())
            elif type(child) is Contract:
                setattr(parent, name, SlicesAsConvolution(child.gain, by_column=False))
            elif type(child) is Expand:
                setattr(parent, name, ShuffledExpand(child.gain))
            elif type(child) is Focus:
                setattr(parent, name, nn.Sequential(SlicesAsConvolution(), child.conv))
            elif type(child) is GSConv:
                setattr(parent, name, ShuffledGSConv(child))
            elif type(child) is InceptionConv and not child.in_order:
                setattr(parent, name, SlicedInceptionConv(child))
            elif type(child) is nn.LayerNorm and child.normalized_shape[1:] == (1, 1) and child.elementwise_affine:
                setattr(parent, name, VectorLayerNorm(child))
            elif type(child) is ShuffleAttention:
                setattr(parent, name, OneBatchShuffleAttention(child))
            elif type(child) is WindowAttention:
                setattr(parent, name, OneBatchWindowAttention(child))
            elif type(child) is MobileViTBlock:
                setattr(parent, name, OneBatchMobileViT(child))
