"""The head of PicoDet."""

from graftdet.models.blocks.esnet import DPConv
from graftdet.models.heads import HEADS
from graftdet.models.heads.argument_checks import check_whole
from graftdet.models.heads.point_head import PointHead
from graftdet.models.losses.anchor_free import DenseCriterion
from graftdet.models.losses.simota import SimOTAAssigner
from graftdet.utils.errors import UserError
from torch import nn


@HEADS.register()
class PicoHead(PointHead):
    """Stacked 5x5 depth-wise separable convolutions that classes and sides share, then one 1x1 convolution a level
    (Yu et al., PP-PicoDet, 2021, sections 3.2 and 3.3).

    Args:
        nc: number of classes.
        stacked: convolutions before the last.
        bins: distances that a side is told by.
        k: kernel size.
        ch: input widths, one a level.
    """

    def __init__(self, nc=80, stacked=2, bins=8, k=5, ch=()):
        super().__init__(nc, bins)
        check_whole(stacked, "stacked, the number of convolutions before the last,", 0, most=100)
        check_whole(k, "k, the kernel size,", 1)
        if k % 2 == 0:
            raise UserError(f"k, the kernel size, must be odd, got {k}")
        self.box_outputs = ("outputs.", 4 * bins)
        self.convs = nn.ModuleList(nn.Sequential(*(DPConv(c, c, k) for _ in range(stacked))) for c in ch)
        self.outputs = nn.ModuleList(nn.Conv2d(c, 4 * bins + nc, 1) for c in ch)

    def forward(self, maps):
        """Maps (B, c, H, W), one a level, to raw outputs (B, 4 * bins + nc, H, W)."""
        return [last(convs(x)) for convs, last, x in zip(self.convs, self.outputs, maps, strict=True)]

    def output_biases(self):
        return [(last.bias[: 4 * self.bins], last.bias[4 * self.bins :]) for last in self.outputs]

    def criterion(self, hyperparameters, image_size: int = 640):
        """Varifocal, GIoU and distribution losses with the weights 1, 2 and 0.25, assigned by SimOTA."""
        gains = {"cls": 1.0, "box": 2.0, "dfl": 0.25}
        return DenseCriterion(self.nc, self.bins, self.strides, SimOTAAssigner(), "varifocal", "giou", gains, "score")
