"""Blocks without weights: joining maps, moving places into channels and back."""

import torch
from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE_INT
from graftdet.utils.errors import UserError
from torch import nn


def channel_shuffle(x, groups: int):
    """Deal the channels of `groups` groups out in turn (Zhang et al., ShuffleNet, 2017): (B, c, H, W) -> the same."""
    b, c, h, w = x.shape
    return x.reshape(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


def along_channels(dimension) -> int:
    """The dimension along which maps are joined; raises `UserError` for any but that of the channels."""
    if dimension not in (1, -3) or isinstance(dimension, bool):
        raise UserError(f"joins maps along their channels: expected [1], got {dimension!r}")
    return dimension


@BLOCKS.register()
class Concat(nn.Module):
    """Join a list of maps along `dimension` (1: channels); all other sizes must agree."""

    def __init__(self, dimension=1):
        super().__init__()
        self.d = along_channels(dimension)

    def forward(self, maps):
        return torch.cat(maps, self.d)


@BLOCKS.register(arguments={"gain": POSITIVE_INT})
class Contract(nn.Module):
    """Places into channels: (B, c, H, W) -> (B, c gain^2, H/gain, W/gain)."""

    def __init__(self, gain=2):
        super().__init__()
        self.gain = gain

    def forward(self, x):
        b, c, h, w = x.shape
        s = self.gain
        x = x.view(b, c, h // s, s, w // s, s).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(b, c * s * s, h // s, w // s)


@BLOCKS.register("space_to_depth", "SPD", "ReOrg")
class SpaceToDepth(nn.Module):
    """Places into channels by two, in place of a stride (Sunkara and Luo, No More Strided Convolutions or Pooling, 2022).

    (B, c, H, W) -> (B, 4 c, H/2, W/2); the quarters stand one after the other, the place below second. H and W
    must be even. `dimension` is 1, and only in the row for the sake of those that write it.
    """

    def __init__(self, dimension=1):
        super().__init__()
        if dimension != 1:
            raise ValueError(f"dimension must be 1, the channels, got {dimension}")

    def forward(self, x):
        return torch.cat([x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)], 1)


@BLOCKS.register(arguments={"gain": POSITIVE_INT})
class Expand(nn.Module):
    """Channels into places: (B, c, H, W) -> (B, c / gain^2, H gain, W gain)."""

    def __init__(self, gain=2):
        super().__init__()
        self.gain = gain

    def forward(self, x):
        b, c, h, w = x.shape
        s = self.gain
        x = x.view(b, s, s, c // s**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(b, c // s**2, h * s, w * s)


@BLOCKS.register()
class ADD(nn.Module):
    """The first of two maps plus `alpha` times the second, both (B, c, H, W), as published with YOLOv5-Lite."""

    def __init__(self, alpha=1.0):
        super().__init__()
        self.alpha = alpha

    def forward(self, maps):
        if not isinstance(maps, (list, tuple)) or len(maps) != 2:
            raise ValueError("adds two maps: its 'from' is a list of two rows")
        first, second = maps
        if first.shape[1:] != second.shape[1:]:  # broadcasting would hide a wrong row
            raise ValueError(f"maps differ: {tuple(first.shape[1:])} and {tuple(second.shape[1:])}")
        return first + (second if self.alpha == 1 else self.alpha * second)


@BLOCKS.register()
class Shortcut(ADD):
    """The sum of two maps, both (B, c, H, W), as published with YOLOv7, whose `dimension` changes nothing."""

    def __init__(self, dimension=0):
        super().__init__()


@BLOCKS.register(takes_lists=True)
class Index(nn.Module):
    """One of the maps that a whole backbone gives: list of (B, c, H, W) -> the one at `index`, counted from 0."""

    def __init__(self, index=0):
        super().__init__()
        if isinstance(index, bool) or not isinstance(index, int):
            raise ValueError(f"index must be a whole number, got {index!r}")
        self.index = index

    def forward(self, maps):
        if not isinstance(maps, (list, tuple)):
            raise ValueError("Index reads a row that gives a list of maps; this one gives a single map")
        if not -len(maps) <= self.index < len(maps):
            raise ValueError(f"index {self.index} of {len(maps)} maps; expected 0 to {len(maps) - 1}")
        return maps[self.index]
