"""DetectX, the decoupled head of YOLOX."""

from typing import Any

import torch
from torch import nn

from graftdet.models.blocks.conv import Conv
from graftdet.models.blocks.yolox import YOLOXDepthwiseConv
from graftdet.models.heads import HEADS
from graftdet.models.heads.base import Head, prior_bias
from graftdet.models.heads.exported_rows import cells_of_rows
from graftdet.models.heads.row_arguments import check_integer
from graftdet.models.losses.points import flatten_levels
from graftdet.models.losses.yolox import YOLOXCriterion
from graftdet.utils.boxes import cxcywh_to_xyxy
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters


@HEADS.register("DetectX", "YOLOXHead")
class DetectX(Head):
    """Decoupled anchor-free head of YOLOX: box, objectness and classes of one box per cell.

    Per level a 1x1 convolution to the width of the branches, two 3x3 convolutions for the classes and two for box and
    objectness. Raw outputs are a list of (B, 5 + nc, H, W): x, y from the corner of the cell in strides, logarithms of
    w, h in strides, objectness, classes. Names of the weights are the published ones.

    Args:
        nc: number of classes.
        anchors: accepted, as rows of YOLOv5's form have them, and ignored.
        depthwise: depthwise separable convolutions in the branches (YOLOX-Nano).
        width: of the branches; None: the first level's, which in published models is int(256 * width multiple).
        ch: input widths, one per level.

    Source:
        Ge et al., YOLOX, 2021, section 2.1.

    Example:
        [[17, 20, 23], 1, DetectX, [nc]]
    """

    def __init__(self, nc=80, anchors=(), depthwise=False, width=None, ch=()):
        super().__init__(nc)
        if not isinstance(depthwise, bool):
            raise UserError(
                f"depthwise, depthwise convolutions in the branches, must be True or False, got {depthwise!r}"
            )
        if width is not None:
            check_integer(width, "width, that of the branches,", 1)
        c = width or ch[0]
        conv = YOLOXDepthwiseConv if depthwise else Conv
        self.stems = nn.ModuleList(Conv(c1, c) for c1 in ch)
        self.cls_convs, self.reg_convs = (
            nn.ModuleList(nn.Sequential(conv(c, c, 3), conv(c, c, 3)) for _ in ch) for _ in range(2)
        )
        self.cls_preds, self.reg_preds, self.obj_preds = (
            nn.ModuleList(nn.Conv2d(c, outputs, 1) for _ in ch) for outputs in (nc, 4, 1)
        )

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, c, H, W), one per level, to raw outputs (B, 5 + nc, H, W): x, y, w, h, objectness, classes."""
        return [self._level(level, x) for level, x in enumerate(maps)]

    def _level(self, level: int, x):
        x = self.stems[level](x)
        boxes, classes = self.reg_convs[level](x), self.cls_convs[level](x)
        return torch.cat(
            (self.reg_preds[level](boxes), self.obj_preds[level](boxes), self.cls_preds[level](classes)), 1
        )

    def decode_rows(self, raw: list[torch.Tensor]) -> torch.Tensor:
        """Raw outputs to (B, N, 5 + nc): cx, cy, w, h in pixels, objectness and class probabilities."""
        boxes, classes = flatten_levels(raw, 5)
        points, strides = cells_of_rows([(y.shape[2], y.shape[3]) for y in raw], self.strides, boxes)
        xy, wh = boxes[..., :2] * strides + (points - 0.5 * strides), boxes[..., 2:4].exp() * strides
        return torch.cat((xy, wh, boxes[..., 4:].sigmoid(), classes.sigmoid()), -1)

    def raw_format(self) -> dict[str, Any]:
        """Offsets from the corner of the cell."""
        return {"decoder": "corner-offsets"}

    def decode(self, raw: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw outputs to boxes (B, N, 4) xyxy pixels and scores (B, N, nc), objectness times class."""
        rows = self.decode_rows([y.float() for y in raw])
        return cxcywh_to_xyxy(rows[..., :4]), rows[..., 4:5] * rows[..., 5:]

    def output_biases(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per level the biases (1,) of objectness and (nc,) of the classes."""
        return [(one.bias, classes.bias) for one, classes in zip(self.obj_preds, self.cls_preds, strict=True)]

    def class_layers(self) -> dict[str, int]:
        """The last convolutions of the class branches."""
        return {f"cls_preds.{level}": 0 for level in range(len(self.cls_preds))}

    def set_strides(self, strides: list[float]) -> None:
        """Set the strides and initialize the biases: few objects, rare classes."""
        super().set_strides(strides)
        with torch.no_grad():
            for bias in (bias for pair in self.output_biases() for bias in pair):
                bias.fill_(prior_bias())

    def criterion(self, hyperparameters: Hyperparameters, image_size: int = 640) -> Any:
        """IoU, objectness and class losses with the published weights 5, 1 and 1, assigned by SimOTA."""
        return YOLOXCriterion(self.nc, self.strides)
