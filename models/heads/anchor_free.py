"""Decoupled heads without anchors: AnchorFreeDetect, and OneToOneDetect, whose output needs no suppression."""

import torch
from graftdet.models.blocks.conv import Conv, DWConv
from graftdet.models.heads import HEADS
from graftdet.models.heads.argument_checks import check_whole
from graftdet.models.heads.peak_suppression import dampen_neighbours
from graftdet.models.heads.point_head import PointHead
from graftdet.models.losses.anchor_free import DenseCriterion, TwoBranchCriterion
from graftdet.models.losses.task_aligned import TaskAlignedAssigner
from graftdet.utils.errors import UserError
from torch import nn


class Branches(nn.Module):
    """A box and a class branch for each level (Ge et al., YOLOX, 2021, section 2.1: decoupled head).

    Two 3x3 convolutions and a 1x1 for the sides; for the classes the 3x3 are depth-wise, each with a 1x1 behind it, as
    they are for the sides too where `light` is set.
    """

    def __init__(self, ch, nc, bins, light, width):
        super().__init__()
        if not isinstance(light, bool):
            raise UserError(f"light, depth-wise convolutions for the sides too, must be True or False, got {light!r}")
        if width is not None:
            check_whole(width, "width, that of the branch for the sides,", 1)
        box_width, class_width = width or max(ch[0] // 4, 4 * bins), ch[0]
        self.box = nn.ModuleList(_branch(c, box_width, 4 * bins, light) for c in ch)
        self.cls = nn.ModuleList(_branch(c, class_width, nc, True) for c in ch)

    def forward(self, maps):
        """Maps (B, c, H, W) -> a list of (B, 4 * bins + nc, H, W)."""
        return [torch.cat((box(x), cls(x)), 1) for box, cls, x in zip(self.box, self.cls, maps, strict=True)]


def _branch(c1, width, outputs, light):
    if light:
        convs = [DWConv(c1, c1, 3), Conv(c1, width, 1), DWConv(width, width, 3), Conv(width, width, 1)]
    else:
        convs = [Conv(c1, width, 3), Conv(width, width, 3)]
    return nn.Sequential(*convs, nn.Conv2d(width, outputs, 1))


@HEADS.register("AnchorFreeDetect", "DDetect")
class AnchorFreeDetect(PointHead):
    """Decoupled branches, distances as distributions (Li et al., Generalized Focal Loss, 2020), task-aligned assignment
    (Feng et al., TOOD, 2021).

    Args:
        nc: number of classes.
        bins: distances that a side is told by; a box reaches at most bins - 1 strides from a cell's centre.
        light: depth-wise convolutions for the sides too.
        width: of the branch for the sides; without it the outputs', 4 * bins, or a quarter of the first level's where
            that is more. The branch for the classes has the first level's.
        ch: input widths, one a level.
    """

    def __init__(self, nc=80, bins=16, light=False, width=None, ch=()):
        super().__init__(nc, bins)
        self.branches = Branches(ch, nc, bins, light, width)

    def forward(self, maps):
        """Maps (B, c, H, W), one a level, to raw outputs (B, 4 * bins + nc, H, W)."""
        return self.branches(maps)

    def output_biases(self):
        return _biases(self.branches)

    def criterion(self, hyperparameters, image_size: int = 640):
        """Task-aligned losses; gains are `af_box`, `af_cls` and `af_dfl`."""
        return _criterion(self, hyperparameters, top=10)


@HEADS.register("OneToOneDetect", "v10Detect")
class OneToOneDetect(PointHead):
    """Gives each object one box, so that its output needs no suppression: the branches of `AnchorFreeDetect`, trained with
    many points an object, and a second branch for the classes, trained with one (Wang et al., YOLOv10, 2024, section
    3.1, who double the branch for the sides as well).

    Beyond that paper the cells of the second branch compete: a score that a neighbour exceeds is lowered
    (`dampen_neighbours`), in training too, so that one cell of an object stands out without the others having to unlearn
    the object. In eval mode it is the mean of both branches' logits whose cells compete: the first knows better what an
    object is, the second which cell is to say so.

    The second branch learns from what passes no gradient back, so all else learns from one-to-many alone. In eval mode
    the output is one-to-one unless `branch` is set to "one_to_many", for which `fuse()` drops the second branch.
    """

    branch_names = ("one_to_one", "one_to_many")

    def __init__(self, nc=80, bins=16, light=False, width=None, ch=()):
        super().__init__(nc, bins)
        self.one_to_many = Branches(ch, nc, bins, light, width)
        self.one_to_one = nn.ModuleList(_branch(c, ch[0], nc, True) for c in ch)
        self.branch = "one_to_one"

    @property
    def needs_nms(self) -> bool:
        return self.branch != "one_to_one"

    def forward(self, maps):
        """Maps (B, c, H, W), one a level, to a dict of raw outputs: of both kinds in train mode, else of `branch`."""
        raw = {"one_to_many": self.one_to_many(maps)}
        if self.training or self.branch == "one_to_one":
            second = [cls(x.detach()) for cls, x in zip(self.one_to_one, maps, strict=True)]
            raw["one_to_one"] = [
                self._with_classes(y.detach(), z) for y, z in zip(raw["one_to_many"], second, strict=True)
            ]
        return raw if self.training else {self.branch: raw[self.branch]}

    def _with_classes(self, raw, second):
        """One-to-many output (B, 4 * bins + nc, H, W) with the second class logits (B, nc, H, W), in eval mode with the
        mean of both."""
        sides, first = raw.split([4 * self.bins, self.nc], 1)
        return torch.cat((sides, second if self.training else (first + second) / 2), 1)

    def decode(self, raw):
        return super().decode(self._in_use(raw, torch.float32))

    def decode_rows(self, raw):
        return super().decode_rows(self._in_use(raw))

    def _in_use(self, raw, dtype=None):
        """The maps of the branch in use, or of the only one there is."""
        name = self.branch if self.branch in raw else next(iter(raw))
        maps = [y.to(dtype) for y in raw[name]]
        return self._compete(maps) if name == "one_to_one" else maps

    def _compete(self, maps):
        return dampen_neighbours(maps, 4 * self.bins, self.strides)

    def output_biases(self):
        first = _biases(self.one_to_many)
        return first + [(sides, cls[-1].bias) for (sides, _), cls in zip(first, self.one_to_one, strict=True)]

    def fuse(self) -> None:
        """Drop what does not run in eval mode."""
        if self.branch == "one_to_many":
            self.one_to_one = None

    def criterion(self, hyperparameters, image_size: int = 640):
        """One-to-many losses, and the class loss of one-to-one; one metric assigns for both, so that the point that is
        best for one is so for the other."""
        many, one = _criterion(self, hyperparameters, top=10), _criterion(self, hyperparameters, top=1, only=("cls",))
        return TwoBranchCriterion(many, one, self._compete)


def _biases(branches: Branches):
    return [(box[-1].bias, cls[-1].bias) for box, cls in zip(branches.box, branches.cls, strict=True)]


def _criterion(head: PointHead, hyperparameters, top: int, only=("box", "cls", "dfl")):
    h = hyperparameters
    gains = {name: getattr(h, f"af_{name}") for name in only}
    return DenseCriterion(
        head.nc, head.bins, head.strides, TaskAlignedAssigner(top), h.af_cls_loss, h.af_iou_loss, gains
    )
