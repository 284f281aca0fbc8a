"""Blocks without weights: joining maps, moving pixels into channels and back."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE_INT
from graftdet.utils.errors import UserError


def is_channels_last(x: Tensor) -> bool:
    """Return whether (B, C, H, W) lies in channels-last memory and in no other format."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of `groups` groups (Zhang et al., ShuffleNet, 2017): (B, c, H, W) -> the same."""
    b, c, h, w = x.shape
    if is_channels_last(x):  # so is the result
        rows = x.permute(0, 2, 3, 1).view(b, h, w, groups, c // groups)
        return rows.transpose(3, 4).reshape(b, h, w, c).permute(0, 3, 1, 2)
    return x.reshape(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


def along_channels(dimension: object) -> int:
    """Return the dimension along which maps are concatenated. Raises `UserError` for any but the channels."""
    if dimension not in (1, -3) or isinstance(dimension, bool):
        raise UserError(f"joins maps along their channels: expected [1], got {dimension!r}")
    return dimension


@BLOCKS.register()
class Concat(nn.Module):
    """Concatenate maps along their channels.

    List of (B, c_i, H, W) -> (B, sum of c_i, H, W).

    Args:
        dimension: 1, the channels; the only accepted value.

    Source:
        YOLOv5 (torch.cat as a module).

    Example:
        [[-1, -2], 1, Concat, [1]]
    """

    def __init__(self, dimension=1):
        super().__init__()
        self.d = along_channels(dimension)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return torch.cat(maps, self.d)


@BLOCKS.register(arguments={"gain": POSITIVE_INT})
class Contract(nn.Module):
    """Move blocks of gain x gain pixels into channels.

    (B, c, H, W) -> (B, c gain^2, H/gain, W/gain). H and W must be multiples of gain.

    Args:
        gain: factor by which height and width shrink.

    Source:
        YOLOv5; the rearrangement of Shi et al., Real-Time Single Image and Video Super-Resolution, 2016, section 3.2,
        reversed.

    Example:
        [-1, 1, Contract, [2]]
    """

    def __init__(self, gain=2):
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        s = self.gain
        x = x.view(b, c, h // s, s, w // s, s).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(b, c * s * s, h // s, w // s)


@BLOCKS.register("space_to_depth", "SPD", "ReOrg")
class SpaceToDepth(nn.Module):
    """Move blocks of 2x2 pixels into channels, in place of a strided convolution.

    (B, c, H, W) -> (B, 4 c, H/2, W/2). H and W must be even. The four parts follow each other; the pixel below comes
    second.

    Args:
        dimension: 1, the channels; the only accepted value, as in published rows.

    Source:
        Sunkara and Luo, No More Strided Convolutions or Pooling (SPD-Conv), 2022, section 3.

    Example:
        [-1, 1, SPD, []]
    """

    def __init__(self, dimension=1):
        super().__init__()
        if dimension != 1:
            raise ValueError(f"dimension must be 1, the channels, got {dimension}")

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)], 1)


@BLOCKS.register(arguments={"gain": POSITIVE_INT})
class Expand(nn.Module):
    """Move channels into blocks of gain x gain pixels.

    (B, c, H, W) -> (B, c / gain^2, H gain, W gain). c must be a multiple of gain^2.

    Args:
        gain: factor by which height and width grow.

    Source:
        YOLOv5; Shi et al., Real-Time Single Image and Video Super-Resolution, 2016, section 3.2 (sub-pixel
        convolution), with another channel order.

    Example:
        [-1, 1, Expand, [2]]
    """

    def __init__(self, gain=2):
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        s = self.gain
        x = x.view(b, s, s, c // s**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(b, c // s**2, h * s, w * s)


@BLOCKS.register()
class ADD(nn.Module):
    """The first of two maps plus alpha times the second.

    Two of (B, c, H, W) -> (B, c, H, W).

    Args:
        alpha: factor of the second map.

    Source:
        YOLOv5-Lite (its published model files).

    Example:
        [[-1, -2], 1, ADD, [1]]
    """

    def __init__(self, alpha=1.0):
        super().__init__()
        self.alpha = alpha

    def forward(self, maps: list[Tensor]) -> Tensor:
        if not isinstance(maps, (list, tuple)) or len(maps) != 2:
            raise ValueError("adds two maps: its 'from' is a list of two rows")
        first, second = maps
        if first.shape[1:] != second.shape[1:]:  # broadcasting would hide a wrong row
            raise ValueError(f"maps differ: {tuple(first.shape[1:])} and {tuple(second.shape[1:])}")
        return first + (second if self.alpha == 1 else self.alpha * second)


@BLOCKS.register()
class Shortcut(ADD):
    """The sum of two maps.

    Two of (B, c, H, W) -> (B, c, H, W).

    Args:
        dimension: accepted as published, without effect.

    Source:
        Wang et al., YOLOv7, 2022 (name in its published model files).

    Example:
        [[-1, -2], 1, Shortcut, []]
    """

    def __init__(self, dimension=0):
        super().__init__()


@BLOCKS.register(takes_lists=True)
class Index(nn.Module):
    """One of the maps that a whole backbone returns.

    List of (B, c_i, H_i, W_i) -> the map at `index`.

    Args:
        index: position in the list, counted from 0; negative values count from the end.

    Source:
        This project; picks a map from a backbone row, as feature indices of timm backbones do.

    Example:
        [-1, 1, Index, [0]]
    """

    def __init__(self, index=0):
        super().__init__()
        if isinstance(index, bool) or not isinstance(index, int):
            raise ValueError(f"index must be a whole number, got {index!r}")
        self.index = index

    def forward(self, maps: list[Tensor]) -> Tensor:
        if not isinstance(maps, (list, tuple)):
            raise ValueError("Index reads a row that gives a list of maps; this one gives a single map")
        if not -len(maps) <= self.index < len(maps):
            raise ValueError(f"index {self.index} of {len(maps)} maps; expected 0 to {len(maps) - 1}")
        return maps[self.index]
