"""The heads of YOLOv7: IDetect, Detect with learned offsets and factors, and IAuxDetect with auxiliary levels."""

import torch
from torch import nn

from graftdet.models.heads import HEADS
from graftdet.models.heads.anchor_based import Detect
from graftdet.models.losses.anchor_based import AnchorBasedCriterion, AuxiliaryLevelsCriterion
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters
from graftdet.utils.text import counted


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

    def export_maps(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, A (5 + nc), H, W) before the sigmoid, as those of `Detect`."""
        if self.ia is None:
            return super().export_maps(maps[: len(self.m)])
        raw = self(maps)[: len(self.m)]
        return [y.permute(0, 1, 4, 2, 3).flatten(1, 2) for y in raw]

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


@HEADS.register()
class IAuxDetect(IDetect):
    """IDetect with auxiliary levels, which are trained beside the main levels and dropped afterwards.

    Reads the main levels, then as many auxiliary ones of the same sizes. Raw outputs are those of the main levels,
    in train mode followed by those of the auxiliary ones. In eval mode and in exported files, rows that only the
    auxiliary levels read do not run.

    Args:
        nc: number of classes.
        anchors: as in `Detect`, for the main levels; the auxiliary ones have the same.
        ch: input widths, of the main levels, then of the auxiliary ones.

    Source:
        Wang et al., YOLOv7, 2022, section 4.2, figure 5; head of YOLOv7-W6, E6, D6 and E6E.

    Example:
        [[17, 20, 23, 24, 25, 26], 1, IAuxDetect, [nc, anchors]]
    """

    has_auxiliary_levels = True

    def __init__(self, nc=80, anchors=(), ch=()):
        count = len(ch) // 2
        if len(ch) % 2:
            raise UserError(f"reads {counted(len(ch), 'map')}; expected the main levels, then as many auxiliary ones")
        if isinstance(anchors, (list, tuple)) and anchors and len(anchors) != count:
            need = f"they need {2 * len(anchors)} maps, the main levels, then as many auxiliary ones"
            raise UserError(f"anchors for {counted(len(anchors), 'level')}: {need}, but 'from' names {len(ch)}")
        super().__init__(nc, anchors, ch[:count])
        self.m2 = nn.ModuleList(nn.Conv2d(width, self.num_anchors * (nc + 5), 1) for width in ch[count:])

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, c, H, W) of the main, then the auxiliary levels to raw outputs (B, A, H, W, 5 + nc); in eval mode of
        the main levels alone, which are sufficient then.
        """
        count = len(self.m)
        raw = super().forward(maps[:count])
        if self.training and self.m2 is not None:
            raw += [self._raw_outputs(conv, x) for conv, x in zip(self.m2, maps[count:], strict=True)]
        return raw

    def decode_rows(self, raw: list[torch.Tensor]) -> torch.Tensor:
        """Raw outputs to (B, N, 5 + nc), of the main levels."""
        return super().decode_rows(raw[: len(self.m)])

    def export_outputs(self, maps: list[torch.Tensor], as_matmul: bool = False) -> torch.Tensor:
        """Rows (B, N, 5 + nc) of the main levels."""
        return super().export_outputs(maps[: len(self.m)], as_matmul)

    def distillation_maps(self, raw: list[torch.Tensor]) -> list[torch.Tensor]:
        """The raw outputs of the main levels."""
        return raw[: len(self.m)]

    def output_biases(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Biases as in `Detect`, per main level, then per auxiliary level."""
        biases = [conv.bias.view(self.num_anchors, -1) for conv in self.m2 or ()]
        return super().output_biases() + [(bias[:, :5], bias[:, 5:]) for bias in biases]

    def class_layers(self) -> dict[str, int]:
        """The convolutions of all levels and the factors of the outputs of the main ones."""
        return super().class_layers() | {f"m2.{level}": 5 for level in range(len(self.m2 or ()))}

    def fuse(self) -> None:
        """Merge the offsets and factors into the convolutions and drop the auxiliary ones, in place."""
        super().fuse()
        self.m2 = None

    def criterion(self, hyperparameters: Hyperparameters, image_size: int = 640) -> AuxiliaryLevelsCriterion:
        """The loss of `Detect` on the main levels, and with the weight 0.25 on the auxiliary ones."""
        main, auxiliary = (
            AnchorBasedCriterion.from_hyperparameters(self.nc, self.anchors, hyperparameters, image_size, reach)
            for reach in (0.5, 1.0)
        )
        return AuxiliaryLevelsCriterion(main, auxiliary)
