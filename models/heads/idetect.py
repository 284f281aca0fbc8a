"""IDetect, the head of YOLOv7: Detect with learnt offsets and factors."""

import torch
from graftdet.models.heads import HEADS
from graftdet.models.heads.anchor_based import Detect
from torch import nn


class Implicit(nn.Module):
    """A number for each channel, whatever the picture: `implicit` (1, c, 1, 1)."""

    def __init__(self, c, mean):
        super().__init__()
        self.implicit = nn.Parameter(torch.normal(mean, 0.02, (1, c, 1, 1)))


@HEADS.register()
class IDetect(Detect):
    """Detect with implicit knowledge (Wang et al., You Only Learn One Representation, 2021, section 4): what each level reads is
    shifted by `ia`, what it gives multiplied by `im`, channel by channel. `fuse()` puts both into the convolutions."""

    def __init__(self, nc=80, anchors=(), ch=()):
        super().__init__(nc, anchors, ch)
        self.ia = nn.ModuleList(Implicit(width, 0.0) for width in ch)
        self.im = nn.ModuleList(Implicit(conv.out_channels, 1.0) for conv in self.m)

    def forward(self, maps):
        """Maps (B, c, H, W), one a level, to raw outputs (B, A, H, W, 5 + nc): x, y, w, h, objectness, classes."""
        if self.ia is None:
            return super().forward(maps)
        raw = super().forward([x + shift.implicit for x, shift in zip(maps, self.ia, strict=True)])
        factors = (factor.implicit.view(1, self.num_anchors, 1, 1, -1) for factor in self.im)
        return [y * factor for y, factor in zip(raw, factors, strict=True)]

    @torch.no_grad()
    def fuse(self) -> None:
        """Put the offsets and factors into the convolutions."""
        if self.ia is None:
            return
        for conv, shift, factor in zip(self.m, self.ia, self.im, strict=True):
            conv.bias += conv.weight.flatten(1) @ shift.implicit.flatten()
            conv.bias *= factor.implicit.flatten()
            conv.weight *= factor.implicit.view(-1, 1, 1, 1)
        self.ia = self.im = None
