"""Composite backbones: a second backbone reads, at every stage, maps of all later stages of the first one."""

import torch.nn.functional as F
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.conv import same_padding
from graftdet.utils.text import counted


@BLOCKS.register(rule="plain")
class Silence(nn.Identity):
    """The input as it is; as row 0 it gives the image an index that later rows can read.

    (B, c, H, W) -> (B, c, H, W).

    Source:
        Wang et al., YOLOv9, 2024 (its published model files).

    Example:
        [-1, 1, Silence, []]
    """

    def __init__(self):
        super().__init__()


@BLOCKS.register(widths_out="c2s")
class CBLinear(nn.Module):
    """One convolution, without batch norm and activation, whose output is split into a list of maps.

    (B, c1, H, W) -> list of maps (B, c2s[i], H/s, W/s), which `CBFuse` adds to another backbone.

    Args:
        c1: input channels.
        c2s: list of output channels, one per map.
        k: kernel size.
        s: stride.
        p: padding; None keeps the size at stride 1.
        g: groups of the convolution.

    Source:
        Liang et al., CBNetV2, 2021, section 3.2 (dense higher-level composition); form of YOLOv9 (Wang et al., 2024).

    Example:
        [-1, 1, CBLinear, [[32, 64]]]
    """

    def __init__(self, c1, c2s, k=1, s=1, p=None, g=1):
        super().__init__()
        if not isinstance(c2s, (list, tuple)):
            raise ValueError(f"c2s must be a list of output widths such as [[32, 64]], got {c2s!r}")
        self.c2s = list(c2s)
        self.conv = nn.Conv2d(c1, sum(c2s), k, s, same_padding(k, p), groups=g)

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.conv(x).split(self.c2s, 1))


@BLOCKS.register(rule="plain", joins_lists=True)
class CBFuse(nn.Module):
    """One map of each list, resized to the last source by nearest neighbors, added to it.

    Sources that give several maps each, or one, and as the last one a map (B, c, H, W) -> (B, c, H, W).

    Args:
        idx: list with the position of the map in each source but the last.

    Source:
        Liang et al., CBNetV2, 2021, section 3.2 (dense higher-level composition); form of YOLOv9 (Wang et al., 2024).

    Example:
        [[-1, -2], 1, CBFuse, [[0]]]
    """

    def __init__(self, idx):
        super().__init__()
        whole = isinstance(idx, (list, tuple)) and all(type(index) is int for index in idx)
        if not whole or not idx:
            raise ValueError(f"idx must be a list of positions such as [[0, 0]], got {idx!r}")
        self.idx = list(idx)

    def forward(self, sources: list) -> Tensor:
        *lists, last = sources if isinstance(sources, (list, tuple)) else [sources]
        if not isinstance(last, Tensor):
            raise ValueError(
                "the last source gives a list of maps; expected the single map that the others are added to"
            )
        if len(lists) != len(self.idx):
            raise ValueError(
                f"idx has {counted(len(self.idx), 'position')}, expected one for each other source ({len(lists)})"
            )
        maps = [self._pick(number, maps, last) for number, maps in enumerate(lists)]
        total = last
        for x in maps:
            total = total + F.interpolate(x, last.shape[2:], mode="nearest")
        return total

    def _pick(self, number: int, maps, last: Tensor) -> Tensor:
        """The map of source `number` that is added, of the width of the last one."""
        maps, index = [maps] if isinstance(maps, Tensor) else maps, self.idx[number]
        widths = [one.shape[1] for one in maps]
        if not -len(maps) <= index < len(maps):
            given = f"it gives {counted(len(maps), 'map')} of {widths} channels, expected 0 to {len(maps) - 1}"
            raise ValueError(f"position {index} of source {number}: {given}")
        if widths[index] != last.shape[1]:
            other = f"the last source has {last.shape[1]}"
            raise ValueError(f"map {index} of source {number} has {widths[index]} channels (of {widths}), but {other}")
        return maps[index]
