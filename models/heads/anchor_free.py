"""AnchorFreeDetect: an anchor-free head with decoupled branches, and the parts that it shares with OneToOneDetect."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from graftdet.models.blocks.conv import Conv, DWConv
from graftdet.models.heads import HEADS
from graftdet.models.heads.anchor_free_base import ARGUMENT_ALIASES, INITIAL_DISTANCE, AnchorFreeHead
from graftdet.models.heads.row_arguments import check_integer
from graftdet.models.losses.anchor_free import AnchorFreeCriterion
from graftdet.models.losses.assigners.task_aligned import TaskAlignedAssigner
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters


class Branches(nn.Module):
    """A box and a class branch per level (Ge et al., YOLOX, 2021, section 2.1: decoupled head).

    Two 3x3 convolutions, then a 1x1 convolution. In a light branch each 3x3 convolution is depthwise and followed by a
    1x1 convolution.

    Args:
        ch: input widths, one per level.
        nc: number of classes.
        reg_max: number of distribution bins per distance; 1: the box branch gives the distances.
        light: a light box branch.
        width: of the box branch; None: the larger of 4 * reg_max and a quarter of the first level's width.
        class_light: a light class branch.
        class_width: of the class branch; None: the first level's width.
        box_groups: groups of the second and the last convolution of a box branch that is not light.
    """

    def __init__(self, ch, nc, reg_max, light, width, class_light=True, class_width=None, box_groups=1):
        super().__init__()
        for value, name in ((light, "light"), (class_light, "class_light")):
            if not isinstance(value, bool):
                raise UserError(f"{name}, depthwise convolutions in the branch, must be True or False, got {value!r}")
        for value, name in ((width, "width, that of the box branch,"), (class_width, "class_width")):
            if value is not None:
                check_integer(value, name, 1)
        self.gives_distances = reg_max == 1
        box_width = width or max(ch[0] // 4, 4 * reg_max)
        check_integer(box_groups, "box_groups, the groups of the box branch,", 1)
        if box_width % box_groups or 4 * reg_max % box_groups or (light and box_groups > 1):
            raise UserError(
                f"box_groups: {box_groups} groups need a width of the box branch ({box_width}) and distances "
                f"({4 * reg_max}) that they divide, and no light box branch"
            )
        self.box = nn.ModuleList(make_branch(c, box_width, 4 * reg_max, light, box_groups) for c in ch)
        self.cls = nn.ModuleList(make_branch(c, class_width or ch[0], nc, class_light) for c in ch)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, c, H, W) -> a list of (B, 4 * reg_max + nc, H, W)."""
        boxes = [box(x) for box, x in zip(self.box, maps, strict=True)]
        if self.gives_distances:
            boxes = [F.softplus(y) for y in boxes]
        return [torch.cat((y, cls(x)), 1) for y, cls, x in zip(boxes, self.cls, maps, strict=True)]

    def initialize_distances(self) -> None:
        """Set the biases of distances without distributions to those of new boxes."""
        if self.gives_distances:
            for distances, _ in self.output_biases():
                distances.data.fill_(math.log(math.expm1(INITIAL_DISTANCE)))

    def output_biases(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per level the biases (4 * reg_max,) of the distances and (nc,) of the classes."""
        return [(box[-1].bias, cls[-1].bias) for box, cls in zip(self.box, self.cls, strict=True)]

    def class_layers(self) -> dict[str, int]:
        """The last convolution of each class branch."""
        return final_class_layers("cls", self.cls)


def final_class_layers(prefix: str, branches: nn.ModuleList) -> dict[str, int]:
    """`Head.class_layers` of class branches, one per level, without other outputs."""
    return {f"{prefix}.{level}.{len(list(branch.children())) - 1}": 0 for level, branch in enumerate(branches)}


def make_branch(c1: int, width: int, outputs: int, light: bool, groups: int = 1) -> nn.Sequential:
    """A branch of one level, from maps (B, c1, H, W) to (B, outputs, H, W); see `Branches`."""
    if light:
        convs = [DWConv(c1, c1, 3), Conv(c1, width, 1), DWConv(width, width, 3), Conv(width, width, 1)]
    else:
        convs = [Conv(c1, width, 3), Conv(width, width, 3, g=groups)]
    return nn.Sequential(*convs, nn.Conv2d(width, outputs, 1, groups=groups))


@HEADS.register("AnchorFreeDetect", "DDetect", argument_aliases=ARGUMENT_ALIASES)
class AnchorFreeDetect(AnchorFreeHead):
    """Anchor-free head with decoupled branches, distances as distributions and task-aligned assignment.

    Args:
        nc: number of classes.
        reg_max: number of distribution bins per distance; a box reaches at most reg_max - 1 strides from the center of
            a cell. 1: the softplus of one output per distance, without distributions and limits.
        light: depthwise convolutions in the box branch, too.
        width: of the box branch; None: the larger of 4 * reg_max and a quarter of the first level's width.
        class_light: depthwise convolutions in the class branch; False is the form of YOLOv8.
        class_width: of the class branch; None: the first level's width.
        box_groups: groups of the second and the last convolution of a box branch that is not light; 4 is the form of
            YOLOv9, one group per distance.
        ch: input widths, one per level.

    Source:
        Ge et al., YOLOX, 2021, section 2.1 (decoupled head); Li et al., Generalized Focal Loss, 2020 (distributions);
        Feng et al., TOOD, 2021 (assignment).

    Example:
        [[17, 20, 23], 1, AnchorFreeDetect, [nc]]
    """

    min_reg_max = 1

    def __init__(
        self, nc=80, reg_max=16, light=False, width=None, class_light=True, class_width=None, box_groups=1, ch=()
    ):
        super().__init__(nc, reg_max)
        self.branches = Branches(ch, nc, reg_max, light, width, class_light, class_width, box_groups)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, c, H, W), one per level, to raw outputs (B, 4 * reg_max + nc, H, W)."""
        return self.branches(maps)

    def output_biases(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per level the biases (4 * reg_max,) of the distances and (nc,) of the classes."""
        return self.branches.output_biases()

    def set_strides(self, strides: list[float]) -> None:
        """Set the strides and initialize the biases."""
        super().set_strides(strides)
        self.branches.initialize_distances()

    def class_layers(self) -> dict[str, int]:
        """The last convolution of each class branch."""
        return {f"branches.{name}": others for name, others in self.branches.class_layers().items()}

    def criterion(self, hyperparameters: Hyperparameters, image_size: int = 640) -> AnchorFreeCriterion:
        """Task-aligned losses; gains are `af_box`, `af_cls` and `af_dfl`."""
        return task_aligned_criterion(self, hyperparameters, topk=10)


def task_aligned_criterion(
    head: AnchorFreeHead, hyperparameters: Hyperparameters, topk: int, class_only: bool = False
) -> AnchorFreeCriterion:
    """The losses of a head's branch, with the gains of the recipe.

    Args:
        head: the head.
        hyperparameters: the training recipe.
        topk: largest number of points per box, see `TaskAlignedAssigner`.
        class_only: without losses of the boxes.
    """
    h = hyperparameters
    gains = {"cls": h.af_cls} if class_only else {"box": h.af_box, "cls": h.af_cls}
    if head.reg_max and not class_only:
        gains["dfl"] = h.af_dfl
    return AnchorFreeCriterion(
        head.nc,
        head.reg_max,
        head.strides,
        TaskAlignedAssigner(topk),
        class_loss=h.af_cls_loss,
        iou_loss=h.af_iou_loss,
        gains=gains,
    )
