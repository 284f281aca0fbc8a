"""PicoHeadV2, the task-aligned head of PicoDet since PaddleDetection 2.4."""

import torch
from torch import Tensor, nn

from graftdet.models.blocks.conv import Conv
from graftdet.models.blocks.esnet import DPConv
from graftdet.models.heads import HEADS
from graftdet.models.heads.anchor_free_base import ARGUMENT_ALIASES, AnchorFreeHead
from graftdet.models.heads.base import prior_bias
from graftdet.models.heads.row_arguments import check_integer
from graftdet.models.losses.anchor_free import AnchorFreeCriterion
from graftdet.models.losses.assigners.task_aligned import TaskAlignedAssigner
from graftdet.utils.hyperparameters import Hyperparameters

SWISH = "nn.Hardswish()"
LEAST = 1e-6  # smallest probability that has a logit here, and largest distance to 1
ALIGNMENT_PRIOR = 0.05  # initial probability of the alignment: with 0.01 the first epochs learn slowly


class _Gate(nn.Module):
    """Channel attention by one 1x1 convolution of the mean, then a 1x1 convolution: (B, c, H, W) -> the same."""

    def __init__(self, c):
        super().__init__()
        self.fc = nn.Conv2d(c, c, 1)
        self.conv = Conv(c, c, act=SWISH)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x * self.fc(x.mean((2, 3), keepdim=True)).sigmoid())


@HEADS.register(argument_aliases=ARGUMENT_ALIASES)
class PicoHeadV2(AnchorFreeHead):
    """Stacked depthwise separable convolutions, channel attention, and classes aligned by a second prediction.

    The score of a class is the geometric mean of its probability and of one probability per cell that the stacked
    convolutions predict before the attention. Raw class outputs are the logits of that mean, so that they read as those
    of other heads.

    Args:
        nc: number of classes.
        stacked: number of convolutions before the attention.
        reg_max: number of distribution bins per distance.
        ch: input widths, one per level.

    Source:
        Yu et al., PP-PicoDet, 2021, and the alignment of Feng et al., TOOD, 2021, section 3.2, in the form that
        PaddleDetection 2.4 published. There the first 100 epochs assign by ATSS; here all by the task-aligned assigner.

    Example:
        [[17, 20, 23], 1, PicoHeadV2, [nc]]
    """

    def __init__(self, nc=80, stacked=2, reg_max=8, ch=()):
        super().__init__(nc, reg_max)
        check_integer(stacked, "stacked, the number of convolutions before the attention,", 0, high=100)
        self.convs = nn.ModuleList(nn.Sequential(*(DPConv(c, c, 5, act=SWISH) for _ in range(stacked))) for c in ch)
        self.se = nn.ModuleList(_Gate(c) for c in ch)
        self.head_cls_list = nn.ModuleList(nn.Conv2d(c, nc, 1) for c in ch)
        self.head_reg_list = nn.ModuleList(nn.Conv2d(c, 4 * reg_max, 1) for c in ch)
        self.cls_align = nn.ModuleList(
            nn.Sequential(Conv(c, 1, 5, act=SWISH), Conv(1, 1, act=False)) for c in ch
        )  # to one channel, so that nothing is depthwise

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps (B, c, H, W), one per level, to raw outputs (B, 4 * reg_max + nc, H, W)."""
        return [self._level(level, x) for level, x in enumerate(maps)]

    def _level(self, level: int, x: Tensor) -> Tensor:
        x = self.convs[level](x)
        attended = self.se[level](x)
        classes = _mean_logit(self.head_cls_list[level](attended), self.cls_align[level](x))
        return torch.cat((self.head_reg_list[level](attended), classes), 1)

    def set_strides(self, strides: list[float]) -> None:
        """Set the strides and initialize the biases, also those of the alignment."""
        super().set_strides(strides)
        for level in range(len(self.cls_align)):
            nn.init.constant_(self.get_parameter(f"cls_align.{level}.1.bn.bias"), prior_bias(ALIGNMENT_PRIOR))

    def output_biases(self) -> list[tuple[Tensor, Tensor]]:
        """Per level the biases (4 * reg_max,) of the distances and (nc,) of the classes."""
        return [(box.bias, cls.bias) for box, cls in zip(self.head_reg_list, self.head_cls_list, strict=True)]

    def class_layers(self) -> dict[str, int]:
        """The convolutions of the classes."""
        return {f"head_cls_list.{level}": 0 for level in range(len(self.head_cls_list))}

    def criterion(self, hyperparameters: Hyperparameters, image_size: int = 640) -> AnchorFreeCriterion:
        """Varifocal, GIoU and distribution focal losses weighted 1, 2.5 and 0.5, by the task-aligned assigner."""
        return AnchorFreeCriterion(
            self.nc,
            self.reg_max,
            self.strides,
            TaskAlignedAssigner(topk=13, alpha=1.0, beta=6.0),
            class_loss="varifocal",
            iou_loss="giou",
            gains={"cls": 1.0, "box": 2.5, "dfl": 0.5},
        )


def _mean_logit(a: Tensor, b: Tensor) -> Tensor:
    """The logit of the geometric mean of the probabilities whose logits are `a` and `b`."""
    if torch.jit.is_tracing():  # OpenCV 5 cannot multiply maps of one and of several channels
        b = nn.functional.conv2d(b, b.new_ones(int(a.shape[1]), 1, 1, 1))
    p = (a.float().sigmoid() * b.float().sigmoid()).sqrt().clamp(LEAST, 1 - LEAST)
    return p.log() - (1 - p).log()
