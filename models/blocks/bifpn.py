"""Joins with one learned weight per map (Tan et al., EfficientDet, 2020, section 3.3), in the forms of YOLOv5."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.ops import along_channels
from graftdet.utils.text import counted


class _WeightedMaps(nn.Module):
    """Base of joins with `count` weights, initially one: relu(w) / (sum of relu(w) + 0.0001)."""

    count: int

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(self.count))

    def weighted(self, maps: list[Tensor]) -> list[Tensor]:
        """The maps, each times its weight."""
        if not isinstance(maps, (list, tuple)) or len(maps) != self.count:
            raise ValueError(
                f"joins {counted(self.count, 'map')}: its 'from' is a list of {counted(self.count, 'row')}"
            )
        w = F.relu(self.w)
        w = w / (w.sum() + 1e-4)
        return [w[i].to(x.dtype) * x for i, x in enumerate(maps)]


@BLOCKS.register()
class BiFPN_Concat2(_WeightedMaps):
    """Two maps, each times a learned weight, concatenated along their channels.

    Two of (B, c_i, H, W) -> (B, sum of c_i, H, W). The weights are relu(w) / (sum of relu(w) + 0.0001), initially
    equal.

    Args:
        dimension: 1, the channels; the only accepted value.

    Source:
        Tan et al., EfficientDet, 2020, section 3.3 (fast normalized fusion). The paper adds the maps.

    Example:
        [[-1, -2], 1, BiFPN_Concat2, [1]]
    """

    count = 2

    def __init__(self, dimension=1):
        super().__init__()
        self.d = along_channels(dimension)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return torch.cat(self.weighted(maps), self.d)


@BLOCKS.register()
class BiFPN_Concat3(BiFPN_Concat2):
    """Three maps, each times a learned weight, concatenated along their channels.

    Three of (B, c_i, H, W) -> (B, sum of c_i, H, W). Weights as in BiFPN_Concat2.

    Args:
        dimension: 1, the channels; the only accepted value.

    Source:
        Tan et al., EfficientDet, 2020, section 3.3 (fast normalized fusion). The paper adds the maps.

    Example:
        [[-1, -2, -3], 1, BiFPN_Concat3, [1]]
    """

    count = 3


@BLOCKS.register(rule="plain")
class BiFPN_Add2(_WeightedMaps):
    """Two maps, each times a learned weight, added; SiLU and a 1x1 convolution.

    Two of (B, c1, H, W) -> (B, c2, H, W). The row gives both widths as they are in the model; the width multiple does
    not apply.

    Args:
        c1: channels of the inputs, given in the row.
        c2: output channels.

    Source:
        Tan et al., EfficientDet, 2020, section 3.3 (fast normalized fusion). The paper has a 3x3 depthwise separable
        convolution.

    Example:
        [[-1, -2], 1, BiFPN_Add2, [64, 64]]
    """

    count = 2

    def __init__(self, c1, c2):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        if isinstance(maps, (list, tuple)) and any(x.shape[1:] != maps[0].shape[1:] for x in maps):
            shapes = ", ".join(str(tuple(x.shape[1:])) for x in maps)  # broadcasting would hide a wrong row
            raise ValueError(f"maps differ: {shapes}")
        if isinstance(maps, (list, tuple)) and maps[0].shape[1] != self.conv.in_channels:
            width, given = maps[0].shape[1], f"[{self.conv.in_channels}, {self.conv.out_channels}]"
            raise ValueError(f"its args are {given}, but the maps have {width} channels: write [{width}, {width}]")
        return self.conv(F.silu(sum(self.weighted(maps))))


@BLOCKS.register(rule="plain")
class BiFPN_Add3(BiFPN_Add2):
    """Three maps, each times a learned weight, added; SiLU and a 1x1 convolution.

    Three of (B, c1, H, W) -> (B, c2, H, W). Widths as in BiFPN_Add2.

    Args:
        c1: channels of the inputs, given in the row.
        c2: output channels.

    Source:
        Tan et al., EfficientDet, 2020, section 3.3 (fast normalized fusion). The paper has a 3x3 depthwise separable
        convolution.

    Example:
        [[-1, -2, -3], 1, BiFPN_Add3, [64, 64]]
    """

    count = 3
