"""OneToOneDetect: an anchor-free head whose output needs no NMS."""

from typing import Any

import torch
from torch import nn

from graftdet.models.heads import HEADS
from graftdet.models.heads.anchor_free import Branches, final_class_layers, make_branch, task_aligned_criterion
from graftdet.models.heads.anchor_free_base import ARGUMENT_ALIASES, AnchorFreeHead
from graftdet.models.heads.base import prior_bias
from graftdet.models.heads.local_maximum import suppress_non_maxima
from graftdet.models.losses.anchor_free import AnchorFreeCriterion, TwoBranchCriterion
from graftdet.models.losses.assigners.task_aligned import TaskAlignedAssigner
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters


@HEADS.register("OneToOneDetect", "v10Detect", argument_aliases=ARGUMENT_ALIASES)
class OneToOneDetect(AnchorFreeHead):
    """Predicts one box per object, so that its output needs no NMS.

    The branches of `AnchorFreeDetect` are trained one-to-many, with many positives per object, and a second class
    branch one-to-one, with a single positive per object.

    Beyond the paper, the one-to-one logits are suppressed wherever they are no local maximum (`suppress_non_maxima`),
    in training, too, so that one cell per object stands out although its neighbors recognize the object as well. In
    eval mode they are the suppressed mean of both branches' logits: the first branch classifies better, the second
    one selects the cell.

    The input of the second branch is detached, so everything else is trained by one-to-many alone; without `detach`
    the second branch trains the box branch and the rows before the head, too. In eval mode the
    output is one-to-one unless `branch` is set to "one_to_many", for which `fuse()` drops the second branch.

    Args:
        nc: number of classes.
        reg_max: number of distribution bins per distance, as in `AnchorFreeDetect`.
        light: depthwise convolutions in the box branch, too.
        width: of the box branch, as in `AnchorFreeDetect`.
        detach: the second branch trains itself alone.
        foreground: a third branch, a 1x1 convolution per level for objects of any class, whose loss trains the rows
            before the head; it runs in train mode only.
        ch: input widths, one per level.

    Source:
        Wang et al., YOLOv10, 2024, section 3.1. The paper doubles the box branch as well and suppresses nothing.

    Example:
        [[17, 20, 23], 1, OneToOneDetect, [nc]]
    """

    distillation_branch = "one_to_many"
    min_reg_max = 1

    def __init__(self, nc=80, reg_max=16, light=False, width=None, detach=True, foreground=False, ch=()):
        super().__init__(nc, reg_max)
        for value, name in ((detach, "detach"), (foreground, "foreground")):
            if not isinstance(value, bool):
                raise UserError(f"{name} must be True or False, got {value!r}")
        self.detach = detach
        self.one_to_many = Branches(ch, nc, reg_max, light, width)
        self.one_to_one = nn.ModuleList(make_branch(c, ch[0], nc, True) for c in ch)
        self.foreground = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in ch) if foreground else None
        self.branch = "one_to_one"

    @property
    def branch_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The branches that can give the boxes."""
        return ("one_to_many",) if self.one_to_one is None else ("one_to_one", "one_to_many")

    @property
    def needs_nms(self) -> bool:  # type: ignore[override]
        """False for the one-to-one branch."""
        return self.branch != "one_to_one"

    def forward(self, maps: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        """Maps (B, c, H, W), one per level, to raw outputs by branch: of both in train mode, else of `branch`."""
        raw = {"one_to_many": self.one_to_many(maps)}
        if self.training or self.branch == "one_to_one":
            first, inputs = ([self._cut(y) for y in one] for one in (raw["one_to_many"], maps))
            second = [cls(x) for cls, x in zip(self.one_to_one, inputs, strict=True)]
            raw["one_to_one"] = [self._with_classes(y, z) for y, z in zip(first, second, strict=True)]
        if self.training and self.foreground is not None:
            objects = [conv(x) for conv, x in zip(self.foreground, maps, strict=True)]
            raw["foreground"] = [
                torch.cat((y[:, : self.box_channels].detach(), z), 1)
                for y, z in zip(raw["one_to_many"], objects, strict=True)
            ]
        return raw if self.training else {self.branch: raw[self.branch]}

    def _cut(self, x):
        """Without gradient, if the second branch is to train itself alone."""
        return x.detach() if self.detach else x

    def _with_classes(self, raw, second):
        """One-to-many output (B, 4 * reg_max + nc, H, W) with the class logits of the second branch (B, nc, H, W); in
        eval mode with the mean of both.
        """
        distances, first = raw.split([self.box_channels, self.nc], 1)
        return torch.cat((distances, second if self.training else (first + second) / 2), 1)

    def decode(self, raw: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw outputs, or one-to-many maps alone, to boxes (B, N, 4) xyxy pixels and scores (B, N, nc)."""
        return super().decode(self._maps_of_branch(raw, torch.float32))

    def decode_rows(self, raw: Any) -> torch.Tensor:
        """Raw outputs to (B, N, 5 + nc): cx, cy, w, h in pixels, objectness and classes as in `with_objectness`."""
        return super().decode_rows(self._maps_of_branch(raw))

    def export_maps(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, 4 * reg_max + nc, H, W) of the branch in use; logits of one-to-one are suppressed already."""
        return self._maps_of_branch(self(maps))

    def _maps_of_branch(self, raw, dtype=None):
        """The maps of the branch in use, or of the only one there is."""
        if isinstance(raw, list):
            return [y.to(dtype) for y in raw]
        name = self.branch if self.branch in raw else next(iter(raw))
        maps = [y.to(dtype) for y in raw[name]]
        return self._suppress(maps) if name == "one_to_one" else maps

    def _suppress(self, maps):
        return suppress_non_maxima(maps, self.box_channels, self.strides)

    def distillation_maps(self, raw: Any) -> list[torch.Tensor]:
        """The one-to-many maps: those of a single positive per object carry no information on all other cells."""
        return raw["one_to_many"]

    def output_biases(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Biases of the distances and classes, per level of the first branch, then per level of the second."""
        first = self.one_to_many.output_biases()
        second = self.one_to_one or []
        return first + [(distances, cls[-1].bias) for (distances, _), cls in zip(first, second, strict=False)]

    def set_strides(self, strides: list[float]) -> None:
        """Set the strides and initialize the biases."""
        super().set_strides(strides)
        self.one_to_many.initialize_distances()
        for conv in self.foreground or ():
            conv.bias.data.fill_(prior_bias())

    def class_layers(self) -> dict[str, int]:
        """The last convolution of each class branch, of both branches."""
        layers = {f"one_to_many.{name}": others for name, others in self.one_to_many.class_layers().items()}
        return layers | final_class_layers("one_to_one", self.one_to_one or nn.ModuleList())

    def fuse(self) -> None:
        """Drop the foreground branch, and the one-to-one branch where it does not run in eval mode."""
        self.foreground = None
        if self.branch == "one_to_many":
            self.one_to_one = None

    def criterion(self, hyperparameters: Hyperparameters, image_size: int = 640) -> TwoBranchCriterion:
        """The losses of one-to-many, and the class loss of one-to-one; without `detach` its box losses, too.

        Both are assigned by the same metric, so that the best point of one is the best of the other.
        """
        one_to_many = task_aligned_criterion(self, hyperparameters, topk=10)
        one_to_one = task_aligned_criterion(self, hyperparameters, topk=1, class_only=self.detach)
        foreground = None
        if self.foreground is not None:
            foreground = AnchorFreeCriterion(
                1, self.reg_max, self.strides, TaskAlignedAssigner(), gains={"cls": hyperparameters.af_foreground}
            )
        return TwoBranchCriterion(one_to_many, one_to_one, self._suppress, foreground, hyperparameters.o2o_shift)
