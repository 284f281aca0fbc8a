"""IDetect, the head of YOLOv7: Detect with learned offsets and factors."""

import torch
from torch import nn

from graftdet.models.heads import HEADS
from graftdet.models.heads.anchor_based import Detect


class Implicit(nn.Module):
    """A learned value per channel, independent of the image: `implicit` (1, c, 1, 1)."""

    def __init__(self, c: int, mean: float):
        super().__init__()
        self.implicit = nn.Parameter(torch.normal(mean, 0.02, (1, c, 1, 1)))


@HEADS.register()
class IDetect(Detect):
    """Detect with implicit knowledge: learned offsets and factors per channel.

    The input of each level is shifted by `ia` and its output multiplied by `im`, channel by channel. `fuse()` merges
    both into the convolutions.

    Args:
        nc: number of classes.
        anchors: as in `Detect`.
        ch: input widths, one per level.

    Source:
        Wang et al., You Only Learn One Representation (YOLOR), 2021, section 4; head of YOLOv7.

    Example:
        [[17, 20, 23], 1, IDetect, [nc, anchors]]
    """

    def __init__(self, nc=80, anchors=(), ch=()):
        super().__init__(nc, anchors, ch)
        self.ia = nn.ModuleList(Implicit(width, 0.0) for width in ch)
        self.im = nn.ModuleList(Implicit(conv.out_channels, 1.0) for conv in self.m)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, c, H, W), one per level, to raw outputs (B, A, H, W, 5 + nc): x, y, w, h, objectness, classes."""
        if self.ia is None:
            return super().forward(maps)
        raw = super().forward([x + shift.implicit for x, shift in zip(maps, self.ia, strict=True)])
        factors = (factor.implicit.view(1, self.num_anchors, 1, 1, -1) for factor in self.im)
        return [y * factor for y, factor in zip(raw, factors, strict=True)]

    def export_outputs(self, maps: list[torch.Tensor], as_matmul: bool = False) -> torch.Tensor:
        """Rows (B, N, 5 + nc); matrix products are available once the head is fused."""
        return super().export_outputs(maps, as_matmul and self.ia is None)

    def class_layers(self) -> dict[str, int]:
        """The convolutions and the factors of their outputs."""
        return super().class_layers() | {f"im.{level}": 5 for level in range(len(self.m))}

    @torch.no_grad()
    def fuse(self) -> None:
        """Merge the offsets and factors into the convolutions, in place."""
        if self.ia is None:
            return
        for conv, shift, factor in zip(self.m, self.ia, self.im, strict=True):
            conv.bias += conv.weight.flatten(1) @ shift.implicit.flatten()
            conv.bias *= factor.implicit.flatten()
            conv.weight *= factor.implicit.view(-1, 1, 1, 1)
        self.ia = self.im = None
