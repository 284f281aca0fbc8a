"""RTMDetHead, the head of RTMDet."""

import torch
from torch import nn

from graftdet.models.blocks.conv import Conv
from graftdet.models.heads import HEADS
from graftdet.models.heads.anchor_free_base import AnchorFreeHead
from graftdet.models.heads.row_arguments import check_integer
from graftdet.models.losses.anchor_free import AnchorFreeCriterion
from graftdet.models.losses.assigners.soft_label import SoftLabelAssigner
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters


@HEADS.register("RTMDetHead", "RTMDetSepBNHead")
class RTMDetHead(AnchorFreeHead):
    """Decoupled branches whose convolutions levels of one width share, with batch norms of their own per level.

    Predicts the ltrb distances themselves, in strides from the upper left corner of a cell. Raw outputs are a list of
    (B, 4 + nc, H, W), one per level. Names of the weights are the published ones.

    Args:
        nc: number of classes.
        stacked: number of 3x3 convolutions per branch.
        exp: distances are exponentials of the outputs, as in the published sizes m, l and x.
        ch: input widths, one per level.

    Source:
        Lyu et al., RTMDet, 2022, sections 3.2 and 3.3; `RTMDetSepBNHead` of its published code.

    Example:
        [[17, 20, 23], 1, RTMDetHead, [nc]]
    """

    point_offset = 0.0
    has_distributions = False

    def __init__(self, nc=80, stacked=2, exp=False, ch=()):
        super().__init__(nc, None)
        check_integer(stacked, "stacked, the number of 3x3 convolutions per branch,", 0, high=100)
        if not isinstance(exp, bool):
            raise UserError(f"exp, whether distances are exponentials, must be True or False, got {exp!r}")
        self.exp = exp
        self.cls_convs, self.reg_convs = (_shared_branches(ch, stacked) for _ in range(2))
        self.rtm_cls, self.rtm_reg = (nn.ModuleList(nn.Conv2d(c, outputs, 1) for c in ch) for outputs in (nc, 4))

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, c, H, W), one per level, to raw outputs (B, 4 + nc, H, W)."""
        return [self._level(level, x) for level, x in enumerate(maps)]

    def _level(self, level: int, x):
        distances = self.rtm_reg[level](self.reg_convs[level](x))
        classes = self.rtm_cls[level](self.cls_convs[level](x))
        return torch.cat((distances.exp() if self.exp else distances, classes), 1)

    def set_strides(self, strides: list[float]) -> None:
        """Set the strides and initialize the biases."""
        super().set_strides(strides)
        if self.exp:
            with torch.no_grad():
                for distances, _ in self.output_biases():
                    distances.log_()

    def output_biases(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per level the biases (4,) of the distances and (nc,) of the classes."""
        return [(box.bias, cls.bias) for box, cls in zip(self.rtm_reg, self.rtm_cls, strict=True)]

    def class_layers(self) -> dict[str, int]:
        """The last convolutions of the class branches."""
        return {f"rtm_cls.{level}": 0 for level in range(len(self.rtm_cls))}

    def criterion(self, hyperparameters: Hyperparameters, image_size: int = 640) -> AnchorFreeCriterion:
        """Quality focal and GIoU losses with the weights 1 and 2, dynamic soft labels."""
        return AnchorFreeCriterion(
            self.nc,
            None,
            self.strides,
            SoftLabelAssigner(center_radius=3.0),
            class_loss="quality_focal",
            iou_loss="giou",
            gains={"cls": 1.0, "box": 2.0},
            point_offset=self.point_offset,
        )


def _shared_branches(ch, stacked: int) -> nn.ModuleList:
    """One branch per level; the convolutions are those of the first level of its width."""
    branches = nn.ModuleList(nn.Sequential(*(Conv(c, c, 3) for _ in range(stacked))) for c in ch)
    for c, branch in zip(ch, branches, strict=True):
        for own, first in zip(branch, branches[ch.index(c)], strict=True):
            own.conv = first.conv
    return branches
