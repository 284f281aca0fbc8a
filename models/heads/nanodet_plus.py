"""NanoDetPlusHead, the head of NanoDet-Plus."""

from graftdet.models.heads import HEADS
from graftdet.models.heads.anchor_free_base import ARGUMENT_ALIASES
from graftdet.models.heads.picodet import PicoHead
from graftdet.models.losses.anchor_free import AnchorFreeCriterion
from graftdet.models.losses.assigners.soft_label import SoftLabelAssigner
from graftdet.utils.hyperparameters import Hyperparameters


@HEADS.register(argument_aliases=ARGUMENT_ALIASES)
class NanoDetPlusHead(PicoHead):
    """`PicoHead` whose distances are from the upper left corner of a cell, trained with dynamic soft labels.

    Args:
        nc: number of classes.
        stacked: number of convolutions before the last.
        reg_max: number of distribution bins per distance.
        k: kernel size.
        ch: input widths, one per level.

    Source:
        RangiLyu, NanoDet-Plus, 2021 (its published code), with the losses of Li et al., Generalized Focal Loss, 2020.
        The branch that guides the assignment in training there does not exist here: predictions guide it themselves.

    Example:
        [[17, 20, 23], 1, NanoDetPlusHead, [nc]]
    """

    point_offset = 0.0

    def criterion(self, hyperparameters: Hyperparameters, image_size: int = 640) -> AnchorFreeCriterion:
        """Quality focal, GIoU and distribution focal losses with the weights 1, 2 and 0.25, dynamic soft labels."""
        return AnchorFreeCriterion(
            self.nc,
            self.reg_max,
            self.strides,
            SoftLabelAssigner(),
            class_loss="quality_focal",
            iou_loss="giou",
            gains={"cls": 1.0, "box": 2.0, "dfl": 0.25},
            weight_by="score",
            point_offset=self.point_offset,
        )
