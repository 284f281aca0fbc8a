"""PicoHead, the head of PicoDet."""

import torch
from torch import nn

from graftdet.models.blocks.esnet import DPConv
from graftdet.models.heads import HEADS
from graftdet.models.heads.anchor_free_base import ARGUMENT_ALIASES, AnchorFreeHead
from graftdet.models.heads.row_arguments import check_integer
from graftdet.models.losses.anchor_free import AnchorFreeCriterion
from graftdet.models.losses.assigners.simota import SimOTAAssigner
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters


@HEADS.register(argument_aliases=ARGUMENT_ALIASES)
class PicoHead(AnchorFreeHead):
    """Stacked depthwise separable convolutions for classes and boxes together, then one 1x1 convolution per level.

    Args:
        nc: number of classes.
        stacked: number of convolutions before the last.
        reg_max: number of distribution bins per distance.
        k: kernel size.
        ch: input widths, one per level.

    Source:
        Yu et al., PP-PicoDet, 2021, sections 3.2 and 3.3.

    Example:
        [[17, 20, 23], 1, PicoHead, [nc]]
    """

    def __init__(self, nc=80, stacked=2, reg_max=8, k=5, ch=()):
        super().__init__(nc, reg_max)
        check_integer(stacked, "stacked, the number of convolutions before the last,", 0, high=100)
        check_integer(k, "k, the kernel size,", 1)
        if k % 2 == 0:
            raise UserError(f"k, the kernel size, must be odd, got {k}")
        self.convs = nn.ModuleList(nn.Sequential(*(DPConv(c, c, k) for _ in range(stacked))) for c in ch)
        self.outputs = nn.ModuleList(nn.Conv2d(c, 4 * reg_max + nc, 1) for c in ch)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, c, H, W), one per level, to raw outputs (B, 4 * reg_max + nc, H, W)."""
        return [last(convs(x)) for convs, last, x in zip(self.convs, self.outputs, maps, strict=True)]

    def output_biases(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per level the biases (4 * reg_max,) of the distances and (nc,) of the classes, as views."""
        return [(last.bias[: 4 * self.reg_max], last.bias[4 * self.reg_max :]) for last in self.outputs]

    def class_layers(self) -> dict[str, int]:
        """The last convolutions, whose outputs are the distances, then the classes."""
        return {f"outputs.{level}": 4 * self.reg_max for level in range(len(self.outputs))}

    def criterion(self, hyperparameters: Hyperparameters, image_size: int = 640) -> AnchorFreeCriterion:
        """Varifocal, GIoU and distribution focal losses with the weights 1, 2 and 0.25, assigned by SimOTA."""
        return AnchorFreeCriterion(
            self.nc,
            self.reg_max,
            self.strides,
            SimOTAAssigner(),
            class_loss="varifocal",
            iou_loss="giou",
            gains={"cls": 1.0, "box": 2.0, "dfl": 0.25},
            weight_by="score",
        )
