"""Decoupled heads without anchors: AnchorFreeDetect, and OneToOneDetect, whose output needs no suppression."""

import torch
from torch import nn

from utils.errors import UserError

from ..blocks.base import Conv, DWConv
from ..losses.dense import DenseCriterion, TwoBranchCriterion
from ..losses.task_aligned import TaskAlignedAssigner
from . import HEADS
from .checks import check_whole
from .peaks import dampen_neighbours
from .points import PointHead


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


@HEADS.register()
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
        """Task-aligned losses; gains are `free_box`, `free_cls` and `free_dfl`."""
        return _criterion(self, hyperparameters, top=10)


@HEADS.register()
class OneToOneDetect(PointHead):
    """Gives each object one box, so that its output needs no suppression: the branches of `AnchorFreeDetect` twice, one
    trained with one point an object beside one trained with many (Wang et al., YOLOv10, 2024, section 3.1). Beyond that
    paper the cells of the one-to-one branch compete: a score that a neighbour exceeds is lowered (`dampen_neighbours`),
    in training too, so that one cell of an object stands out without the others having to unlearn the object.

    In eval mode only the one-to-one branches run, unless `branch` is set to "one_to_many". They learn from maps that
    pass no gradient back, so the rows before the head learn from the one-to-many branches alone. `fuse()` drops the
    branches that are not in use.
    """

    branch_names = ("one_to_one", "one_to_many")

    def __init__(self, nc=80, bins=16, light=False, width=None, ch=()):
        super().__init__(nc, bins)
        self.one_to_many = Branches(ch, nc, bins, light, width)
        self.one_to_one = Branches(ch, nc, bins, light, width)
        self.branch = "one_to_one"

    @property
    def needs_nms(self) -> bool:
        return self.branch != "one_to_one"

    def forward(self, maps):
        """Maps (B, c, H, W), one a level, to a dict of raw outputs: of both branches in train mode, else of one."""
        if not self.training:
            return {self.branch: getattr(self, self.branch)(maps)}
        return {"one_to_many": self.one_to_many(maps), "one_to_one": self.one_to_one([x.detach() for x in maps])}

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
        return _biases(self.one_to_many) + _biases(self.one_to_one)

    def fuse(self) -> None:
        """Drop the branches that do not run in eval mode."""
        for name in self.branch_names:
            if name != self.branch:
                setattr(self, name, None)

    def criterion(self, hyperparameters, image_size: int = 640):
        """Both branches' losses; one metric assigns for both, so that the point that is best for one is so for the other."""
        many, one = (_criterion(self, hyperparameters, top) for top in (10, 1))
        return TwoBranchCriterion(many, one, self._compete)


def _biases(branches: Branches):
    return [(box[-1].bias, cls[-1].bias) for box, cls in zip(branches.box, branches.cls, strict=True)]


def _criterion(head: PointHead, hyperparameters, top: int):
    h = hyperparameters
    gains = {"box": h.free_box, "cls": h.free_cls, "dfl": h.free_dfl}
    return DenseCriterion(head.nc, head.bins, head.strides, TaskAlignedAssigner(top), h.free_class, h.free_overlap, gains)
